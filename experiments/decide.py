"""Every input decided: how many, by which stage, after how many seconds and splits.

    python -m experiments.decide [--set first_twenty|first_hundred] [--model 04f_032h_1l ...] [--eps 0.010 ...] [--batch 1]

An L-infinity ball clipped to [0, 1], inputs one at a time. `first_twenty`: the first correctly classified test images in
the order of the test set; `first_hundred`: in PROVER's order. Writes a line for each input, from which table and picture
(decided inputs against seconds) are made; `again.py` decides once more what they say.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import tightverify as tv
from experiments.curves import decided
from experiments.data import Frames, correctly_classified, mnist_test, prover_lstm, prover_order
from experiments.figures import table_of
from experiments.pages import Experiment, report
from tightverify.api.certify import stream
from tightverify.branch.node import split_in
from tightverify.json_lines import read_lines
from tightverify.settings import Settings

SETS = {
    "first_twenty": [("04f_032h_1l", 0.010), ("04f_032h_2l", 0.013), ("07f_032h_1l", 0.010), ("04f_032h_1l", 0.020)],
    "first_hundred": [
        (model, eps) for model in ("04f_032h_1l", "04f_032h_2l", "07f_032h_1l", "04f_128h_1l") for eps in (0.010, 0.014, 0.017)
    ],
}
AFTER = (10, 60, 300)
DECIDED = tv.Verdict.ROBUST.name, tv.Verdict.COUNTEREXAMPLE.name


@click.command(cls=Experiment)
@click.option("--set", "name", type=click.Choice(list(SETS)), default="first_twenty")
@click.option("--model", "models", multiple=True)
@click.option("--eps", "radii", multiple=True, type=float)
@click.option("--method", default="complete", show_default=True)
@click.option("--time-limit", default=300.0, show_default=True, help="Seconds per input.")
@click.option("--batch", default=1, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--splits", default=100_000, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--limit", type=int, help="So many inputs of each set.")
@click.option("--still-open", is_flag=True, help="Only what an earlier run of the same left open.")
@click.option("--show", is_flag=True, help="Nothing is verified: the table and the picture of what there is.")
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
    threads: int,
    limit: int | None,
    still_open: bool,
    show: bool,
    out: Path,
) -> None:
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    settings = Settings(method=method, time_limit=time_limit, splits=splits, seed=seed)
    found = {}
    for model, eps in SETS[name]:
        if (models and model not in models) or (radii and eps not in radii):
            continue
        path = out / f"{name}-{model}-{eps:.3f}-{batch}-{seed}.jsonl"
        if not show:
            order, count = (prover_order(), 100) if name == "first_hundred" else (None, 20)
            stand, case = DECIDED if still_open else (), f"{model} {eps:.3f}"
            run(prover_lstm(model), case, eps, order, limit or count, settings, batch, path, stand)
        if path.exists():
            found[f"{model} {eps:.3f}"] = lines_of(path)
    columns = "model", "robust", "falsified", "open", *(f"after {after} s" for after in AFTER)
    table = table_of(f"{name}, method {method}", *columns, "decided by", "median s", "longest s", "splits")
    for label, rows in found.items():
        table.add_row(label, *counts(rows))
    report(table)
    curves = {label: [row["seconds"] for row in rows if row["verdict"] in DECIDED] for label, rows in found.items()}
    decided(curves, f"{name} · method {method} · {time_limit:g} s", out / f"{name}.png")


def run(
    module: Frames,
    name: str,
    eps: float,
    order: Tensor | None,
    count: int,
    settings: Settings,
    batch: int,
    path: Path,
    stand: Collection[str],
) -> None:
    """Decide the inputs, except where verdicts of an earlier run are to `stand`, and write a line for each."""
    images, labels = mnist_test()
    chosen = correctly_classified(module, images, labels, count, order)
    kept = {row["image"]: row for row in lines_of(path)} if stand and path.exists() else {}
    chosen = chosen[[kept.get(int(image), {}).get("verdict") not in stand for image in chosen]]
    if not len(chosen):
        return
    x = module.cut(images[chosen])
    loaded = tv.load(module, tuple(x.shape[1:]))
    for result in stream(loaded, x, labels[chosen], tv.LinfBall(eps, clip=(0, 1)), settings, batch=batch):
        image = int(chosen[result.index])
        row = {"image": image, "verdict": result.verdict.name, "margin": result.margin}
        kept[image] = row | {"stage": result.stage, "seconds": result.seconds, "splits": len(split_in(result.tree))}
        beside = path.with_suffix(".part")
        beside.write_text("".join(json.dumps(one) + "\n" for one in kept.values()))
        beside.replace(path)
        click.echo(f"{name} {kept[image]}", err=True)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return read_lines(path, dict, "a result", "image, verdict", cut_short=True)


def counts(rows: list[dict[str, Any]]) -> list[str]:
    """What the table says of some lines."""
    done = [row for row in rows if row["verdict"] in DECIDED]
    robust = sum(row["verdict"] == "ROBUST" for row in rows)
    found: list[object] = [robust, len(done) - robust, len(rows) - len(done)]
    found += [sum(row["seconds"] <= after for row in done) for after in AFTER]
    found += [", ".join(f"{stage} {number}" for stage, number in Counter(row["stage"] for row in done).items())]
    every = sorted(row["seconds"] for row in rows)
    found += [f"{every[len(every) // 2]:.2f}", f"{every[-1]:.1f}", sum(row["splits"] for row in rows)]
    return list(map(str, found))


if __name__ == "__main__":
    main()
