"""What rounding, quantising and pruning leave of networks on MNIST by rows: differences proved, and found.

    python -m experiments.differ rounded [--model prover/04f_032h_1l ...] [--how float16 ...] [--count 20] [--method linear ...]
    python -m experiments.differ cost [--model prover/04f_032h_1l ...] [--how float16] [--count 5]
    python -m experiments.differ agreement [--model prover/04f_032h_1l ...] [--how int8] [--count 100]
    python -m experiments.differ hapt [--eps 0.001 ...] [--how float16 ...] [--count 20]
    python -m experiments.differ vowels [--eps 0.001 ...] [--count 5]
    python -m experiments.differ sounds FOLDER [--db -80] [--how float16] [--count 5]

One thread; balls of the norm inf, clipped to [0, 1], around the first images that the network classifies correctly. `rounded`
has the largest change of any logit: what each method proves, what a search finds, and what the two networks' own bounds leave
(apart), with the CPU seconds of one image; `hapt` and `vowels` have the same of windows of a gyroscope (medians), and vowels.
`sounds` has them of whole recordings, for the networks that `experiments.speech train` wrote to a folder.
`cost` has a pair's seconds beside those that certifying one network takes.
`agreement` has the share of images on which the second network is proved to keep the first one's answer, beside the share on
which both are proved robust.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import onnx
import torch
from torch import Tensor, nn

import tightverify as tv
from experiments.data import Frames, correctly_classified, mnist_test, spoken_digits
from experiments.figures import table_of
from experiments.pages import Experiment, report
from experiments.radius import network
from experiments.series import NUMBERS, HardVowels, hapt_network, hapt_windows, trained
from experiments.series import STEPS as LENGTH
from experiments.series import vowels as recorded
from tightverify.inputs.audio import FULL_SCALE_16
from tightverify.models.rounding import rounded as rounded_file
from tightverify.models.rounding import rounding_of
from tightverify.region import Perturbation

MODELS = (
    "prover/04f_032h_1l",
    "prover/04f_032h_2l",
    "prover/07f_032h_1l",
    "cells/gru_04f_032h_1l",
    "cells/rnn_tanh_07f_032h_1l",
)
ROUNDINGS = "float16", "bfloat16", "int8", "int4", "pruned:0.2"
RESTARTS, STEPS = 20, 100
Network = TypeVar("Network", bound=nn.Module)


def compressed(module: Network, how: str) -> Network:
    """The same network with rounded weights, one step for each tensor."""
    change, everything = rounding_of(how)
    second = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in second.parameters():
            if everything or parameter.dim() > 1:
                parameter.copy_(torch.as_tensor(change(parameter.numpy(), ())))
    return second


def timed(call: Callable[..., Any], *given: Any, **asked: Any) -> tuple[Any, float]:
    """What a call returns, and its CPU seconds."""
    began = time.process_time()
    found = call(*given, **asked)
    return found, time.process_time() - began


def largest(found: tv.Differences, what: str) -> list[float]:
    """Of each image, the largest of its outputs' numbers."""
    return [float(getattr(one, what).max()) for one in found]


def apart(first: tv.Interval, second: tv.Interval) -> list[float]:
    """Of each image, the most that any output may differ by where all that is known is each network's own bounds."""
    return [float(value) for value in torch.maximum(first.upper - second.lower, second.upper - first.lower).flatten(1).amax(1)]


def inputs_of(module: Frames, count: int) -> tuple[Tensor, Tensor]:
    """The first images that a network classifies correctly, and their labels."""
    pixels, labels = mnist_test()
    chosen = correctly_classified(module, pixels, labels, count)
    return module.cut(pixels[chosen]), labels[chosen]


MODEL = click.option("--model", "models", multiple=True, default=MODELS, help="A network; several.")
EPS = click.option("--eps", default=0.01, show_default=True)


@click.group()
def main() -> None:
    """Certified differences."""
    torch.set_num_threads(1)


