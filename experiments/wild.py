"""Networks that people publish, and what Keras exports: what imports, with which option, and what is decided of it.

    python -m experiments.wild [--time-limit 60] [--inputs 3]
    python -m experiments.wild --calls 3 [--time-limit 60] [--inputs 3]

Speech for the voice activity detectors and for DTLN: pieces of the digits of FSDD, resampled to 16 kHz, half of full scale.
Other networks get numbers drawn from a normal distribution, for the features that their users compute are not at hand. Those
of one output are asked whether it stays on its side of .5, DTLN's mask whether no number of it moves by .1, others whether the
class stays. Inputs one at a time, one thread.
"""

from __future__ import annotations

import resource
from collections import Counter
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
import torch
from scipy.signal import resample_poly
from torch import Tensor

import tightverify as tv
from experiments.data import folder, spoken_digits
from experiments.figures import table_of, timed
from experiments.pages import Experiment, report
from tightverify.demo import NETWORKS
from tightverify.errors import TightVerifyError
from tightverify.inputs.importing import Importing
from tightverify.statements import Statement

EPS = (1e-5, 1e-2)
METHODS = ("linear", "complete")
PIECE = 576
"""Samples that Silero's networks read at once: 64 of the piece before among them."""
WINDOW = 512
"""Samples of DTLN's spectra."""


@dataclass(frozen=True)
class Wild:
    """A file, the option that it needs, and what is asked of it."""

    name: str
    option: str = ""
    kind: str = "normal"
    statement: Statement | None = None

    @property
    def path(self) -> Path:
        return folder("wild") / f"{self.name}.onnx"

    @property
    def importing(self) -> Importing:
        return Importing(fix=(self.option.removeprefix("--fix "),) if self.option else ())

    def load(self, inputs: Tensor | None = None) -> tv.Model:
        return tv.load(self.path, inputs=inputs, **self.importing.keywords)

    def inputs(self, count: int) -> Tensor:
        """Some that it is for, or numbers drawn from a normal distribution."""
        if self.kind != "normal":
            pieces = np.stack([piece(k) for k in range(count)])
            spectra = np.abs(np.fft.rfft(pieces[:, :WINDOW]))[:, None]
            return torch.from_numpy(pieces if self.kind == "speech" else spectra).float()
        shape = (29, 13) if self.name.startswith("precise") else (20, 40)
        return torch.randn((count, *shape), generator=torch.Generator().manual_seed(0))


