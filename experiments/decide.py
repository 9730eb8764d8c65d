"""Every input decided: how many, by which stage, after how many seconds and splits.

    python experiments/decide.py [--set first_twenty|first_hundred] [--model 04f_032h_1l ...] [--eps 0.010 ...] [--batch 1]

An L-infinity ball clipped to [0, 1], inputs one at a time, one thread. `first_twenty`: the first correctly classified
test images in the order of the test set; `first_hundred`: in PROVER's order. Draws decided inputs against seconds into a
picture, and writes a line for each input.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import click
import matplotlib
import torch
from data import correctly_classified, mnist_test, prover_lstm, prover_order
from figures import table_of
from rich.console import Console

import tightverify as tv
from tightverify.api import stream
from tightverify.settings import Settings

matplotlib.use("Agg")
SETS = {
    "first_twenty": [("04f_032h_1l", 0.010), ("04f_032h_2l", 0.013), ("07f_032h_1l", 0.010), ("04f_032h_1l", 0.020)],
    "first_hundred": [
        (model, eps) for model in ("04f_032h_1l", "04f_032h_2l", "07f_032h_1l", "04f_128h_1l") for eps in (0.010, 0.014)
    ],
}
AFTER = (10, 60, 300)


@click.command()
@click.option("--set", "name", type=click.Choice(list(SETS)), default="first_twenty")
@click.option("--model", "models", multiple=True)
@click.option("--eps", "radii", multiple=True, type=float)
@click.option("--method", default="complete", show_default=True)
@click.option("--time-limit", default=300.0, show_default=True, help="Seconds per input.")
@click.option("--batch", default=1, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--splits", default=100_000, show_default=True)
@click.option("--limit", type=int, help="So many inputs of each set.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "out", show_default=True)
def main(
    name: str,
    models: tuple[str, ...],
    radii: tuple[float, ...],
    method: str,
    time_limit: float,
    batch: int,
    seed: int,
    splits: int,
    limit: int | None,
    out: Path,
) -> None:
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    columns = "model", "eps", "robust", "falsified", "open", *(f"after {after} s" for after in AFTER)
    table = table_of(f"{name}, method {method}", *columns, "decided by", "median s", "longest s", "splits", "CPU s")
    images, labels = mnist_test()
    curves = {}
    for model, eps in SETS[name]:
        if (models and model not in models) or (radii and eps not in radii):
            continue
        module = prover_lstm(model)
        order, count = (prover_order(), 100) if name == "first_hundred" else (None, 20)
        chosen = correctly_classified(module, images, labels, limit or count, order)
        x = module.cut(images[chosen])
        loaded = tv.load(module, tuple(x.shape[1:]))
        settings = Settings(method=method, time_limit=time_limit, splits=splits, seed=seed)
        began = time.process_time()
        found = []
        with (out / f"{name}-{model}-{eps:.3f}-{batch}-{seed}.jsonl").open("w") as lines:
            for result in stream(loaded, x, labels[chosen], tv.LinfBall(eps, clip=(0, 1)), settings, batch=batch):
                found.append(result)
                row = {"image": int(chosen[result.index]), "verdict": result.verdict.name, "margin": result.margin}
                row |= {"stage": result.stage, "seconds": result.seconds, "splits": len(result.tree) // 2}
                lines.write(json.dumps(row) + "\n")
                lines.flush()
                click.echo(f"{model} {eps:.3f} {result.index} {row}", err=True)
        took = time.process_time() - began
        decided = [r for r in found if r.verdict in (tv.Verdict.ROBUST, tv.Verdict.COUNTEREXAMPLE)]
        seconds = sorted(result.seconds for result in decided)
        curves[f"{model} {eps:.3f}"] = seconds
        robust = sum(result.verdict is tv.Verdict.ROBUST for result in found)
        stages = Counter(result.stage for result in decided)
        row = [model, f"{eps:.3f}", robust, len(decided) - robust, len(found) - len(decided)]
        row += [sum(second <= after for second in seconds) for after in AFTER]
        row += [", ".join(f"{stage} {number}" for stage, number in stages.items())]
        every = sorted(result.seconds for result in found)
        row += [f"{every[len(every) // 2]:.2f}", f"{every[-1]:.1f}", sum(len(r.tree) // 2 for r in found), f"{took:.0f}"]
        table.add_row(*map(str, row))
    Console(width=180).print(table)
    draw(curves, out / f"{name}.png")


def draw(curves: dict[str, list[float]], path: Path) -> None:
    """Decided inputs against seconds."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for label, seconds in curves.items():
        axes.step(seconds, range(1, len(seconds) + 1), where="post", label=label)
    axes.set_xscale("log")
    axes.set_xlabel("seconds")
    axes.set_ylabel("decided inputs")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
