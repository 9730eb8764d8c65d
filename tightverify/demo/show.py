"""`tightverify demo`: both networks on the first held-out digits, then on growing eps for the picture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from tightverify.api.checks import as_inputs, as_labels
from tightverify.api.load import load
from tightverify.console import called, output, progress, say
from tightverify.demo import NETWORKS, held_out
from tightverify.errors import UsageError
from tightverify.inputs.arrays import Arrays
from tightverify.region import LinfBall
from tightverify.report.outputs import Output, sink
from tightverify.report.records import Record
from tightverify.runs import Run
from tightverify.settings import Settings

EPS = 0.04
SHOWN = 20
SWEEP = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1)
SWEPT = 50
BATCH = 10
CLIP = (0.0, 1.0)


def show(folder: Path, quiet: bool = False) -> None:
    """Tables to stdout; digits_lstm.jsonl, digits_gru.jsonl, sweep.jsonl and certified.png to the folder."""
    torch.set_num_threads(1)  # More would only get into each other's way: the networks are tiny.
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be made ({error.strerror}); give another to --out") from error
    digits = {name: read(path) for name, path in NETWORKS.items()}
    console = output()
    for name, inputs in digits.items():
        console.print(f"\n{name} that reads 8x8 digits row by row; every pixel may change by {EPS} within [0, 1]")
        file = folder / f"{NETWORKS[name].stem}.jsonl"
        Run(
            inputs[:SHOWN], name, (LinfBall(EPS, CLIP),), Settings(batch=BATCH), output=Output(file, force=True, quiet=quiet)
        ).show()
    swept = sweep(digits, folder / "sweep.jsonl", quiet)
    from tightverify import plots  # only what is used: matplotlib starts slowly

    drawn = plots.save(plots.curve(swept), folder / "certified.png")
    if not quiet:
        say(f"one line per input: {', '.join(str(folder / f'{path.stem}.jsonl') for path in NETWORKS.values())}")
        say(f"certified share against eps: {drawn} (from {folder / 'sweep.jsonl'})")
        say(f"with a model and inputs of your own: {called()} certify MODEL.onnx INPUTS.npz --eps 0.01 (see {called()} --help)")


def read(path: Path) -> Arrays:
    """A network, and the digits that it was not trained on."""
    x, y = held_out()
    return Arrays(load(path, tuple(x.shape[1:])), as_inputs(x), as_labels(y, len(y)), torch.arange(len(x)))


def sweep(digits: dict[str, Arrays], file: Path, quiet: bool) -> list[Record]:
    """Every network at every eps."""
    swept: list[Record] = []
    with sink(file, force=True) as write, progress("sweeping eps", len(digits) * len(SWEEP) * SWEPT, quiet) as advance:
        for name, inputs in digits.items():
            for eps in SWEEP:
                for record in Run(inputs[:SWEPT], name, (LinfBall(eps, CLIP),), Settings(batch=25)).records():
                    write(asdict(record))
                    swept.append(record)
                    advance()
    return swept
