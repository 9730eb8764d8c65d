"""The pictures of docs/pictures.md, by the commands that stand on that page.

    python -m experiments.pictures [--into docs/pictures] [--work FOLDER]

Every command of the page is run, in the page's order, in a folder that has what they read: a PROVER LSTM on MNIST as
mnist.onnx, and the first images that it classifies rightly as mnist.npz. Then each picture that the page shows is copied from
there, with fewer colours, to take less room.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tempfile
import warnings
from contextlib import chdir
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from experiments.data import correctly_classified, mnist_test, prover_lstm
from experiments.sounds import main as sounds
from tightverify.cli.main import main as tightverify

PAGE = Path(__file__).resolve().parents[1] / "docs" / "pictures.md"
BLOCK, SHOWN = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL), re.compile(r"!\[[^\]]*\]\(pictures/([^)]+)\)")
NAME, IMAGES = "04f_032h_2l", 20
COLOURS = 256
"""More than a picture's own and what is between them at the edges of letters and lines."""


def commands(page: str) -> list[list[str]]:
    """The commands of a page, in words."""
    return [shlex.split(line) for block in BLOCK.findall(page) for line in block.replace("\\\n", " ").splitlines()]


def prepare(folder: Path) -> None:
    """What the commands read."""
    lstm, (images, labels) = prover_lstm(NAME), mnist_test()
    chosen = correctly_classified(lstm, images, labels, IMAGES)
    np.savez(folder / "mnist.npz", x=lstm.cut(images)[chosen].float().numpy(), y=labels[chosen].numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        like, path = (lstm.float().cut(images)[:1].float(),), folder / "mnist.onnx"
        torch.onnx.export(lstm, like, path, input_names=["x"], dynamic_axes={"x": {0: "N"}}, dynamo=False)


@click.command()
@click.option("--into", type=click.Path(path_type=Path), default=PAGE.with_suffix(""), help="Folder for the pictures.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder that commands run in; what is there is not made again.")
def main(into: Path, work: Path | None) -> None:
    torch.set_num_threads(1)
    page, into = PAGE.read_text(encoding="utf-8"), into.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if work is None else work
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "mnist.onnx").exists():
            prepare(folder)
        with chdir(folder):
            for words in commands(page):
                print(*words, flush=True)
                if not made_by(words).exists():
                    run(words)
        for name in SHOWN.findall(page):
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            small(folder / name, into / name)
            print(f"{into / name}: {os.path.getsize(into / name) / 1000:.0f} kB")


def made_by(words: list[str]) -> Path:
    """What a command of the page writes."""
    option = next(name for name in ("--picture", "--out", "--plot") if name in words)
    return Path(words[words.index(option) + 1])


def run(words: list[str]) -> None:
    """A command of the page: of tightverify, or of the experiment that draws a clip's segments."""
    if words[:3] == ["python", "-m", "experiments.sounds"]:
        sounds(words[3:], standalone_mode=False)
    elif tightverify([*words[1:], "--quiet"]) != 0:
        sys.exit("the command failed")


def small(path: Path, into: Path) -> None:
    """A picture with no more colours than it needs."""
    if path.suffix != ".png":
        shutil.copy(path, into)
        return
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(into, optimize=True)


if __name__ == "__main__":
    main()