def piece(number: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The loudest piece of a spoken digit, at 16 kHz."""
    clips = spoken_digits()
    samples = resample_poly(clips[number * 37 % len(clips)].samples.numpy(), 2, 1)
    starts = range(0, len(samples) - PIECE, PIECE // 4)
    best = max(starts, key=lambda k: float(np.square(samples[k : k + PIECE]).sum()))
    return np.asarray(samples[best : best + PIECE] / np.abs(samples).max() / 2)


DETECTS = tv.SameSide(0.5)
FILES = [
    *(Wild(f"precise_{name}", statement=DETECTS) for name in ("en_computer", "en_hey_mycroft", "en_jarvis", "sounds_cough_cv")),
    *(Wild(f"rv_20classes_{name}_T20") for name in ("rnn4_fc32x5", "rnn8_fc32x5")),
    Wild("silero_vad_16k_op15", "--fix state=0", "speech", DETECTS),
    Wild("silero_vad_openvino_16k", "--fix state=0", "speech", DETECTS),
    Wild("dtln_1", "--fix input_3=0", "spectrum", tv.Within(0.1)),
]


def weighed(wild: Wild) -> tuple[float, float]:
    """Seconds and MiB that an import takes, in a process that has imported another network before."""
    inputs = wild.inputs(1)
    tv.load(NETWORKS["GRU"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, _ = timed(lambda: wild.load(inputs))
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10


def difference(model: tv.Model, x: Tensor) -> float:
    """The largest between import and original at inputs, relative to 1 + |output|."""
    theirs = model.original(x.to(model.dtype)).double()
    return float(((model.graph.forward(x.double().flatten(1)) - theirs).abs() / (1 + theirs.abs())).max())


def imports(files: list[Wild]) -> None:
    columns = "file", "option", "one input", "outputs", "nodes", "differs by at most", "import s", "MiB"
    table = table_of("published networks: imports", *columns)
    for wild in files:
        with get_context("spawn").Pool(1) as pool:
            seconds, memory = pool.apply(weighed, (wild,))
        x = wild.inputs(20)
        model = wild.load(x)
        shape = " x ".join(map(str, model.graph.input_shape))
        found = [shape, model.graph.output_size, len(model.graph.nodes), f"{difference(model, x):.1e}", f"{seconds:.2f}"]
        table.add_row(wild.name, wild.option or "none", *map(str, found), f"{memory:.0f}")
    report(table)


def decided(model: tv.Model, x: Tensor, eps: float, method: str, rows: Statement | None, time_limit: float) -> tv.Results:
    return tv.certify(model, x, None, tv.LinfBall(eps), rows=rows, method=method, time_limit=time_limit)


def verdicts(files: list[Wild], time_limit: float, count: int) -> None:
    columns = "file", "eps", *(f"{method}: {what}" for method in METHODS for what in ("verdicts", "median s"))
    table = table_of(f"published networks: inputs {count}, {time_limit:g} s each", *columns)
    for wild in files:
        x = wild.inputs(count)
        model = wild.load(x)
        for eps in EPS:
            row: list[str] = []
            for method in METHODS:
                results = [decided(model, one[None], eps, method, wild.statement, time_limit)[0] for one in x]
                counts = Counter(result.verdict.name for result in results)
                row.append(", ".join(f"{number} {name}" for name, number in sorted(counts.items())))
                row.append(f"{sorted(result.seconds for result in results)[len(results) // 2]:.2f}")
            table.add_row(wild.name, f"{eps:g}", *row)
    report(table)


def chunks(wild: Wild, count: int, calls: int) -> Tensor:
    """(N, K, *shape): pieces of a spoken digit one after the other, from where it is loudest on."""
    found = []
    for number in range(count):
        clips = spoken_digits()
        samples = resample_poly(clips[number * 37 % len(clips)].samples.numpy(), 2, 1)
        whole = np.pad(samples / np.abs(samples).max() / 2, (0, calls * PIECE))
        first = max(range(0, len(samples) - PIECE, PIECE // 4), key=lambda k: float(np.square(whole[k : k + PIECE]).sum()))
        pieces = np.stack([whole[first + WINDOW * k :][:PIECE] for k in range(calls)])
        found.append(pieces if wild.kind == "speech" else np.abs(np.fft.rfft(pieces[:, :WINDOW]))[:, None])
    return torch.from_numpy(np.stack(found)).float()


def streams(files: list[Wild], calls: int, time_limit: float, count: int) -> None:
    """Models with a state, unrolled: the last call's output, where all chunks may change, or the first alone."""
    columns = "file", "nodes", "import s", "differs by at most", "chunks that change", "eps", *METHODS
    table = table_of(f"streams of {calls} calls, the last one's output: inputs {count}, {time_limit:g} s each", *columns)
    for wild in files:
        x = chunks(wild, count, calls)
        how = wild.importing.keywords
        seconds, model = timed(partial(tv.load, wild.path, inputs=x, fix=how["fix"], unroll=calls, frame="last"))
        facts = [str(len(model.graph.nodes)), f"{seconds:.2f}", f"{difference(model, x):.1e}"]
        for what, frames in (("all", None), ("the first", [0])):
            for eps in (1e-5, 1e-4):
                region, row = tv.LinfBall(eps, frames=frames), list[str]()
                for method in METHODS:
                    run = partial(tv.certify, model, rows=wild.statement, method=method, time_limit=time_limit)
                    verdicts = Counter(run(one[None], None, region)[0].verdict.name for one in x)
                    row.append(", ".join(f"{number} {name}" for name, number in sorted(verdicts.items())))
                table.add_row(wild.name, *facts, what, f"{eps:g}", *row)
    report(table)


def keras(time_limit: float) -> None:
    columns = "made by", "files", "import", "give what Keras gave", "longest import s", "ROBUST at 0.01, linear", "complete"
    table = table_of(f"Keras: {time_limit:g} s an input", *columns)
    refused: list[str] = []
    for backend in ("tensorflow", "torch"):
        paths = sorted((folder("wild") / "keras").glob(f"{backend}_*.onnx"))
        taken: list[float] = []
        agreeing, inputs, robust = 0, 0, dict.fromkeys(METHODS, 0)
        for path in paths:
            with np.load(path.with_suffix(".npz")) as arrays:
                x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"]).double()
            try:
                seconds, model = timed(partial(tv.load, path, inputs=x))
            except TightVerifyError as error:
                refused.append(f"{path.stem}: {error}")
                continue
            taken.append(seconds)
            given = x if model.embedding is None else model.embedding(x)
            ours, inputs = model.graph.forward(given.double().flatten(1)), inputs + len(x)
            # A softmax at the end is left out, and one more gives Keras' outputs.
            agreeing += any(torch.allclose(each, y, atol=1e-5) for each in (ours, ours.softmax(1)))
            statement = DETECTS if y.shape[1] == 1 else None
            for method in METHODS:
                results = decided(model, x, EPS[-1], method, statement, time_limit)
                robust[method] += results.counts.get("ROBUST", 0)
        found = [f"{len(taken)}", f"{agreeing}", f"{max(taken):.2f}", *(f"{robust[method]} of {inputs}" for method in METHODS)]
        table.add_row(f"Keras 3, {backend}", str(len(paths)), *found)
    report(table, *refused)


@click.command(cls=Experiment)
@click.option(
    "--file", "names", multiple=True, help="A file, without .onnx; several. All, and the Keras files, if none is named."
)
@click.option("--time-limit", default=60.0, show_default=True, help="Seconds per input.")
@click.option("--inputs", "count", default=3, show_default=True, help="Inputs of each published network.")
@click.option("--calls", type=int, help="Instead, those with a state unrolled over so many calls.")
def main(names: tuple[str, ...], time_limit: float, count: int, calls: int | None) -> None:
    """Networks that people publish."""
    torch.set_num_threads(1)
    files = [wild for wild in FILES if not names or wild.name in names]
    if calls is not None:
        streams([wild for wild in files if wild.option], calls, time_limit, count)
        return
    imports(files)
    verdicts(files, time_limit, count)
    if not names:
        keras(time_limit)


if __name__ == "__main__":
    main()
