"""VNN-COMP's own scripts over a benchmark's instances, beside the answers that are known.

    python -m experiments.vnncomp.check FOLDER [--limit 2] [--timeout 20]

Of each network the first instances are prepared and run as the competition does, by version 1.0, and by the command of version
2.0; a wrong answer, or two that contradict each other, ends it with an error.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

SCRIPTS = Path(__file__).resolve().parent
CATEGORY = "recurrent"


@dataclass(frozen=True)
class Case:
    """A network, its query in both versions, and the answer if it is known."""

    network: Path
    first: Path
    second: Path
    known: str

    def prepared(self) -> bool:
        """Whether the model and the query are read."""
        words = ["bash", str(SCRIPTS / "prepare_instance.sh"), "v1", CATEGORY, str(self.network), str(self.first)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def by_scripts(self, out: Path, timeout: float) -> str:
        """What the competition reads in the file of results."""
        out.unlink(missing_ok=True)
        script = str(SCRIPTS / "run_instance.sh")
        words = ["bash", script, "v1", CATEGORY, str(self.network), str(self.first), str(out), f"{timeout:g}"]
        subprocess.run(words, capture_output=True, check=False)
        return out.read_text().split()[0] if out.exists() else "error"

    def by_second(self, timeout: float) -> str:
        """What the command of version 2.0 prints first."""
        words = [sys.executable, "-m", "tightverify", "verify", str(self.second), "--network", f"N={self.network}"]
        done = subprocess.run([*words, "--timeout", f"{timeout:g}"], capture_output=True, text=True, check=False)
        return done.stdout.split()[0] if done.stdout else "error"


def cases(out: Path, each: int) -> list[Case]:
    """The first of each network."""
    known = {row[0]: row[1] for row in rows(out / "known.csv")}
    seen, found = Counter[str](), list[Case]()
    for network, query, _ in rows(out / "instances.csv"):
        seen[network] += 1
        if seen[network] <= each:
            second = out / query.replace("vnnlib/", "vnnlib2/", 1)
            found.append(Case(out / network, out / query, second, known.get(query, "")))
    return found


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--limit", "each", default=2, show_default=True, help="Instances of each network.")
@click.option("--timeout", default=20.0, show_default=True, help="Seconds of each.")
def main(folder: Path, each: int, timeout: float) -> None:
    """Run the scripts, and say what is wrong."""
    wrong, counts = 0, Counter[str]()
    for case in cases(folder, each):
        began = time.monotonic()
        answers = [case.by_scripts(folder / "result.txt", timeout), case.by_second(timeout)]
        said = {answer for answer in (*answers, case.known) if answer in ("sat", "unsat")}
        bad = len(said) > 1 or "error" in answers or not case.prepared()
        wrong += bad
        counts.update(answers)
        words = f"{case.first.stem}: {answers[0]}, {answers[1]}, known {case.known or 'not'}, {time.monotonic() - began:.0f} s"
        click.echo(f"{words}{', WRONG' if bad else ''}")
    click.echo(", ".join(f"{count} {answer}" for answer, count in sorted(counts.items())))
    if wrong:
        raise click.ClickException(f"{wrong} instances are answered wrongly, or not at all")


if __name__ == "__main__":
    main()
