"""`tightverify supports`."""

from __future__ import annotations

import click

from tightverify.cli.command import Command, option, options
from tightverify.cli.options import QUESTION

EXAMPLES = (
    "tightverify supports --onnx-operators",
    "tightverify supports --vnnlib-versions",
)
NEWEST_OPSET = 23
"""The newest opset that is tested."""
THEORIES = {
    "vnnlib-versions": ("2.0", "2.0"),
    "hidden-node-theories": ("NH", "H"),
    "multiple-input-output-theories": ("SIO", "MIO"),
    "multiple-network-theories": ("SNET", "MENET", "MINET", "MNET"),
    "multiple-node-comparison-theories": ("SNC", "MNC"),
    "arithmetic-complexity-theories": ("BND", "OUTC", "LIN", "POLY"),
    "onnx-element-types": ("real",),
    "optimised-disjunctive-reasoning": ("false",),
    "serialise-assignments": ("true",),
    "unsat-proofs": ("false",),
}
"""What is answered to each question, in the words of VNN-LIB 2.0."""
OF_FILES = ("onnx-operators", "onnx-opset-versions")
NAMES = (*THEORIES, *OF_FILES)


@click.command(cls=Command, examples=EXAMPLES, short_help="Say what `verify` supports, as VNN-LIB 2.0 asks it.")
@options(*(option(QUESTION, f"--{name}", "asked", flag_value=name, help=f"Print {name.replace('-', ' ')}.") for name in NAMES))
def supports(asked: str | None) -> None:
    """Say which networks and queries `verify` supports, a line for each answer, in the words of VNN-LIB 2.0.

    Types of floats are not among them: what is proved is proved of real numbers.
    """
    if asked is None:
        raise click.UsageError(f"ask one of {', '.join(f'--{name}' for name in NAMES)}")
    for line in THEORIES.get(asked) or of_files(asked):
        click.echo(line)


def of_files(asked: str) -> list[str]:
    """What files may hold."""
    from tightverify.models.from_onnx.bodies import EXPANDED
    from tightverify.models.from_onnx.control import CONTROL
    from tightverify.models.from_onnx.reading import OLDEST
    from tightverify.models.from_onnx.sequences import MAKING
    from tightverify.models.from_onnx.shapes import FACTS
    from tightverify.models.from_onnx.walk import MOVERS, OPERATORS

    if asked == "onnx-operators":
        return sorted({*OPERATORS, *FACTS, *CONTROL, *EXPANDED, *MAKING, *MOVERS, "Constant", "ConstantOfShape"})
    return [str(OLDEST), str(NEWEST_OPSET)]
