"""Certified radii on MNIST by rows, beside POPQORN's and beside the least radii that a search refutes.

    python -m experiments.radius images [--image 1559 ...] [--method complete] [--time-limit 60]
    python -m experiments.radius rows [--model prover/04f_032h_1l ...] [--method linear] [--count 10]
    python -m experiments.radius targets [--model cells/rnn_tanh_07f_032h_1l] [--count 20] [--time-limit 60]
    python -m experiments.radius stops [--image 7359] [--eps 0.019 ...] [--time-limit 60]

One thread, no clip. `images` has the five images of which POPQORN's radii are known: norm inf, against all classes, on PROVER's
LSTM of 4 frames and 32 units. `rows` has mean radii in three norms over the first images that a network classifies correctly,
against all classes and against one drawn for each image. `targets` has radii in the norm 2 against one class drawn for each
image, all images as one batch. `stops` says what becomes of one image's margin beyond the radius that is proved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import click
import torch
from torch import Tensor

import tightverify as tv
from experiments.data import Frames, correctly_classified, mnist_test, prover_lstm, trained_cells
from experiments.figures import table_of
from experiments.pages import Experiment, report
from tightverify.branch.node import split_in
from tightverify.stages.progress import Step

MODEL = "04f_032h_1l"
POPQORN = {5907: 0.0045, 7359: 0.0120, 9857: 0.0060, 1559: 0.00375, 7079: 0.0090}
"""Radii that POPQORN proves, in 100 to 190 CPU seconds each."""
SEVERAL = (
    "prover/04f_032h_1l",
    "prover/07f_032h_1l",
    "cells/rnn_tanh_07f_032h_1l",
    "cells/rnn_tanh_14f_032h_2l",
    "cells/gru_04f_032h_1l",
    "cells/gru_14f_032h_1l",
)
NORMS = (1.0, 2.0, math.inf)
STAGES, SHARES = ("linear", "combine"), (1 / 6, 1 / 2, 1.0)


def network(name: str) -> Frames:
    """A trained network by its folder and its name."""
    folder, model = name.split("/")
    return prover_lstm(model) if folder == "prover" else trained_cells(model)


def timed(module: Frames, x: Tensor, y: Tensor, **asked: Any) -> tuple[tv.Radii, float]:
    """Radii, and the CPU seconds that all of them took, the import of the network aside."""
    model = tv.load(module, tuple(x.shape[1:]))
    began = time.process_time()
    found = tv.radius(model, x, y, **asked)
    return found, time.process_time() - began


def means(found: tv.Radii) -> list[str]:
    """The mean radius proved, the mean refuted, and the mean of their ratios, over those that have both."""
    both = torch.isfinite(found.refuted)
    proved, refuted = found.proved[both], found.refuted[both]
    return [f"{float(found.proved.mean()):.4f}", f"{float(refuted.mean()):.4f}", f"{float((proved / refuted).mean()):.2f}"]


@click.group()
def main() -> None:
    """Certified radii."""
    torch.set_num_threads(1)


@main.command(cls=Experiment)
@click.option("--image", "images", type=int, multiple=True, default=tuple(POPQORN), help="An image; several.")
@click.option("--method", default="complete", show_default=True, help="How to prove.")
@click.option("--time-limit", default=60.0, show_default=True, help="Seconds for each image.")
def images(images: Sequence[int], method: str, time_limit: float) -> None:
    """POPQORN's five images."""
    columns = ("image", "POPQORN", "proved", "refuted", "of refuted", "of POPQORN's", "CPU s")
    table = table_of(f"{MODEL}, norm inf, {method}, {time_limit:g} s", *columns)
    module, (pixels, labels) = prover_lstm(MODEL), mnist_test()
    ratios = []
    for image in images:
        x, y = module.cut(pixels[image : image + 1]), labels[image : image + 1]
        found, took = timed(module, x, y, norm=math.inf, method=method, time_limit=time_limit)
        low, high = float(found.proved), float(found.refuted)
        ratios.append(low / high)
        row = f"{POPQORN[image]:.5f}", f"{low:.5f}", f"{high:.5f}"
        table.add_row(str(image), *row, f"{low / high:.2f}", f"{low / POPQORN[image]:.2f}", f"{took:.1f}")
    report(table)
    report(f"Of the radius refuted {sum(ratios) / len(ratios):.2f} is proved in the mean.")


