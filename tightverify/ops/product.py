"""Products of two operands, each as it is or through sigmoid or tanh: `F(x) * G(y)`.

The gates of an LSTM are `sigmoid(x) * tanh(y)` and `sigmoid(x) * y`. As one function of the pre-activations they are bounded
more tightly than a sigmoid, a tanh and a product one after the other: see `relax.products`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.curves import Identity, Sigmoid, Symmetric, Tanh
from tightverify.relax.fitted.product_planes import product_traits
from tightverify.relax.planes import Planes
from tightverify.relax.products import product_planes, product_range
from tightverify.relax.tight import tight_products
from tightverify.relax.traits import Traits
from tightverify.values import Interval


@dataclass(frozen=True)
class Product(Operation):
    """F(x) G(y) for two curves."""

    name: str
    first: Symmetric
    second: Symmetric
    arity = 2

    @cached_property
    def traits(self) -> Traits:
        return product_traits(self.first, self.second)

    def forward(self, *operands: Tensor) -> Tensor:
        return self.first.value(operands[0]) * self.second.value(operands[1])

    def interval(self, *boxes: Interval) -> Interval:
        return product_range(self.first, self.second, *boxes)

    def relax(self, *boxes: Interval) -> Planes:
        return product_planes(self.first, self.second, *boxes)

    def tight_candidates(self, *boxes: Interval) -> tuple[Planes, ...]:
        return tight_products(self.first, self.second, *boxes)


MULTIPLY = Product("multiply", Identity(), Identity())
SIGMOID_TANH = Product("sigmoid_tanh", Sigmoid(), Tanh())
SIGMOID_TIMES = Product("sigmoid_times", Sigmoid(), Identity())
TANH_TIMES = Product("tanh_times", Tanh(), Identity())
