"""One file per operation, and the list of them all that the contract tests run over.

One of another package joins by `OPS.append`; its name must be its own, for evidence knows operations by their names.
"""

from tightverify.ops.base import Operation
from tightverify.ops.clamp import Clamp
from tightverify.ops.difference import (
    ClampDifference,
    HardSigmoidDifference,
    LeakyReluDifference,
    PiecewiseDifference,
    RampDifference,
    SigmoidDifference,
    TanhDifference,
)
from tightverify.ops.elu import Elu
from tightverify.ops.erf import Erf
from tightverify.ops.exponential import Exp
from tightverify.ops.gap import SigmoidLessTable, TanhLessTable
from tightverify.ops.gelu import Gelu, GeluByTanh
from tightverify.ops.gru_update import GruUpdate, WeightedMean
from tightverify.ops.hard_sigmoid import HardSigmoid
from tightverify.ops.hard_swish import HardSwish
from tightverify.ops.log import Log
from tightverify.ops.maximum import Maximum
from tightverify.ops.mish import Mish
from tightverify.ops.nonzero import NonZero
from tightverify.ops.power import Power
from tightverify.ops.product import MULTIPLY, SIGMOID_TANH, SIGMOID_TIMES, TANH_TIMES
from tightverify.ops.ramp import Ramp
from tightverify.ops.reciprocal import Reciprocal
from tightverify.ops.relu import LeakyRelu
from tightverify.ops.root import SquareRoot
from tightverify.ops.sigmoid import Sigmoid
from tightverify.ops.silu import Silu
from tightverify.ops.softplus import Softplus
from tightverify.ops.softsign import Softsign
from tightverify.ops.square import Square
from tightverify.ops.step import Step
from tightverify.ops.sum_of_squares import SumOfSquares
from tightverify.ops.table import Table
from tightverify.ops.tanh import Tanh
from tightverify.ops.whole import Floor, Truncation
from tightverify.relax.straight import Straight

__all__ = [
    "MULTIPLY",
    "OPS",
    "SIGMOID_TANH",
    "SIGMOID_TIMES",
    "TANH_TIMES",
    "Clamp",
    "ClampDifference",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "GeluByTanh",
    "GruUpdate",
    "HardSigmoid",
    "HardSigmoidDifference",
    "HardSwish",
    "LeakyRelu",
    "LeakyReluDifference",
    "Log",
    "Maximum",
    "Mish",
    "NonZero",
    "Operation",
    "PiecewiseDifference",
    "Power",
    "Ramp",
    "RampDifference",
    "Reciprocal",
    "Sigmoid",
    "SigmoidDifference",
    "SigmoidLessTable",
    "Silu",
    "Softplus",
    "Softsign",
    "Square",
    "SquareRoot",
    "Step",
    "Straight",
    "SumOfSquares",
    "Table",
    "Tanh",
    "TanhDifference",
    "TanhLessTable",
    "Truncation",
    "WeightedMean",
]

OPS: list[Operation] = [
    Sigmoid(),
    Tanh(),
    LeakyRelu(),
    LeakyRelu(0.1),
    LeakyRelu(1.5),
    Clamp(-1.0, 1.0),
    Clamp(0.25, 0.5),
    Ramp(0.1, 1.0, 0.1),
    Ramp(0.0, 0.75, 0.5),
    HardSigmoid(),
    HardSigmoid(0.25, 0.375),
    Table(Straight((-1.0, 0.25, 1.5), (-0.75, 0.25, 0.5), (-0.75, 0.25, 0.5))),
    Table(Straight((-2.0, -0.5, 0.25, 1.0), (0.0, 0.5, 1.0, -0.5), (0.25, 0.5, -1.0, 2.0), 0.5, -0.25)),
    Square(),
    Log(),
    SquareRoot(),
    Reciprocal(),
    Step(),
    NonZero(),
    Floor(),
    Truncation(),
    Exp(),
    Erf(),
    Softplus(),
    Elu(),
    Elu(0.3),
    Elu(1.75),
    Softsign(),
    Gelu(),
    GeluByTanh(),
    Silu(),
    Mish(),
    HardSwish(),
    HardSwish(0.25, 0.375),
    Power(3),
    Power(4),
    SumOfSquares(),
    MULTIPLY,
    SIGMOID_TANH,
    SIGMOID_TIMES,
    TANH_TIMES,
    Maximum(),
    GruUpdate(),
    WeightedMean(),
    SigmoidDifference(),
    TanhDifference(),
    LeakyReluDifference(0.1),
    ClampDifference(0.25, 0.5),
    RampDifference(0.1, 0.75),
    HardSigmoidDifference(0.25, 0.375),
    PiecewiseDifference(Gelu()),
    PiecewiseDifference(Power(3)),
    SigmoidLessTable(Straight((-2.5, 2.5), (0.0, 1.0), (0.0, 1.0))),
    TanhLessTable(Straight((-1.0, -0.25, 0.5, 1.25), (-0.9, -0.5, 0.25, 0.8), (-0.5, 0.25, 0.8, 0.9))),
]
