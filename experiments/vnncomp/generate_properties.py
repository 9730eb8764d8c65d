"""A benchmark of recurrent networks for VNN-COMP, as a folder: networks, queries, instances, and the answers that are known.

    python -m experiments.vnncomp.generate_properties SEED [--out FOLDER] [--each 4] [--known 30] [--unlicensed]

The folder has `onnx/`, none of more than 4 MB, `vnnlib/` (VNN-LIB 1.0) with `instances.csv`, the same queries of VNN-LIB 2.0 in
`vnnlib2/` with `instances2.csv`, `known.csv` with the answers that `complete` finds in `--known` seconds for each, and a README
that says whose the networks are. Files that carry no licence are left out unless `--unlicensed` asks for them. Speech networks
of this project are trained anew, with a fixed seed. Inputs are drawn by the seed among those that a network answers as their
labels say; where no data belong to a network they are drawn from a normal distribution, and its own answers are the labels.
"""

from __future__ import annotations

import csv
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

import tightverify as tv
from experiments.data import Frames, folder, mnist_test, prover_lstm, prover_speech, spoken_digits, trained_cells
from experiments.speech_network import LAYERS, trained
from experiments.vnncomp.queries import Query
from experiments.wild import FILES, Wild
from tightverify.errors import TightVerifyError
from tightverify.inputs.audio import FULL_SCALE_16
from tightverify.models.answers import run_original

LARGEST = 4 * 2**20
"""Bytes of a network."""
SAMPLES = 2056
"""Of a clip, its loudest part: ten frames of PROVER's network."""
EPOCHS = 6
"""In which speech networks are trained: enough for instances, not for the best accuracy."""
LICENCES = {
    "prover": "PROVER's LSTMs on MNIST and on spoken digits: github.com/eth-sri/prover, Apache 2.0",
    "cells": "Vanilla RNNs and GRUs on MNIST: trained for tightverify, under its licence",
    "speech": "An LSTM and a GRU on waveforms of spoken digits: trained for tightverify on the data below, under its licence",
    "silero": "Silero's voice activity detector, its first state fixed at 0: the PyPI package silero-vad, MIT",
}
UNLICENSED = {
    "rv": "RnnVerify's networks of 20 speakers: github.com/yuvaljacoby/RnnVerify, without a licence",
    "precise": "Wake words of Mycroft Precise: github.com/OpenVoiceOS/precise-lite-models, github.com/MycroftAI/precise-data, "
    "without a licence for the models (the program mycroft-precise is under Apache 2.0)",
}
"""Published files that nobody said how they may be passed on."""
DATA = "Inputs: MNIST's test images; the Free Spoken Digit Dataset, CC BY-SA 4.0; numbers drawn from a normal distribution."
Inputs = Callable[[np.random.Generator, int], tuple[Tensor, list[int] | None]]
"""So many inputs (N, *shape) and their labels, or None for the network's own answers."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network as it is written, its radii, the seconds of each instance, and inputs for it."""

    name: str
    write: Callable[[Path], None]
    radii: tuple[float, ...]
    timeout: int
    inputs: Inputs
    clip: tuple[float, float] | None = None
    threshold: float | None = None

    @property
    def origin(self) -> str:
        return self.name.partition("_")[0]


