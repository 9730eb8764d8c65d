"""docs/pictures.md: every picture that there is, each made by a command that stands there."""

from __future__ import annotations

from pathlib import Path

from experiments.pictures import PAGE, SHOWN, commands
from tightverify.cli.main import COMMANDS

FOLDER = PAGE.with_suffix("")
MOST_BYTES = 600_000
NAMES = (
    *("certified", "cactus", "margins", "falling", "trace", "planes-0", "gaps-0", "gaps"),
    *("widths", "ratios", "margins", "segments"),
)


def test_every_picture_is_shown_and_small() -> None:
    shown = SHOWN.findall(PAGE.read_text(encoding="utf-8"))
    assert [Path(name).stem for name in shown] == list(NAMES)
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sorted(str(path.relative_to(FOLDER)) for path in files) == sorted(shown)
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


def test_every_picture_has_its_command() -> None:
    given = commands(PAGE.read_text(encoding="utf-8"))
    assert all(words[0] == "python" or words[1] in COMMANDS for words in given)
    made = {words[k + 1] for words in given for k, word in enumerate(words) if word in ("--out", "--picture", "--trace")}
    for name in SHOWN.findall(PAGE.read_text(encoding="utf-8")):
        assert made & {name, name.split("/")[0], str(Path(name).with_suffix(".jsonl"))}, name