@main.command(cls=Experiment)
@MODEL
@EPS
@click.option("--how", "ways", multiple=True, default=ROUNDINGS, help="How the second network is made; several.")
@click.option("--method", "methods", multiple=True, default=("linear", "combine"), help="How to prove; several.")
@click.option("--count", default=20, show_default=True, help="So many images.")
def rounded(models: Sequence[str], eps: float, ways: Sequence[str], methods: Sequence[str], count: int) -> None:
    """The largest change of any logit."""
    ball = tv.LinfBall(eps, clip=(0, 1))
    columns = "network", "rounding", *columns_of(methods), "one network, s"
    table = table_of(f"the first {count} images, eps {eps:g}", *columns)
    for name in models:
        module = network(name)
        x, _ = inputs_of(module, count)
        shape = tuple(x.shape[1:])
        first = tv.load(module, shape)
        own, alone = timed(tv.bounds, first, x, ball, method=methods[-1])
        for how in ways:
            second = tv.load(compressed(module, how), shape)
            table.add_row(name, how, *compared(first, second, x, ball, methods, own), f"{alone / count:.2f}")
    report(table)


def compared(
    first: tv.Model,
    second: tv.Model,
    x: Tensor,
    ball: Perturbation,
    methods: Sequence[str],
    own: tv.Interval,
    restarts: int = RESTARTS,
    steps: int = STEPS,
    middle: Callable[[Sequence[float]], float] = statistics.mean,
) -> list[str]:
    """What is found of two networks' differences, what their own bounds leave, and what each method proves, in words."""
    found = largest(tv.differ(first, second, x, ball, method="interval", restarts=restarts, attack_steps=steps), "found")
    row = [f"{middle(found):.3g}", f"{middle(apart(own, tv.bounds(second, x, ball, method=methods[-1]))):.3g}"]
    for method in methods:
        differences, took = timed(tv.differ, first, second, x, ball, method=method, restarts=0)
        bound = largest(differences, "bound")
        ratio = middle([value / least for value, least in zip(bound, found, strict=True)])
        row += [f"{middle(bound):.3g}", f"{ratio:.2f}", f"{took / len(x):.2f}"]
    return row


@main.command(cls=Experiment)
@MODEL
@EPS
@click.option("--how", default="float16", show_default=True, help="How the second network is made.")
@click.option("--count", default=5, show_default=True, help="So many images.")
def cost(models: Sequence[str], eps: float, how: str, count: int) -> None:
    """CPU seconds of one image, all bounds of all images made."""
    ball = tv.LinfBall(eps, clip=(0, 1))
    methods = ("linear", "combine")
    columns = [word for method in methods for word in (f"one, {method}", f"pair, {method}", "ratio")]
    table = table_of(f"certifying one network, and a pair ({how}), eps {eps:g}", "network", *columns)
    for name in models:
        module = network(name)
        x, labels = inputs_of(module, count)
        first, second = (tv.load(each, tuple(x.shape[1:])) for each in (module, compressed(module, how)))
        row = [name]
        for method in methods:
            asked: dict[str, Any] = {"method": method, "restarts": 0}
            alone = timed(tv.certify, first, x, labels, ball, thorough=True, rounds=1, **asked)[1] / count
            pair = timed(tv.differ, first, second, x, ball, **asked)[1] / count
            row += [f"{alone:.2f}", f"{pair:.2f}", f"{pair / alone:.1f}"]
        table.add_row(*row)
    report(table)


def columns_of(methods: Sequence[str]) -> list[str]:
    return ["found", "apart", *(word for method in methods for word in (method, "of found", "CPU s"))]


@main.command(cls=Experiment)
@click.option("--eps", "radii", multiple=True, default=(0.001, 0.01), show_default=True, help="A radius in rad/s; several.")
@click.option("--how", "ways", multiple=True, default=("float16", "int8"), help="How the second network is made; several.")
@click.option("--count", default=20, show_default=True, help="So many windows.")
def hapt(radii: Sequence[float], ways: Sequence[str], count: int) -> None:
    """PROVER's network of a gyroscope's windows: 12 frames of 75 numbers, two layers of 128 units."""
    module = hapt_network()
    windows, labels = hapt_windows()
    x = module.cut(windows[correctly_classified(module, windows, labels, count)])
    methods = ("linear",)
    title = f"the first {count} windows, all of each window moved; medians"
    table = table_of(title, "eps", "rounding", *columns_of(methods), "one network, s")
    first = tv.load(module, tuple(x.shape[1:]))
    for eps in radii:
        ball = tv.LinfBall(eps)
        own, alone = timed(tv.bounds, first, x, ball, method="linear")
        for how in ways:
            second = tv.load(compressed(module, how), tuple(x.shape[1:]))
            row = compared(first, second, x, ball, methods, own, restarts=1, steps=10, middle=statistics.median)
            table.add_row(f"{eps:g}", how, *row, f"{alone / count:.2f}")
    report(table)