def exported(module: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """A module in float32, for one input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of checks that it leaves out
        torch.onnx.export(module.float().eval(), (torch.zeros(1, *shape),), str(path), dynamo=False, verbose=False)


def of_images(module: Frames) -> tuple[Callable[[Path], None], Inputs]:
    """A network on images cut into frames: how it is written, and images that it answers rightly."""
    images, labels = mnist_test()
    x = module.cut(images)

    def drawn(chance: np.random.Generator, count: int) -> tuple[Tensor, list[int]]:
        some = torch.from_numpy(chance.permutation(len(x))[: 10 * count])
        with torch.no_grad():
            some = some[module.double()(x[some]).argmax(1) == labels[some]][:count]
        return x[some].float(), labels[some].tolist()

    return lambda path: exported(module, tuple(x.shape[1:]), path), drawn


def of_clips() -> tuple[Callable[[Path], None], Inputs]:
    """PROVER's network on the loudest part of spoken digits, which need not be the digit to it: it has its own answers."""
    module = prover_speech()

    def drawn(chance: np.random.Generator, count: int) -> tuple[Tensor, None]:
        clips = [clip.samples for clip in spoken_digits() if len(clip.samples) >= SAMPLES]
        return torch.stack([loudest(clips[k]) for k in chance.permutation(len(clips))[:count]]).float(), None

    return lambda path: exported(module, (SAMPLES,), path), drawn


def of_speech(layer: str) -> tuple[Callable[[Path], None], Inputs]:
    """A network of this project on the same parts, in [-1, 1]; trained when it is written."""

    def write(path: Path) -> None:
        clips = spoken_digits(test=False)
        digits = torch.tensor([clip.digit for clip in clips])
        torch.set_num_threads(1)
        exported(trained(layer, [(clip.samples / FULL_SCALE_16).float() for clip in clips], digits, EPOCHS), (SAMPLES,), path)

    def drawn(chance: np.random.Generator, count: int) -> tuple[Tensor, None]:
        return of_clips()[1](chance, count)[0] / FULL_SCALE_16, None

    return write, drawn


def loudest(samples: Tensor) -> Tensor:
    """The part of a clip with the most energy."""
    starts = range(0, len(samples) - SAMPLES + 1, 100)
    best = max(starts, key=lambda k: float(samples[k : k + SAMPLES].square().sum()))
    return samples[best : best + SAMPLES]


def of_file(wild: Wild, shape: tuple[int, ...]) -> tuple[Callable[[Path], None], Inputs]:
    """A published file of one output, whose states are constants of 0, and inputs from a normal distribution, or speech."""

    def write(path: Path) -> None:
        model = onnx.load(str(wild.path))
        for entry in list(model.graph.input)[1:]:
            lengths = [max(axis.dim_value, 1) for axis in entry.type.tensor_type.shape.dim]
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(lengths, np.float32), entry.name))
            model.graph.input.remove(entry)
        del model.graph.output[1:]
        for axis, length in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, *shape), strict=True):
            axis.dim_value = length
        onnx.save(model, str(path))

    def drawn(chance: np.random.Generator, count: int) -> tuple[Tensor, None]:
        if wild.kind == "speech":
            return wild.inputs(40)[torch.from_numpy(chance.permutation(40)[:count])], None
        return torch.from_numpy(chance.normal(size=(count, *shape))).float(), None

    return write, drawn


def networks() -> Iterator[Network]:
    """All of them."""
    for name in ("04f_032h_1l", "04f_032h_2l", "07f_032h_1l", "04f_128h_1l"):
        yield Network(f"prover_mnist_{name}", *made(of_images(prover_lstm(name)), (0.01, 0.014), 120), clip=(0, 1))
    for name in ("gru_04f_032h_1l", "gru_07f_064h_1l", "gru_14f_032h_1l", "rnn_tanh_07f_032h_1l", "rnn_relu_07f_064h_1l"):
        yield Network(f"cells_mnist_{name}", *made(of_images(trained_cells(name)), (0.01, 0.02), 120), clip=(0, 1))
    for layer in LAYERS:
        yield Network(f"speech_fsdd_{layer}", *made(of_speech(layer), (1e-4, 1e-3), 120), clip=(-1, 1))
    yield Network("prover_fsdd", *made(of_clips(), (1.0, 10.0), 120))
    for wild in FILES:
        origin = wild.name.partition("_")[0]
        shape = {"precise": (29, 13), "rv": (20, 40)}.get(origin)
        if shape is not None:
            radii, threshold = ((0.002, 0.01), 0.5) if origin == "precise" else ((0.001, 0.01), None)
            yield Network(wild.name, *made(of_file(wild, shape), radii, 60), threshold=threshold)
        elif wild.name == "silero_vad_openvino_16k":
            yield Network("silero_vad", *made(of_file(wild, (576,)), (1e-5, 1e-4), 120), threshold=0.5)


def made(
    of: tuple[Callable[[Path], None], Inputs], radii: tuple[float, ...], timeout: int
) -> tuple[Callable[[Path], None], tuple[float, ...], int, Inputs]:
    """What a `Network` takes, in its order."""
    return of[0], radii, timeout, of[1]


@dataclass(frozen=True)
class Instance:
    """A file and its query, in both versions."""

    network: str
    query: str
    timeout: int


