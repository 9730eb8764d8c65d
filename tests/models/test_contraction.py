"""Sums of products along named axes: numpy's einsum, whichever operands are constant."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.onnx_models import agree, build, node, normal, save
from tightverify.errors import ModelError
from tightverify.models.builder import Builder
from tightverify.models.contraction import contract, matrix_product
from tightverify.models.from_onnx.file import from_onnx

LENGTHS = {"i": 2, "j": 3, "k": 4, "b": 2, "c": 3}
EQUATIONS = (
    "ij,jk->ik", "bij,bjk->bik", "bij,jk->bik", "bij,bjk->ki", "i,j->ij", "ij,ij->", "ij,ij->ij", "ii,i->i", "ii->", "ij->j",
    "ij->ji", "bii->bi", "bij,bik->bjk", "ij,k->ik", "ij,kc->i", "ij,jk,kc->ic", "ij,ij,ij->j", "ii,ij->ij",
)  # fmt: skip


@pytest.mark.parametrize("equation", EQUATIONS)
def test_sums_of_products(equation: str) -> None:
    """For every choice of the operands that are constant, but that all are."""
    terms, result = equation.split("->")
    names = [tuple(term) for term in terms.split(",")]
    values = [normal(*(LENGTHS[name] for name in term), seed=k) for k, term in enumerate(names)]
    x = torch.from_numpy(np.concatenate([value.ravel() for value in values]))[None]
    for constant in itertools.product((False, True), repeat=len(names)):
        if all(constant):
            continue
        builder = Builder()
        inputs = builder.inputs([value.shape for value in values])
        operands = [torch.from_numpy(v) if fixed else i for v, i, fixed in zip(values, inputs, constant, strict=True)]
        found = contract(builder, operands, names, tuple(result))
        expected = np.einsum(equation, *values)
        assert found.shape == expected.shape
        ours = builder.graph(found.ravel()).forward(x)[0].numpy()
        np.testing.assert_allclose(ours, expected.ravel(), rtol=1e-12, atol=1e-12)


STACKS = [
    ((3,), (3,)),
    ((3,), (2, 3, 4)),
    ((5, 2, 3), (3,)),
    ((2, 1, 2, 3), (5, 3, 4)),
    ((2, 3), (2, 3, 4)),
    ((1, 2, 3), (2, 3, 4)),
]


@pytest.mark.parametrize("shapes", STACKS)
@pytest.mark.parametrize("constant", [(False, False), (True, False), (False, True)])
def test_products_of_stacks_of_matrices(shapes: tuple[tuple[int, ...], ...], constant: tuple[bool, bool]) -> None:
    left, right = values = [normal(*shape, seed=k) for k, shape in enumerate(shapes)]
    builder = Builder()
    inputs = builder.inputs(list(shapes))
    x, y = (torch.from_numpy(v) if fixed else i for v, i, fixed in zip(values, inputs, constant, strict=True))
    found = matrix_product(builder, x, y)
    assert found.shape == (left @ right).shape
    given = torch.from_numpy(np.concatenate([value.ravel() for value in values]))[None]
    ours = builder.graph(found.ravel()).forward(given)[0].numpy()
    np.testing.assert_allclose(ours, (left @ right).ravel(), rtol=1e-12, atol=1e-12)


# ONNX's Einsum and MatMul: x is (1, 4, 6)

CASES = {
    "matrix": ("Einsum", "x W", "bij,jk->bik", normal(6, 5)),
    "no arrow": ("Einsum", "x W", "bij, jk", normal(6, 5)),
    "dots": ("Einsum", "W x", "jk , ...ij -> ...ki", normal(6, 5)),
    "dots of both": ("Einsum", "x W", "...ij,...jk", normal(1, 6, 5)),
    "dots in front": ("Einsum", "x W", "b...,...->b...", normal(4, 6)),
    "a matrix for each place": ("Einsum", "x W", "bij,ijk->bik", normal(4, 6, 2)),
    "one operand": ("Einsum", "x", "bij->ji", normal(1)),
    "squares": ("Einsum", "x x", "bij,bik->bjk", normal(1)),
    "stack of matrices": ("MatMul", "x W", "", normal(3, 6, 2)),
    "stack of matrices on the left": ("MatMul", "W x", "", normal(3, 2, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_operators(name: str, tmp_path: Path) -> None:
    kind, inputs, equation, weights = CASES[name]
    operator = node(kind, inputs, **({"equation": equation} if equation else {}))
    constants = {"W": weights, "row": np.array([1, -1])} if "W" in inputs else {"row": np.array([1, -1])}
    agree(save(tmp_path, build([operator, node("Reshape", "y row", "z")], [1, 4, 6], constants, output="z")))


REFUSED = {
    "bij,jk->bii": "each once",
    "bij,jk->bz": "each once",
    "...j,jk->k": "lacks its '...'",
    "ij,jk->ik": "a tensor of 3 axes",
    "b$j,jk->bk": "name the axes",
    "bij": "of 2 inputs",
    "bij,ik->bjk": "4 and 6 numbers under one name",
    "bij,kk->bij": "6 x 5",
}


@pytest.mark.parametrize("equation", REFUSED)
def test_other_equations_are_refused(equation: str, tmp_path: Path) -> None:
    path = save(tmp_path, build([node("Einsum", "x W", equation=equation)], [1, 4, 6], {"W": normal(6, 5)}))
    with pytest.raises(ModelError, match=REFUSED[equation]):
        from_onnx(path)