@main.command(cls=Experiment)
@click.option("--eps", "radii", multiple=True, default=(0.001, 0.01), show_default=True, help="A radius; several.")
@click.option("--count", default=5, show_default=True, help="So many vowels.")
@click.option("--hidden", default=16, show_default=True, help="Units of the GRU.")
def vowels(radii: Sequence[float], count: int, hidden: int) -> None:
    """A GRU trained here on Japanese vowels, beside its int8 weights and beside its twin with a hard sigmoid."""
    module = trained(hidden)
    x, labels = recorded("test")
    others: dict[str, nn.Module] = {"int8": compressed(module, "int8"), "hard sigmoid": HardVowels(module)}
    right = {name: share_right(each, x, labels) for name, each in {"itself": module, **others}.items()}
    given = x[answered(module, x) == labels][:count]
    methods, shape = ("linear", "combine"), (LENGTH, NUMBERS)
    first = tv.load(module, shape)
    title = f"the first {count} vowels; right in the test set: {right['itself']:.1%}"
    table = table_of(title, "eps", "second network", "right", *columns_of(methods))
    for eps in radii:
        ball = tv.LinfBall(eps)
        own = tv.bounds(first, given, ball, method=methods[-1])
        for name, second in others.items():
            row = compared(first, tv.load(second, shape), given, ball, methods, own, restarts=4, steps=40)
            table.add_row(f"{eps:g}", name, f"{right[name]:.1%}", *row)
    report(table)


@main.command(cls=Experiment)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--network", "name", default="gru", show_default=True)
@click.option("--db", "levels", multiple=True, type=float, default=(-80.0,), show_default=True, help="A level; several.")
@click.option("--how", default="float16", show_default=True, help="How the second network is made.")
@click.option("--count", default=5, show_default=True, help="So many clips, the shortest ones.")
def sounds(folder: Path, name: str, levels: Sequence[float], how: str, count: int) -> None:
    """From the waveform to the scores of a digit, by `linear`."""
    path, second = folder / f"{name}.onnx", folder / f"{name}-{how}.onnx"
    onnx.save(rounded_file(path, how), str(second))
    clips = sorted(spoken_digits(), key=lambda clip: (len(clip.samples), clip.name))[:count]
    table = table_of(f"{name}, {how}", "clip", "samples", "dB", *columns_of(("linear",)))
    for clip in clips:
        x = (clip.samples / FULL_SCALE_16).float().double()[None]
        models = [tv.load(each, shape=(x.shape[1],)) for each in (path, second)]
        for level in levels:
            ball = tv.DecibelBall(level)
            own = tv.bounds(models[0], x, ball, method="linear")
            row = compared(models[0], models[1], x, ball, ("linear",), own, restarts=4, steps=20)
            table.add_row(clip.name, str(x.shape[1]), f"{level:g}", *row)
    report(table)


def answered(module: nn.Module, x: Tensor) -> Tensor:
    """The classes that a network in float32 gives."""
    with torch.no_grad():
        found: Tensor = module(x.float()).argmax(1)
    return found


def share_right(module: nn.Module, x: Tensor, labels: Tensor) -> float:
    return float((answered(module, x) == labels).double().mean())


@main.command(cls=Experiment)
@MODEL
@EPS
@click.option("--how", default="int8", show_default=True, help="How the second network is made.")
@click.option("--method", default="combine", show_default=True)
@click.option("--count", default=100, show_default=True, help="So many images.")
def agreement(models: Sequence[str], eps: float, how: str, method: str, count: int) -> None:
    """The images on which the second network is proved to keep the first one's answer."""
    ball = tv.LinfBall(eps, clip=(0, 1))
    columns = "network", "agrees", "both robust", "refuted", "CPU s"
    table = table_of(f"{how}, {method}, the first {count} images, eps {eps:g}", *columns)
    for name in models:
        module = network(name)
        x, labels = inputs_of(module, count)
        first, second = (tv.load(each, tuple(x.shape[1:])) for each in (module, compressed(module, how)))
        found, took = timed(tv.differ, first, second, x, ball, agree=True, method=method)
        each = [tv.certify(model, x, labels, ball, method=method) for model in (first, second)]
        both = sum(all(result.verdict is tv.Verdict.ROBUST for result in results) for results in zip(*each, strict=True))
        counts = found.counts
        row = counts.get("EQUIVALENT", 0), both, counts.get("COUNTEREXAMPLE", 0)
        table.add_row(name, *map(str, row), f"{took / count:.2f}")
    report(table)


if __name__ == "__main__":
    main()