def instances(network: Network, out: Path, chance: np.random.Generator, each: int) -> Iterator[Instance]:
    """Writes a network and its queries."""
    path = out / "onnx" / f"{network.name}.onnx"
    network.write(path)
    if path.stat().st_size > LARGEST:
        raise click.ClickException(f"{path.name} has {path.stat().st_size} bytes; wanted at most {LARGEST}")
    x, labels = network.inputs(chance, each)
    model = tv.load(path, inputs=x)
    y = run_original(model, x)
    shapes = declared(path, tuple(x.shape[1:]))
    for k, (one, answer) in enumerate(zip(x.double(), y, strict=True)):
        label = int(answer.argmax()) if labels is None else labels[k]
        if int(answer.argmax()) != label:
            continue
        for radius in network.radii:
            name = f"{network.name}_{k}_{radius:g}"
            query = Query.around(one.flatten().numpy(), radius, network.clip, answer.numpy(), label, network.threshold)
            (out / "vnnlib" / f"{name}.vnnlib").write_text(query.first)
            (out / "vnnlib2" / f"{name}.vnnlib").write_text(query.second(*shapes))
            yield Instance(path.name, f"{name}.vnnlib", network.timeout)


def declared(path: Path, one: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of the file's input and output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    zeros: NDArray[np.float32] = np.zeros((1, *one), np.float32)
    return zeros.shape, tuple(np.asarray(session.run(None, {entry: zeros})[0]).shape)


def known(instance: Instance, out: Path, seconds: float) -> str:
    """What `complete` answers, or nothing."""
    try:
        found = tv.vnnlib(out / "onnx" / instance.network, out / "vnnlib" / instance.query, time_limit=seconds)
    except TightVerifyError as error:
        raise click.ClickException(f"{instance.query}: {error}") from error
    return found.outcome if found.outcome in ("sat", "unsat") else ""


def readme(seed: int, origins: Collection[str]) -> str:
    """Whose the networks and the data are, and which files are left out for want of a licence."""
    found = [f"# Recurrent networks (seed {seed})", "", *(f"* {LICENCES[origin]}." for origin in LICENCES if origin in origins)]
    found += [f"* {words}: not to be passed on." for origin, words in UNLICENSED.items() if origin in origins]
    left = [f"* {words}." for origin, words in UNLICENSED.items() if origin not in origins]
    if left:
        found += ["", "Left out, as nothing says how they may be passed on (`--unlicensed` adds them):", "", *left]
    return "\n".join([*found, "", DATA]) + "\n"


def write_rows(path: Path, rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


@click.command()
@click.argument("seed", type=int)
@click.option("--out", type=click.Path(path_type=Path), default=Path("experiments/out/recurrent"), show_default=True)
@click.option("--each", default=4, show_default=True, help="Inputs of each network.")
@click.option("--known", "seconds", default=30.0, show_default=True, help="Seconds for each known answer; 0 for none.")
@click.option("--unlicensed", is_flag=True, help="Also published files that carry no licence; not to be passed on.")
@click.option("--network", "names", multiple=True, help="Only networks whose names begin so; several.")
def main(seed: int, out: Path, each: int, seconds: float, unlicensed: bool, names: tuple[str, ...]) -> None:
    """Write the benchmark into a folder, which is made anew."""
    torch.set_num_threads(1)
    folder("mnist")
    if out.exists():
        shutil.rmtree(out)
    for part in ("onnx", "vnnlib", "vnnlib2"):
        (out / part).mkdir(parents=True)
    chance, found = np.random.default_rng(seed), list[Instance]()
    chosen = [network for network in networks() if not names or network.name.startswith(names)]
    chosen = [network for network in chosen if unlicensed or network.origin in LICENCES]
    for network in chosen:
        found += instances(network, out, chance, each)
    write_rows(out / "instances.csv", [(f"onnx/{one.network}", f"vnnlib/{one.query}", one.timeout) for one in found])
    write_rows(out / "instances2.csv", [(f"onnx/{one.network}", f"vnnlib2/{one.query}", one.timeout) for one in found])
    (out / "README.md").write_text(readme(seed, {network.origin for network in chosen}))
    answers = [(one, known(one, out, seconds)) for one in found] if seconds else []
    write_rows(out / "known.csv", [(f"vnnlib/{one.query}", answer) for one, answer in answers if answer])
    counts = ", ".join(f"{sum(answer == word for _, answer in answers)} {word}" for word in ("sat", "unsat"))
    click.echo(f"{len(chosen)} networks, {len(found)} instances in {out}; known: {counts}")


if __name__ == "__main__":
    main()
