"""What every data set has to be, whatever its kind: one contract for all of them, and for one from outside the package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tightverify as tv
from tests.helpers.sounds import Listener, recordings
from tightverify.demo import NETWORKS, held_out
from tightverify.errors import InputError, RegionError, UsageError
from tightverify.inputs.arrays import Arrays, read_arrays
from tightverify.inputs.audio import read_labels
from tightverify.inputs.classes import class_of, read_classes
from tightverify.inputs.clips import Clips
from tightverify.inputs.dataset import DataSet, Group, correct, prepared, right
from tightverify.inputs.npz import read_inputs
from tightverify.inputs.own import own_region
from tightverify.region import Perturbation
from tightverify.spec import linear_property
from tightverify.stages.progress import Callback, Step, no_callback

SETTINGS = tv.Settings("interval", batch=2)


@cache
def network(length: int) -> tv.Model:
    """For words of so many letters."""
    torch.manual_seed(length)
    return tv.load(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2 * length, 2)), (length, 2))


@dataclass(frozen=True, eq=False)
class Words:
    """A data set from outside: words of one or two letters, each with a network of its own length."""

    words: tuple[str, ...]
    y: Tensor | None
    numbers: Tensor

    notes = ("made up",)
    rows = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.words

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        return tuple((len(word), 2) for word in self.words)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, chosen: Tensor | slice) -> Words:
        places = torch.arange(len(self))[chosen]
        labels = None if self.y is None else self.y[chosen]
        return replace(self, words=tuple(self.words[k] for k in places.tolist()), y=labels, numbers=self.numbers[chosen])

    def groups(self) -> Iterator[Group]:
        for length in sorted({len(word) for word in self.words}):
            places = [k for k, word in enumerate(self.words) if len(word) == length]
            letters = [[[ord(letter) / 100, 1.0] for letter in self.words[k]] for k in places]
            yield Group(network(length), torch.tensor(letters), torch.tensor(places))

    def check(self, region: Perturbation, top: int) -> None:
        if not all(self.words):
            raise InputError("a word is empty")

    def balls(self, region: Perturbation) -> list[tuple[float, float]]:
        return [(0.01, torch.inf)] * len(self)


def arrays() -> DataSet:
    x, y = held_out()
    return Arrays(tv.load(NETWORKS["GRU"], x.shape[1:]), torch.as_tensor(x[:6]), torch.as_tensor(y[:6]), torch.arange(6))


def clips() -> DataSet:
    return Clips.of(Listener().eval(), recordings(), [0, 1, 2, 0, 1, 2])


def words() -> DataSet:
    return Words(("a", "bc", "d", "ef", "g", "hi"), torch.tensor([0, 1, 0, 1, 0, 1]), torch.arange(6))


KINDS = {"arrays": arrays, "clips": clips, "words": words}
REGION = tv.LinfBall(1e-4)


@pytest.fixture(params=KINDS, scope="module")
def data(request: pytest.FixtureRequest) -> DataSet:
    return KINDS[request.param]()


def test_some_inputs_keep_all_that_is_theirs(data: DataSet) -> None:
    assert len(data) == len(data.names) == len(data.shapes) == len(data.numbers) == 6
    for chosen in (slice(1, 4), torch.tensor([4, 1]), slice(0, 0)):
        places = torch.arange(6)[chosen]
        for some in (data[chosen], data[chosen][: len(places)]):
            assert type(some) is type(data)
            assert some.numbers.tolist() == places.tolist()
            assert some.names == tuple(data.names[k] for k in places)
            assert some.shapes == tuple(data.shapes[k] for k in places)
            assert some.y is not None
            assert some.y.tolist() == data.y[places].tolist()
            assert some.notes == data.notes


def test_groups_hold_every_input_once(data: DataSet) -> None:
    groups = list(data.groups())
    assert sorted(torch.cat([group.places for group in groups]).tolist()) == list(range(6))
    for group in groups:
        assert len(group.x) == len(group.places)
        assert {data.shapes[k] for k in group.places.tolist()} == {tuple(group.x.shape[1:])} == {group.model.graph.input_shape}


def results(data: DataSet, region: Perturbation = REGION, callback: Callback = no_callback) -> list[tv.Result]:
    found: list[tv.Result] = []
    prepared(data, region, SETTINGS, 1, callback)(found.append)
    return found


def test_results_keep_to_their_inputs(data: DataSet) -> None:
    steps: list[Step] = []
    found = {result.index: result for result in results(data, callback=steps.append)}
    assert sorted(found) == list(range(6))
    rightly = right(data, 1)
    for k, result in found.items():
        (alone,) = results(data[torch.tensor([k])])
        assert (alone.verdict, alone.label) == (result.verdict, int(data.y[k]))
        assert alone.margins == pytest.approx(result.margins, rel=1e-9)
        assert bool(rightly[k]) == (result.verdict is not tv.Verdict.MISCLASSIFIED)
    assert {place for step in steps for place in step.inputs.tolist()} == set(torch.nonzero(rightly).flatten().tolist())
    assert len(data.balls(REGION)) == 6


def test_the_first_that_are_answered_rightly(data: DataSet) -> None:
    rightly = torch.nonzero(right(data, 1)).flatten().tolist()
    for limit in range(1, 7):
        some, skipped = correct(data, 1, limit, 2)
        assert some.numbers.tolist() == rightly[:limit]
        last = rightly[limit - 1] + 1 if len(rightly) >= limit else 6
        assert skipped == last - len(some)


def test_what_is_wrong_is_said_before_any_work(data: DataSet) -> None:
    with pytest.raises(tv.TightVerifyError, match="method"):
        prepared(data, REGION, tv.Settings("magic"))
    assert results(data[:0]) == []


def test_a_file_of_arrays(tmp_path: Path) -> None:
    x, y = held_out()
    np.savez(tmp_path / "inputs.npz", x=x[:3], y=y[:3])
    read = read_arrays(NETWORKS["GRU"], tmp_path / "inputs.npz")
    assert (len(read), read.names, read.shapes) == (3, (None,) * 3, ((8, 8),) * 3)


def test_each_input_keeps_to_its_own_radius(data: DataSet) -> None:
    radii = [0.0, 0.01, 0.02, 0.5, 1.0, 0.03]
    own = tv.LinfBall(radii)
    for chosen in (torch.tensor([4, 1, 3]), slice(2, 6)):
        some, places = data[chosen], torch.arange(6)[chosen].tolist()
        if not isinstance(some, Words):
            assert some.balls(own) == [(radii[k], torch.inf) for k in places]
        for result in results(some, own):
            place = places[result.index]
            (alone,) = results(data[torch.tensor([place])], tv.LinfBall(radii[place]))
            assert alone.margins == pytest.approx(result.margins, rel=1e-9)


def test_regions_from_the_file_of_the_inputs(tmp_path: Path) -> None:
    x, path = np.random.default_rng(0).uniform(0, 1, (3, 2, 2)), tmp_path / "inputs.npz"
    radii = np.array([0.1, 0.0, 0.3])
    np.savez(path, x=x, eps=radii)
    assert own_region([path], "2", clip=(-1, 2)).around(torch.as_tensor(x)).balls == [(eps, 2.0) for eps in radii]
    np.savez(path, x=x, lower=x - 0.1, upper=x + 0.2)
    upper = own_region([path], "inf", clip=None).around(torch.as_tensor(x)).box.upper
    assert torch.equal(upper, torch.as_tensor(x + 0.2).flatten(1))
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"lower": x, "upper": x}, {"clip": (0, 1)}, "--clip was given with boxes"),
        ({}, {}, "has neither eps nor lower and upper beside x; wanted eps"),
        ({"lower": x}, {}, "has lower beside x; wanted eps"),
        ({"eps": radii, "lower": x, "upper": x}, {}, "has eps and lower and upper beside x"),
        ({"eps": radii[:2]}, {}, r"eps in .* has shape \(2,\), and x \(3, 2, 2\)"),
        ({"lower": x[:1], "upper": x}, {}, r"lower in .* has shape \(1, 2, 2\)"),
    ]
    for arrays, limits, words in cases:
        np.savez(path, x=x, **arrays)
        with pytest.raises(UsageError, match=words):
            own_region([path], "inf", **limits)
    with pytest.raises(UsageError, match=r"one \.npz file of arrays"):
        own_region([tmp_path], "inf")


def test_clips_with_a_radius_each() -> None:
    with pytest.raises(RegionError, match="a region for each of 2 inputs was given, and 6 clips"):
        tv.certify_clips(Listener().eval(), recordings(), None, tv.LinfBall([0.1, 0.2]))


def test_rows_in_place_of_labels(data: DataSet) -> None:
    if isinstance(data, Words):
        return
    outputs = next(data.groups()).model.graph.output_size
    C = torch.randn((6, 2, outputs), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    d = torch.arange(12, dtype=torch.float64).view(6, 2) - 2
    asked = replace(data, y=None, rows=linear_property(C, d, 6, outputs))  # type: ignore[type-var]
    places = torch.tensor([5, 0, 3])
    found: list[tv.Result] = []
    prepared(asked[places], REGION, SETTINGS)(found.append)
    groups = {int(place): (group.model, group.x[k : k + 1]) for group in data.groups() for k, place in enumerate(group.places)}
    for result in found:
        place = int(places[result.index])
        model, x = groups[place]
        (alone,) = tv.certify(model, x, None, REGION, settings=SETTINGS, rows=(C[place], d[place]))
        assert (result.verdict, result.label) == (alone.verdict, None)
        assert result.margins == pytest.approx(alone.margins, rel=1e-9)


def test_names_of_classes(tmp_path: Path) -> None:
    path, x = tmp_path / "names.txt", np.zeros((3, 2))
    path.write_text("yes\nno\n10\n\n", encoding="utf-8")
    names = read_classes(path)
    assert names == ("yes", "no", "10")
    np.savez(tmp_path / "inputs.npz", x=x, y=np.array(["no", "10", "0"]))
    assert read_inputs(tmp_path / "inputs.npz", names)[1].tolist() == [1, 2, 0]
    (tmp_path / "labels.csv").write_text("file,label\na.wav,no\nb.wav,2\n", encoding="utf-8")
    assert read_labels(tmp_path / "labels.csv", [Path("a.wav"), Path("b.wav")], names) == [1, 2]
    with pytest.raises(InputError, match="the label 'ye', which is no name of a class; did you mean 'yes'"):
        class_of("ye", names, "a line")
    with pytest.raises(InputError, match="wanted a class number from 0 on, or --classes"):
        read_inputs(tmp_path / "inputs.npz")
    for text, words in (("", "is empty"), ("a\n\nb", "line 2 of .* is empty"), ("a\nb\na", "names two classes 'a'")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=words):
            read_classes(path)
