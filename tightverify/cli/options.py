"""What several commands share: options that name a region, an output, or say what to take of audio files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tightverify.cli.command import AT_LEAST_ONE, FILE, gathered, option
from tightverify.errors import UsageError
from tightverify.option import Group
from tightverify.writing import FORMATS

if TYPE_CHECKING:
    from tightverify.inputs.audio import Reading
    from tightverify.inputs.importing import Importing
    from tightverify.region import LpBall, Perturbation
    from tightverify.report.outputs import Folder, Output

MOST_POSITIONS = 1_000_000
QUESTION, IN_REGION, SOUNDS, WRITTEN = (group.value for group in (Group.QUESTION, Group.REGION, Group.SOUNDS, Group.OUTPUT))
"""Headings of options, beside those of settings."""

MODEL = click.argument("model", type=FILE, metavar="MODEL.onnx")
LIMIT = option(QUESTION, "--limit", type=AT_LEAST_ONE, help="Stop after so many inputs.")
BATCH_AXIS = option(
    QUESTION, "--batch-axis", type=click.IntRange(min=0), help="Axis of the model's input along which a batch goes."
)
HOW = (
    BATCH_AXIS,
    option(
        QUESTION,
        "--fix",
        multiple=True,
        metavar="NAME=VALUE[,...]",
        help="Fix inputs of the model but one, by numbers or arrays: state=0,sr=16000 or h0=FILE.npz.",
    ),
    option(QUESTION, "--output", metavar="NAME", help="Output of the model that is asked about; its first if not given."),
    option(QUESTION, "--frame", metavar="last|all|K", help="Frame of the output that is asked about, of several."),
    option(QUESTION, "--unroll", type=AT_LEAST_ONE, metavar="K", help="Call a model with a state K times, for K chunks."),
    option(
        QUESTION,
        "--state",
        multiple=True,
        metavar="OUTPUT=INPUT[,...]",
        help="Outputs that go back into inputs as --unroll calls the model, where names and shapes do not say it.",
    ),
)


def importing_of(**given: Any) -> Importing:
    """How the model is read; how far that is, is said unless all shall be quiet."""
    from tightverify.inputs.importing import Importing

    return Importing(**given, progress=not click.get_current_context().params.get("quiet", False))


IMPORTING = gathered("importing", importing_of, *HOW)
EPS = option(IN_REGION, "--eps", type=float, help="Radius of the ball around each input.")
LEVELS = "--eps", "--db", "--snr", "--gain", "--own", "--region", "--substitute", "--nearest"


def region_words(help: str) -> Callable[[Callable[..., Any]], Any]:
    """The option that names several inputs and a region for each."""
    return option(IN_REGION, "--region", "region_words", multiple=True, metavar="NAME=NORM:EPS[,...]", help=help)


LEVEL_OF_ONE = (
    EPS,
    option(IN_REGION, "--db", type=float, help="Decibel ball instead: changes of so many dB of the peak, such as -80."),
    option(IN_REGION, "--snr", type=float, help="Ball of a signal-to-noise ratio instead: so many dB, such as 60."),
    option(IN_REGION, "--gain", type=float, help="One unknown factor instead: between minus and plus so many dB, such as 3."),
    option(IN_REGION, "--own", is_flag=True, help="Region of each input's own: eps, or lower and upper, beside x in its file."),
)
"""What says the kind and the size of a region of an input of floats."""
LEVEL = (
    *LEVEL_OF_ONE,
    region_words(
        "Regions of several perturbed inputs instead, of the arrays of these names: x=inf:0.01,noise=2:0.1, or in the words of "
        "these options: 'x=db -80', 'x=own'."
    ),
    option(
        IN_REGION,
        "--substitute",
        type=FILE,
        metavar="CHOICES",
        help="Words replaced by others instead: lines of word: other, third, or a JSON object of lists.",
    ),
    option(
        IN_REGION, "--nearest", type=AT_LEAST_ONE, help="Words replaced by so many that are nearest in the embedding instead."
    ),
    option(IN_REGION, "--most", type=AT_LEAST_ONE, help="Words replaced at once, at most; any number if not given."),
)
CLASSES = option(
    QUESTION, "--classes", type=FILE, metavar="NAMES.txt", help="Names of the classes, one a line: labels may be these words."
)
NORMS = "inf", "2", "1"
NORM = option(IN_REGION, "--norm", type=click.Choice(NORMS), default="inf", show_default=True, help="Norm of the ball.")


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
            f"{value!r} cannot be read as a segment; write its first and its last sample, such as 1000-1999"
        )
    return int(first), int(last) + 1


BALL_PER = option(
    IN_REGION,
    "--ball-per",
    type=click.Choice(["frame", "feature"]),
    help="A ball of that radius for each frame or feature, all at once, not one for the whole input.",
)
CLIP = option(IN_REGION, "--clip", type=float, nargs=2, default=None, metavar="LOW HIGH", help="Range that inputs keep to.")
LIMITS = (
    NORM,
    CLIP,
    option(
        IN_REGION,
        "--frames",
        callback=positions,
        metavar="LIST",
        help="Frames that may change, such as 0,3-5; else all.",
    ),
    option(IN_REGION, "--features", callback=positions, metavar="LIST", help="Features that may change; all if not given."),
    option(IN_REGION, "--samples", callback=segment, metavar="A-B", help="Segment of a waveform's samples that may change."),
    BALL_PER,
)


def region_of(
    db: float | None,
    snr: float | None,
    gain: float | None,
    own: bool,
    region_words: tuple[str, ...],
    eps: float | None,
    substitute: Path | None,
    nearest: int | None,
    most: int | None,
    name: str = "",
    **limits: Any,
) -> Perturbation:
    """The region that the options name, of the only perturbed input or of that of a name."""
    from tightverify.region import DecibelBall, Gain, SnrBall

    sizes = (eps, db, snr, gain, own or None, region_words or None, substitute, nearest)
    given = [name for name, value in zip(LEVELS, sizes, strict=True) if value is not None]
    if len(given) != 1:
        raise UsageError(f"{' and '.join(given) or 'no size'} was given for the region; wanted one of {', '.join(LEVELS)}")
    if most is not None and given[0] not in LEVELS[-2:]:
        raise UsageError(f"--most was given beside {given[0]}, and says nothing there; leave it out, or give --nearest")
    if eps is not None:
        return ball_of(eps, **limits)
    if own:
        from tightverify.inputs.own import own_region

        return own_region(input_files(), name=name, **limits)
    if region_words:
        from tightverify.cli.several import several_of

        refuse_limits(given[0], limits, [name for name in limits if name != "clip"])
        return several_of(region_words, limits["clip"])
    words = given[0] in LEVELS[-2:]
    without = ("norm", "features", "ball_per", *(("clip", "samples") if words or gain is not None else ()))
    without = without if words else (*without, "frames")
    refuse_limits(given[0], limits, without)
    if words:
        return substitution_of(substitute, nearest, most, limits["frames"])
    if db is not None:
        return DecibelBall(db, limits["clip"], limits["samples"])
    return SnrBall(snr, limits["clip"], limits["samples"]) if snr is not None else Gain(gain or 0.0)


def refuse_limits(given: str, limits: Mapping[str, Any], without: Iterable[str]) -> None:
    """Say which options say nothing beside the one that names the region."""
    useless = [name.replace("_", "-") for name in without if limits[name] not in (None, "inf")]
    if useless:
        raise UsageError(f"--{useless[0]} was given beside {given}, and says nothing there; leave it out, or give --eps")


def input_files() -> tuple[Path, ...]:
    """The files of inputs that a command was given: the last of its files, where it has them in one argument with models."""
    given = click.get_current_context().params
    inputs: Path | tuple[Path, ...] = given["inputs"] if "inputs" in given else given["files"][-1:]
    return inputs if isinstance(inputs, tuple) else (inputs,)


def substitution_of(
    substitute: Path | None, nearest: int | None, most: int | None, frames: tuple[int, ...] | None
) -> Perturbation:
    """Words replaced by others, those of the model that is given beside it."""
    from tightverify.embedding import Embedding
    from tightverify.inputs.text import Vocabulary, read_choices
    from tightverify.models.from_onnx.reading import read
    from tightverify.models.from_onnx.tokens import embedding_of
    from tightverify.region import Substitution

    given = click.get_current_context().params
    embedding, vocabulary = embedding_of(read(given["model"])), given.get("vocabulary")
    if embedding is None:
        raise UsageError(f"{given['model']} looks no words up in a table; words are replaced in models that take token numbers")
    if vocabulary is not None:
        embedding = Embedding(embedding.table, Vocabulary.read(vocabulary).words)
    if nearest is not None:
        return Substitution(embedding, embedding.nearest(nearest), most, frames)
    if vocabulary is None:
        raise UsageError("--substitute names words, and nothing says which words the model knows; give --vocabulary")
    return Substitution(embedding, read_choices(substitute or Path()), most, frames)


def ball_of(eps: Any, norm: str, ball_per: str | None, **limits: Any) -> LpBall:
    """The ball that the options name."""
    from tightverify.region import LpBall

    return LpBall(eps, float(norm), per=ball_per, **limits)


REGION = gathered("region", region_of, *LEVEL, *LIMITS)
MOST_EPS = 1000


def several(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[float, ...]:
    """Numbers, such as 0.01,0.02, or from, to and step, such as 0:0.05:0.005; the smallest first, each once."""
    if value is None:
        return ()
    wrong = click.BadParameter(
        f"{value!r} cannot be read as radii; write a number, numbers such as 0.01,0.02, or a range START:STOP:STEP such as "
        "0:0.05:0.005"
    )
    found: list[Decimal] = []
    for part in value.split(","):
        try:
            start, *rest = (Decimal(word.strip()) for word in part.split(":"))
        except InvalidOperation as error:
            raise wrong from error
        if not rest:
            found.append(start)
            continue
        if len(rest) != 2 or not (all(map(Decimal.is_finite, (start, *rest))) and rest[1] > 0 and start <= rest[0]):
            raise wrong
        count = int((rest[0] - start) / rest[1]) + 1
        if count > MOST_EPS:
            raise click.BadParameter(f"{value!r} stands for {count} radii; at most {MOST_EPS} are tried in one run")
        found.extend(start + k * rest[1] for k in range(count))
    return tuple(sorted({float(each) for each in found}))


def regions_of(eps: tuple[float, ...], **others: Any) -> tuple[Perturbation, ...]:
    """The regions that the options name: one, or balls of several radii, the smallest first."""
    return tuple(region_of(eps=each, **others) for each in eps or (None,))


SEVERAL_EPS = option(
    IN_REGION,
    "--eps",
    callback=several,
    metavar="EPS[,EPS...]|START:STOP:STEP",
    help="Radius of the ball around each input; of several, a larger one is tried where the smaller one was proved.",
)
REGIONS = gathered("regions", regions_of, SEVERAL_EPS, *LEVEL[1:], *LIMITS)


def reading_of(rate: int | None, resample: bool, channel: int | None, cut: tuple[float, float] | None, int16: bool) -> Reading:
    """How audio files are to be read."""
    from tightverify.inputs.audio import Reading

    return Reading(rate, resample, channel, cut, int16)


READING = (
    option(SOUNDS, "--rate", type=AT_LEAST_ONE, metavar="HZ", help="Sampling rate that the model wants; others are refused."),
    option(SOUNDS, "--resample", is_flag=True, help="Resample audio files of another rate instead."),
    option(SOUNDS, "--channel", type=click.IntRange(min=0), help="Channel to take of audio files that have several."),
    option(SOUNDS, "--cut", type=float, nargs=2, default=None, metavar="START STOP", help="Segment to take, in seconds."),
    option(SOUNDS, "--int16", is_flag=True, help="The model takes samples in units of 16 bits, not from -1 to 1."),
)
TEXT = (
    option(QUESTION, "--vocabulary", type=FILE, metavar="WORDS.txt", help="Words of the model, one a line, in their order."),
    option(QUESTION, "--unknown", metavar="WORD", help="Word of the vocabulary for others; these are refused if not given."),
)
FORCE = option(WRITTEN, "--force", is_flag=True, help="Replace files that exist.")
FORMAT = option(
    WRITTEN, "--format", "kind_of_file", type=click.Choice(FORMATS), help="What pictures are written as; png if not given."
)
QUIET = option(WRITTEN, "--quiet", is_flag=True, help="Nothing on stderr but errors.")
OUT = option(WRITTEN, "--out", type=FILE, help="File for one JSON line per input, written as the run goes; - for stdout.")


def output_of(**given: Any) -> Output:
    """Where records and steps are written."""
    from tightverify.report.outputs import Output

    return Output(**given)


def folder_of(kind_of_file: str | None, **given: Any) -> Folder:
    """Where several files are written."""
    from tightverify.report.outputs import Folder

    return Folder(format=kind_of_file or FORMATS[0], **given)


def into_folder(default: str, what: str) -> Callable[[Callable[..., Any]], Any]:
    """The options for a folder of results, as `folder`."""
    return gathered(
        "folder",
        folder_of,
        option(WRITTEN, "--out", type=FILE, default=Path(default), show_default=True, help=f"Folder for {what}."),
        option(WRITTEN, "--force", is_flag=True, help="Replace what an earlier run left in the folder of --out."),
        FORMAT,
        QUIET,
    )


def say_if_busy(quiet: bool) -> None:
    """Say, before work begins, what a user should know of a busy machine."""
    from tightverify.console import say
    from tightverify.threads import busy

    if not quiet and (words := busy()):
        say(f"note: {words}")
