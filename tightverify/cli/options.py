"""What several commands share: options that name a region or say what to take of audio files, and what they come to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tightverify.errors import UsageError

if TYPE_CHECKING:
    from tightverify.region import LpBall, Perturbation

Command = TypeVar("Command", bound=Callable[..., Any])

MOST_POSITIONS = 1_000_000
FILE = click.Path(path_type=Path)
AT_LEAST_ONE = click.IntRange(min=1)
EPS_HELP = "Radius of the ball around each input."
MODEL = click.argument("model", type=FILE, metavar="MODEL.onnx")
FORMATS = ("png", "pdf", "svg")
FORMAT = click.option(
    "--format", "kind_of_file", type=click.Choice(FORMATS), help="What pictures are written as; png if not given."
)
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


def segment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
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
    click.option("--samples", callback=segment, metavar="A-B", help="Stretch of a waveform's samples that may change."),
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


INTO_FILE = (
    click.option("--out", type=FILE, help="File for one JSON line per input, written as the run goes; - for stdout."),
    click.option("--force", is_flag=True, help="Replace files that exist."),
    QUIET,
)


def common(methods: str) -> Callable[[Command], Command]:
    """The options that `certify` and `bounds` share; their methods differ."""
    method = click.option("--method", default="linear", show_default=True, help=f"How to bound: {methods}.")
    return options(*LEVEL, *REGION, method, *WORK, *INTO_FILE)