@main.command(cls=Experiment)
@click.option("--model", "models", multiple=True, default=SEVERAL, help="A network; several.")
@click.option("--method", default="linear", show_default=True, help="How to prove.")
@click.option("--count", default=10, show_default=True, help="So many images of each.")
@click.option("--time-limit", default=10.0, show_default=True, help="Seconds for each radius.")
def rows(models: Sequence[str], method: str, count: int, time_limit: float) -> None:
    """Mean radii against all classes, and against one drawn for each image, in the norms 1, 2 and inf."""
    columns = "network", "norm", "against", "proved", "refuted", "mean ratio", "CPU s a radius"
    table = table_of(f"{method}, the first {count} images", *columns)
    pixels, labels = mnist_test()
    for name in models:
        module = network(name)
        chosen = correctly_classified(module, pixels, labels, count)
        x, y = module.cut(pixels[chosen]), labels[chosen]
        for norm, (against, target) in product(NORMS, {"all": None, "one": drawn(y)}.items()):
            asked: dict[str, Any] = {"norm": norm, "target": target, "method": method, "time_limit": time_limit}
            found, took = timed(module, x, y, **asked)
            table.add_row(name, f"{norm:g}", against, *means(found), f"{took / count:.2f}")
    report(table)


def drawn(labels: Tensor) -> Tensor:
    """Another class than the label for each image, the same ones each time."""
    return (labels + torch.randint(1, 10, (len(labels),), generator=torch.Generator().manual_seed(0))) % 10


@main.command(cls=Experiment)
@click.option("--model", default="cells/rnn_tanh_07f_032h_1l", show_default=True, help="A network.")
@click.option("--method", "methods", multiple=True, default=("linear", "combine"), help="How to prove; several.")
@click.option("--count", default=20, show_default=True, help="So many images, as one batch.")
@click.option("--time-limit", default=60.0, show_default=True, help="Seconds for each radius.")
def targets(model: str, methods: Sequence[str], count: int, time_limit: float) -> None:
    """Radii in the norm 2 against one other class each."""
    table = table_of(f"{model}, {count} images as one batch", "method", "proved", "refuted", "mean ratio", "CPU s a radius")
    module, (pixels, labels) = network(model), mnist_test()
    chosen = correctly_classified(module, pixels, labels, count)
    y = labels[chosen]
    for method in methods:
        asked: dict[str, Any] = {"target": drawn(y), "method": method, "time_limit": time_limit}
        found, took = timed(module, module.cut(pixels[chosen]), y, norm=2, **asked)
        table.add_row(method, *means(found), f"{took / count:.2f}")
    report(table)


@main.command(cls=Experiment)
@click.option("--image", default=7359, show_default=True, help="An image.")
@click.option(
    "--eps", "sizes", type=float, multiple=True, default=(0.019, 0.021, 0.023, 0.026, 0.03), help="A radius; several."
)
@click.option("--time-limit", default=60.0, show_default=True, help="Seconds for each radius.")
def stops(image: int, sizes: Sequence[float], time_limit: float) -> None:
    """An image's smallest margin from stage to stage, by the radius."""
    columns = ("eps", "verdict", "linear", "combine", *(f"after {share * time_limit:g} s" for share in SHARES), "splits")
    table = table_of(f"{MODEL}, image {image}, norm inf, complete, {time_limit:g} s: smallest margin proved", *columns)
    module, (pixels, labels) = prover_lstm(MODEL), mnist_test()
    x, y = module.cut(pixels[image : image + 1]), labels[image : image + 1]
    model = tv.load(module, tuple(x.shape[1:]))
    for eps in sizes:
        steps: list[Step] = []
        settings: dict[str, Any] = {"method": "complete", "time_limit": time_limit, "thorough": True}
        (found,) = tv.certify(model, x, y, tv.LinfBall(eps), callback=steps.append, **settings)
        known = [(step.stage, step.seconds, float(step.margins.min())) for step in steps]
        stages = [max((margin for stage, _, margin in known if stage == name), default=math.nan) for name in STAGES]
        times = [max(margin for _, at, margin in known if at <= share * time_limit) for share in SHARES]
        shown = (f"{margin:.3f}" for margin in (*stages, *times))
        table.add_row(f"{eps:g}", found.verdict.name, *shown, str(len(split_in(found.tree))))
    report(table)


if __name__ == "__main__":
    main()
