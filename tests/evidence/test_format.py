"""Files say their format, and nothing in them is called after a class: code moves, files stay readable."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import tightverify as tv
from tests.helpers.evidence_runs import RUNS, Kept, network
from tightverify import linear_map, ops
from tightverify.branch import node, saved
from tightverify.errors import InputError, UsageError
from tightverify.evidence import FORMAT, KINDS, Question, digest, fingerprint, read_evidence
from tightverify.graph import Affine, Apply, Graph, Input, Operand, Quadratic, Term
from tightverify.recording.question import mark_of, question
from tightverify.relax.quadratic import Forms
from tightverify.spec import Property, classify_as

DOUBLE = torch.float64


QUICK, RECURRENT = ("mlp", 0, 0.8), ("gru", 1, 0.5)
"""A network, one of its inputs, and a radius at which that takes a search."""


def run(tmp_path: Path, evidence: str, splits: int = 2, asked: tuple[str, int, float] = QUICK) -> None:
    """A search tree, in `trees`, and its evidence."""
    name, which, eps = asked
    model, x = network(name)
    tv.certify(
        model,
        x[which : which + 1],
        None,
        tv.LinfBall(eps),
        method="complete",
        rounds=1,
        splits=splits,
        restarts=0,
        trees=tmp_path / "trees",
        evidence=tmp_path / evidence,
    )


def rewritten(path: Path, **changed: int | None) -> None:
    """The file with other numbers in some of its arrays, and without those that are None."""
    kept = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(kept, "w") as into:
        for name in source.namelist():
            number = changed.get(name.removesuffix(".npy"), -1)
            if number == -1:
                into.writestr(name, source.read(name))
            elif number is not None:
                with into.open(name, "w") as member:
                    np.lib.format.write_array(member, np.array(number))
    path.write_bytes(kept.getvalue())


def arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def test_evidence_of_another_format_is_refused(tmp_path: Path) -> None:
    run(tmp_path, "one", 1)
    one, part = tmp_path / "one" / "0.npz", tmp_path / "trees" / "0-evidence" / "0.npz"
    rewritten(one, format=FORMAT + 1)
    with pytest.raises(InputError, match=f"is evidence of format {FORMAT + 1}; wanted format {FORMAT}, that of this version"):
        read_evidence(one)
    rewritten(one, format=None)  # the first format's files had no number
    with pytest.raises(InputError, match=f"is evidence of format 1; wanted format {FORMAT}"):
        read_evidence(one)
    rewritten(part, format=None)
    with pytest.raises(UsageError, match=rf"0\.npz is evidence of format 1, of another version; wanted format {FORMAT}"):
        run(tmp_path, "two")


def test_trees_of_another_format_are_refused(tmp_path: Path) -> None:
    run(tmp_path, "one", 1)
    tree = tmp_path / "trees" / "0.npz"
    as_it_was = tree.read_bytes()
    for number, said in ((saved.FORMAT + 1, saved.FORMAT + 1), (None, 2)):
        rewritten(tree, format=number)
        with pytest.raises(UsageError, match=rf"0\.npz is a search tree of format {said}, .*wanted format {saved.FORMAT}: "):
            run(tmp_path, "two")
    tree.write_bytes(as_it_was)
    run(tmp_path, "two")


FIELDS = {
    "Question": "input model fingerprint method norm radius centre lower upper generators slack groups vectors most rows "
    "offsets needed output shape nodes",
    "BoundingPass": "bounding_pass stage parent node neuron value above",
    "Resumed": "bounding_pass whole",
    "Bounded": "bounding_pass node lower upper",
    "Pairs": "bounding_pass node lower upper",
    "Polygon": "bounding_pass node neurons vertices holds",
    "BackSubstitution": "bounding_pass about node places weights mixed start operations steps taken multiplied multipliers "
    "bound proved",
    "Margins": "stage margins",
    "Branch": "number parent bounding_pass closed margins",
    "Empty": "bounding_pass node lower upper",
    "Program": "bounding_pass node row members columns cost data indices indptr row_lower row_upper lower upper origins held "
    "dual bound breaks limit",
    "CutoffTightening": "limit variables above ends places dual",
    "Leaves": "lower upper places dual bounds infeasible",
    "Points": "bounding_pass numbers proved",
    "Ending": "verdict stage margin margins point",
}
"""Format 7. Whoever changes these raises `FORMAT`, and changes docs/evidence.md."""


def test_the_format_is_what_its_number_stands_for() -> None:
    assert FORMAT == 7
    assert {name: [field.name for field in fields(kind)] for name, kind in KINDS.items()} == {
        name: names.split() for name, names in FIELDS.items()
    }
    assert {op.name for op in ops.OPS} == {
        *("sigmoid", "tanh", "leaky_relu", "clamp", "square", "log", "square_root", "reciprocal", "sum_of_squares"),
        *("nonzero", "floor", "truncation", "ramp"),
        *("step", "exp", "softplus", "elu", "erf", "softsign", "gelu", "gelu_by_tanh", "silu", "mish", "hard_swish", "power"),
        *("gelu_difference", "power_difference"),
        *("multiply", "sigmoid_tanh", "sigmoid_times", "tanh_times", "maximum", "gru_update"),
        *("sigmoid_difference", "tanh_difference", "leaky_relu_difference", "clamp_difference", "ramp_difference"),
        *("hard_sigmoid", "hard_sigmoid_difference", "weighted_mean", "table", "sigmoid_less_table", "tanh_less_table"),
    }
    maps = (linear_map.Identity, linear_map.Diagonal, linear_map.Dense, linear_map.Convolution)
    assert [kind.name for kind in maps] == ["identity", "diagonal", "dense", "convolution"]


def test_a_tree_s_format_is_what_its_number_stands_for(tmp_path: Path) -> None:
    run(tmp_path, "one", 1)
    assert saved.FORMAT == 3
    names = "floor closed evidence bounding_passes numbers margins lower upper format fingerprint branches"
    assert set(arrays(tmp_path / "trees" / "0.npz")) == set(names.split())
    assert [field.name for field in fields(node.Branch)] == ["number", "parent", "split", "margins", "closed"]
    assert [field.name for field in fields(node.Split)] == ["node", "neuron", "value", "above"]


def classes() -> Iterator[type]:
    """All that what is written down is made of."""
    yield from KINDS.values()
    yield from {type(op) for op in ops.OPS}
    yield from (linear_map.Identity, linear_map.Diagonal, linear_map.Dense, linear_map.Convolution)
    yield from (Input, Affine, Apply, Quadratic, Operand, Term, Graph, Property, Forms, node.Branch, node.Split)
    yield type(tv.LinfBall(1.0).around(torch.zeros((1, 2), dtype=DOUBLE)))
    yield type(tv.LinfBall(1.0))


@contextmanager
def renamed() -> Iterator[None]:
    """All of these under other names, in another module."""
    names = [(kind, kind.__name__, kind.__module__) for kind in classes()]
    try:
        for kind, name, _ in names:
            kind.__name__, kind.__module__ = f"Former{name}", "elsewhere"
        yield
    finally:
        for kind, name, module in names:
            kind.__name__, kind.__module__ = name, module


def test_files_are_the_same_whatever_classes_are_called(tmp_path: Path) -> None:
    run(tmp_path / "before", "evidence", asked=RECURRENT)
    with renamed():
        run(tmp_path / "after", "evidence", asked=RECURRENT)
    for place in (Path("evidence", "0.npz"), Path("trees", "0.npz")):
        before, after = (arrays(tmp_path / when / place) for when in ("before", "after"))
        assert before.keys() == after.keys()
        assert all(before[name].tobytes() == after[name].tobytes() for name in before), place
    assert isinstance(read_evidence(tmp_path / "before" / "evidence" / "0.npz")[0], Question)
    run(tmp_path / "before", "more", 4, RECURRENT)  # its tree is gone on with


def small() -> tuple[Graph, Question]:
    graph = network("gru")[0].graph
    return graph, asked_of(graph)


def asked_of(graph: Graph) -> Question:
    x = torch.zeros((1, *graph.input_shape), dtype=DOUBLE)
    return question(
        0, "a model", "linear", graph, tv.LinfBall(0.1).around(x), classify_as(torch.tensor([0]), graph.output_size)
    )


def nudged(values: torch.Tensor) -> torch.Tensor:
    """The same numbers, the last one by one bit."""
    changed = values.clone()
    changed.view(-1)[-1] = torch.nextafter(changed.view(-1)[-1], torch.tensor(torch.inf, dtype=DOUBLE))
    return changed


AFFINE: dict[str, Callable[[Affine], Affine]] = {
    "a weight": lambda n: replace(n, terms=(replace(n.terms[0], map=n.terms[0].map.of_weights(nudged)), *n.terms[1:])),
    "a bias": lambda n: replace(n, bias=nudged(n.bias)),
    "a bias's size": lambda n: replace(n, bias_size=nudged(n.bias_size)),
    "an operand": lambda n: replace(n, terms=(replace(n.terms[0], operand=Operand(n.terms[0].operand.source, slice(0, 1))),)),
}


@pytest.mark.parametrize("what", AFFINE)
def test_one_bit_of_a_network_makes_another_question(what: str) -> None:
    graph, asked = small()
    place = next(k for k, one in enumerate(graph.nodes) if isinstance(one, Affine) and len(one.terms[0].map.weights))
    changed = AFFINE[what](graph.nodes[place])  # type: ignore[arg-type]
    other = asked_of(replace(graph, nodes=(*graph.nodes[:place], changed, *graph.nodes[place + 1 :])))
    assert other.fingerprint != asked.fingerprint
    assert asked_of(graph).fingerprint == asked.fingerprint


def test_parameters_of_operations_count() -> None:
    zero = torch.zeros(2, dtype=DOUBLE)
    inner = Affine((Term(Operand(0), linear_map.Identity(2)),), zero, zero)
    marks = [
        asked_of(Graph((Input(0, 2), inner, Apply(op, (Operand(1),), 2)), 2, (2,))).fingerprint
        for op in (ops.LeakyRelu(0.0), ops.LeakyRelu(0.1), ops.Clamp(0.0, 1.0), ops.Clamp(0.0, torch.inf), ops.Square())
    ]
    assert len(set(marks)) == len(marks)


def test_parameters_of_maps_count() -> None:
    zero, weights = torch.zeros(4, dtype=DOUBLE), torch.ones(2, 1, 1, dtype=DOUBLE)
    sliding = linear_map.Convolution(weights, (linear_map.Axis(4, 2, 1),), groups=1)
    moved = linear_map.Convolution(weights, (linear_map.Axis(4, 2, 1, start=1),), groups=1)
    marks = [
        asked_of(Graph((Input(0, 4), Affine((Term(Operand(0), one),), zero, zero)), 1, (4,))).fingerprint
        for one in (sliding, moved, linear_map.Dense(sliding.matrix))
    ]
    assert len(set(marks)) == len(marks)


def test_nodes_say_their_sizes_and_what_they_read(kept: Callable[[str], Kept]) -> None:
    """Whatever their kind has beside that."""
    for name in ("speech linear, gain", "odd lp"):
        model = network(RUNS[name][0])[0]
        asked = kept(name)[1][0][0]
        assert isinstance(asked, Question)
        assert [node["size"] for node in asked.nodes] == [node.size for node in model.graph.nodes]
        assert [node["kind"] for node in asked.nodes] == [KIND_OF[type(node)] for node in model.graph.nodes]
        assert [[read["node"] for read in node["reads"]] for node in asked.nodes] == [
            [operand.source for operand in node.operands] for node in model.graph.nodes
        ]


KIND_OF = {Input: "input", Affine: "affine", Apply: "operation", Quadratic: "energy"}


def test_a_fingerprint_follows_from_the_file_alone() -> None:
    """Who asked, and how, does not count; all else does."""
    graph, asked = small()
    assert fingerprint(asked) == asked.fingerprint
    others = replace(asked, input=3, model="another", method="lp", fingerprint="")
    assert fingerprint(others) == asked.fingerprint
    changed = [
        replace(asked, norm="2"),
        replace(asked, radius=0.2),
        replace(asked, centre=asked.centre + 1e-12),
        replace(asked, lower=asked.lower - 1e-12),
        replace(asked, upper=asked.upper + 1e-12),
        replace(asked, generators=np.ones((1, len(asked.centre)))),
        replace(asked, slack=np.zeros(len(asked.centre))),
        replace(asked, groups=np.zeros(len(asked.centre), dtype=np.int32)),
        replace(asked, vectors=np.zeros((1, 1, len(asked.centre)))),
        replace(asked, most=1),
        replace(asked, rows=-asked.rows),
        replace(asked, offsets=asked.offsets + 1),
        replace(asked, needed=asked.needed - 1),
        replace(asked, output=asked.output - 1),
        replace(asked, shape=[*asked.shape, 1]),
        replace(asked, nodes=asked.nodes[:-1]),
    ]
    marks = {asked.fingerprint, *(fingerprint(one) for one in changed)}
    assert len(marks) == 1 + len(changed)
    x = torch.zeros((1, *graph.input_shape), dtype=DOUBLE)
    assert mark_of(graph, tv.LinfBall(0.1).around(x), classify_as(torch.tensor([0]), graph.output_size)) == asked.fingerprint


def test_hashes_of_arrays_tell_shapes_and_types_apart() -> None:
    shapes: list[Any] = [6, (2, 3), (3, 2), (), 0]
    made: list[Any] = [*map(np.zeros, shapes), np.zeros(6, dtype=np.float32), -np.zeros(6)]
    assert len({digest(one) for one in made}) == len(made)
    across = np.arange(6.0).reshape(2, 3)
    assert digest(across.T) == digest(np.ascontiguousarray(across.T))
    assert digest(np.zeros((2, 3))) == hashlib.sha256(b"float64 [2, 3] " + bytes(48)).hexdigest()  # as docs/evidence.md has it
