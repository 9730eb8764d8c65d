"""What several commands share: options that name a region or say what to take of audio files, and what they come to."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tightverify.errors import InputError, UsageError

if TYPE_CHECKING:
    from tightverify.audio import Reading
    from tightverify.clips import Clips
    from tightverify.region import LpBall, Perturbation
    from tightverify.runs import Inputs

Command = TypeVar("Command", bound=Callable[..., Any])

MOST_POSITIONS = 1_000_000
ARRAYS = ".npz"
FILE = click.Path(path_type=Path)
AT_LEAST_ONE = click.IntRange(min=1)
EPS_HELP = "Radius of the ball around each input."
MODEL = click.argument("model", type=FILE, metavar="MODEL.onnx")
QUIET = click.option("--quiet", is_flag=True, help="No progress and no advice on stderr.")
LEVELS = "--eps", "--db", "--snr", "--gain"
LEVEL = (
    click.option("--eps", type=float, help=EPS_HELP),
    click.option("--db", type=float, help="Decibel ball instead: changes of so many dB relative to the peak, such as -80."),
    click.option("--snr", type=float, help="Ball of a signal-to-noise ratio instead: so many dB, such as 60."),
    click.option("--gain", type=float, help="One unknown factor instead: between minus and plus so many dB, such as 3."),
)
READING = (
    click.option("--rate", type=AT_LEAST_ONE, metavar="HZ", help="The sampling rate that the model wants; others are refused."),
    click.option("--resample", is_flag=True, help="Resample audio files of another rate instead."),
    click.option("--channel", type=click.IntRange(min=0), help="Channel to take of audio files that have several."),
    click.option("--cut", type=float, nargs=2, default=None, metavar="START STOP", help="Stretch to take, in seconds."),
    click.option("--int16", is_flag=True, help="The model takes samples in units of 16 bits, not from -1 to 1."),
)
SOUND = (
    click.option("--labels", type=FILE, metavar="LABELS.csv", help="Labels of audio files: lines of file,label."),
    *READING,
)


def positions(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Numbers and ranges, such as 0,3-5."""
    if value is None:
        return None
    found: list[int] = []
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        wrong = not first.isdecimal() or (dash and not last.isdecimal())
        stop = 0 if wrong else int(last if dash else first) + 1
        if wrong or not int(first) < stop <= MOST_POSITIONS:
            raise click.BadParameter(f"{value!r} cannot be read as positions; write numbers and ranges, such as 0,3-5")
        found.extend(range(int(first), stop))
    return tuple(found)


