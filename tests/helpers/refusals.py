"""What the command line says of what it refuses, and what it leaves behind: nothing but one sentence on stderr."""

from __future__ import annotations

from pathlib import Path

import pytest


def assert_one_sentence(capsys: pytest.CaptureFixture[str], words: str, unwritten: Path) -> None:
    """One error with these words, nothing on stdout, nothing written."""
    printed, told = capsys.readouterr()
    assert printed == ""
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert words in told
    assert not unwritten.exists()
