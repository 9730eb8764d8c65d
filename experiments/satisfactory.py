"""The cases of vnnlib-satisfactory, of known answers: how many are answered rightly, left open, refused, or wrong.

    pip install vnnlib-satisfactory==1.0.1   # in an environment of its own
    vnnlib-satisfactory run --solver true    # writes its cases to .vnnlib-satisfactory
    python -m experiments.satisfactory .vnnlib-satisfactory

Its queries are of VNN-LIB 2.0, most of them about tensors of float32, which are read as real numbers here.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click
import torch

import tightverify as tv
from experiments.figures import table_of, timed
from experiments.pages import Experiment, report
from tightverify.errors import TightVerifyError

RIGHT, OPEN, REFUSED, WRONG, CRASHED = KINDS = "right", "left open", "refused", "wrong", "crashed"


def answered(folder: Path, case: dict[str, Any], time_limit: float) -> tuple[str, str]:
    """What became of a case, and of one that was not answered rightly a few words."""
    networks = {name: folder / file for name, file in case["networks"].items()}
    try:
        found = tv.vnnlib(networks, folder / case["vnnlib"], real=True, time_limit=time_limit).outcome
    except TightVerifyError as error:
        return REFUSED, str(error)
    except Exception as error:
        return CRASHED, f"{type(error).__name__}: {error}"
    if found in (tv.Outcome.UNKNOWN, tv.Outcome.TIMEOUT):
        return OPEN, f"{found}, where it is {case['expected'].lower()}"
    right = found == case["expected"].lower()
    return (RIGHT, "") if right else (WRONG, f"{found}, where it is {case['expected'].lower()}")


@click.command(cls=Experiment)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--time-limit", default=20.0, show_default=True, help="Seconds per case.")
def main(folder: Path, time_limit: float) -> None:
    """Cases of VNN-LIB 2.0 with known answers."""
    if not (folder / "manifest.json").exists():
        raise click.UsageError(f"{folder} has no manifest.json; give the folder that vnnlib-satisfactory wrote")
    torch.set_num_threads(1)
    counts: dict[str, Counter[str]] = {}
    others, longest = [], 0.0
    for case in json.loads((folder / "manifest.json").read_text()):
        category = case["category"]
        seconds, (kind, words) = timed(lambda: answered(folder / "tests" / category, case, time_limit))  # noqa: B023
        counts.setdefault(category, Counter())[kind] += 1
        longest = max(longest, seconds)
        if kind != RIGHT:
            others.append(f"* {case['name']}: {kind} ({words.replace(f'{folder}/', '')})")
    table = table_of(
        f"vnnlib-satisfactory: {time_limit:g} s each, at most {longest:.0f} s were needed", "about", "cases", *KINDS
    )
    everything = Counter[str]()
    for category, found in sorted(counts.items()):
        table.add_row(category, str(found.total()), *(str(found[kind]) for kind in KINDS))
        everything += found
    table.add_row("all", str(everything.total()), *(str(everything[kind]) for kind in KINDS))
    report(table, "\n".join(others))
    if everything[WRONG] or everything[CRASHED]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