def stretch(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """The first and the last of some samples, such as 1000-1999, as a start and the place after the end."""
    if value is None:
        return None
    first, _, last = value.partition("-")
    if not (first.strip().isdecimal() and last.strip().isdecimal() and int(first) <= int(last)):
        raise click.BadParameter(
            f"{value!r} cannot be read as a stretch; write its first and its last sample, such as 1000-1999"
        )
    return int(first), int(last) + 1


REGION = (
    click.option("--norm", type=click.Choice(["inf", "2", "1"]), default="inf", show_default=True, help="Norm of the ball."),
    click.option("--clip", type=float, nargs=2, default=None, metavar="LOW HIGH", help="Range that inputs keep to."),
    click.option(
        "--frames", callback=positions, metavar="LIST", help="Frames that may change, such as 0,3-5; all if not given."
    ),
    click.option("--features", callback=positions, metavar="LIST", help="Features that may change; all if not given."),
    click.option("--samples", callback=stretch, metavar="A-B", help="Stretch of a waveform's samples that may change."),
)
WORK = (
    click.option("--limit", type=AT_LEAST_ONE, help="Stop after so many inputs."),
    click.option("--batch", type=AT_LEAST_ONE, default=100, show_default=True, help="Inputs worked on together."),
    click.option("--batch-axis", type=click.IntRange(min=0), help="Axis of the model's input along which a batch goes."),
    click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to compute."),
    click.option("--threads", type=AT_LEAST_ONE, default=None, help="Threads to compute with; as many as pay if not given."),
)


def options(*several: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several arguments and options at once, in their order."""

    def decorate(command: Command) -> Command:
        for option in reversed(several):
            command = option(command)
        return command

    return decorate


def use_threads(count: int | None) -> None:
    """Compute with so many threads, None for as many as pay."""
    import torch

    if count is not None:
        os.environ["OMP_NUM_THREADS"] = str(count)  # it is the user's choice, also where it is that of torch
        torch.set_num_threads(count)


def say_if_busy(quiet: bool) -> None:
    """Say, before work begins, what a user should know of a busy machine."""
    from tightverify.console import say
    from tightverify.threads import busy

    if not quiet and (words := busy()):
        say(f"note: {words}")


def refuse_folder(folder: Path, force: bool, files: Sequence[str]) -> None:
    """Say at once that results cannot go to a folder, or that others are in the way."""
    from tightverify.disk import STDOUT, refuse_unwritable_folder
    from tightverify.runs import refuse_existing

    if str(folder) == STDOUT:
        raise UsageError(f"{folder} was given to --out, which stands for stdout; several files are written: give a folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder to --out")
    for name in files:
        refuse_existing(folder / name, force)
    refuse_unwritable_folder(folder)


def read_given(
    model: Path, inputs: tuple[Path, ...], reading: Reading, labels: Path | None, batch_axis: int | None, top: int
) -> Inputs | Clips:
    """Arrays from a file, or clips from audio files and folders."""
    from tightverify.audio import SUFFIXES, Reading
    from tightverify.runs import read, read_clips

    sounds = [path for path in inputs if path.is_dir() or path.suffix.lower() in SUFFIXES]
    if len(sounds) == len(inputs):
        return read_clips(model, inputs, reading, labels, batch_axis)
    if len(inputs) > 1:
        other = next(path for path in inputs if path not in sounds)
        raise UsageError(
            f"{other} was given beside others; wanted one {ARRAYS} file of arrays, or audio files ({', '.join(SUFFIXES)}) and "
            "folders of them"
        )
    if inputs[0].is_file() and inputs[0].suffix.lower() not in (ARRAYS, ".npy") and not zipfile.is_zipfile(inputs[0]):
        raise InputError(
            f"{inputs[0]} is not an {ARRAYS} file of arrays, and of audio files only {', '.join(SUFFIXES)} are read; convert it"
        )
    if reading != Reading() or labels is not None:
        raise UsageError(f"options for audio files were given with {inputs[0]}, which is none; leave them out, or give clips")
    return read(model, inputs[0], batch_axis, top)


def files_read(inputs: tuple[Path, ...], *others: Path | None) -> list[Path]:
    """All files that a run reads, those in folders among them: results must not replace them."""
    found = [path for path in others if path is not None]
    for path in inputs:
        found.extend(path.iterdir() if path.is_dir() else [path])
    return found


def region_of(db: float | None, snr: float | None, gain: float | None, eps: float | None, **ball: Any) -> Perturbation:
    """The region that the options name."""
    from tightverify.region import DecibelBall, Gain, SnrBall

    given = [name for name, value in zip(LEVELS, (eps, db, snr, gain), strict=True) if value is not None]
    if len(given) != 1:
        raise UsageError(f"{' and '.join(given) or 'no size'} was given for the region; wanted one of {', '.join(LEVELS)}")
    if eps is not None:
        return ball_of(eps, **ball)
    without = ("norm", "frames", "features") if gain is None else ("norm", "frames", "features", "clip", "samples")
    useless = [name for name in without if ball[name] not in (None, "inf")]
    if useless:
        raise UsageError(f"--{useless[0]} was given beside {given[0]}, and says nothing there; leave it out, or give --eps")
    if db is not None:
        return DecibelBall(db, ball["clip"], ball["samples"])
    return SnrBall(snr, ball["clip"], ball["samples"]) if snr is not None else Gain(gain or 0.0)


def ball_of(
    eps: float,
    norm: str,
    clip: tuple[float, float] | None,
    frames: tuple[int, ...] | None,
    features: tuple[int, ...] | None,
    samples: tuple[int, int] | None,
) -> LpBall:
    """The ball that the options name."""
    from tightverify.region import LpBall

    return LpBall(eps, float(norm), clip, frames, features, samples)
