"""A small LSTM and a small GRU on spoken digits, certified down to the waveform: from training to the picture in the guide.

    python -m experiments.speech train
    python -m experiments.speech certify [--db -90 --db -80 ...] [--limit 300] [--method combine] [--time-limit 60]
    python -m experiments.speech certify --db -60 --method complete --after combine-60s [--above -10]
    python -m experiments.speech segments [--clips 5]
    python -m experiments.speech picture docs/speech.png [--method combine] [--time-limit 60]

`train` writes lstm.onnx, gru.onnx, the 300 test clips as WAV files in clips/, and labels.csv into experiments/out/speech, where
`tightverify certify lstm.onnx clips/ --db -80 --labels labels.csv` runs. `certify` decides clip by clip, in an order that mixes
digits and speakers, and keeps a line for each as it goes: what is in its file already is not run again. With `--after` only
what another run left open, above some margin, is run; the rest is taken over from its file. `picture` draws what
`certify` and `segments` left there.
"""

from __future__ import annotations

import math
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import onnxruntime
import soundfile
import torch
from torch import Tensor

import tightverify as tv
from experiments.data import spoken_digits
from experiments.figures import table_of
from experiments.pages import Experiment, report
from experiments.speech_network import LAYERS, RATE, accuracy, to_onnx, trained
from tightverify.inputs.audio import FULL_SCALE_16, Reading, read_sound
from tightverify.json_lines import add_line, read_lines
from tightverify.plots.names import CYCLE, GREY
from tightverify.plots.saving import save
from tightverify.plots.style import panels
from tightverify.plots.words import title

OUT = Path(__file__).parent / "out" / "speech"
DECIBELS = (-90.0, -80.0, -70.0, -60.0)

Option = Callable[..., Any]
FOLDER = click.option("--folder", type=click.Path(path_type=Path), default=OUT, show_default=True)
METHOD = click.option("--method", default="combine", show_default=True)
TIME_LIMIT = click.option("--time-limit", default=60.0, show_default=True, help="Seconds for each clip and level.")


@dataclass(frozen=True, eq=False)
class Heard:
    """A test clip as it is read from its file."""

    name: str
    digit: int
    values: Tensor


def test_clips(folder: Path, limit: int) -> list[Heard]:
    """The first so many of the folder's clips in a random order, the same in every run."""
    lines = (folder / "labels.csv").read_text().splitlines()[1:]
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(0)).tolist()
    found = []
    for name, digit in (lines[k].split(",") for k in order[:limit]):
        values = read_sound(folder / "clips" / name, Reading(rate=RATE)).values
        found.append(Heard(Path(name).stem, int(digit), values))
    return found


class Kept:
    """A file of JSON lines about one network; those of another one, trained since, do not count."""

    def __init__(self, folder: Path, name: str, network: str) -> None:
        self.path = folder / f"{name}-{network}.jsonl"
        self.network = zlib.crc32((folder / f"{network}.onnx").read_bytes())

    def lines(self) -> list[dict[str, Any]]:
        lines = read_lines(self.path, dict, "a result", "network", cut_short=True) if self.path.exists() else []
        return [line for line in lines if line["network"] == self.network]

    def add(self, **line: Any) -> dict[str, Any]:
        line = {"network": self.network, **line}
        add_line(self.path, line)
        return line


@click.group()
def main() -> None:
    torch.set_num_threads(1)


@main.command(cls=Experiment)
@FOLDER
def train(folder: Path) -> None:
    """Train both networks and write them, the test clips and their labels."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    tests = spoken_digits()
    for clip in tests:
        soundfile.write(folder / "clips" / f"{clip.name}.wav", clip.samples.short().numpy(), RATE)
    labels = ["file,label", *(f"{clip.name}.wav,{clip.digit}" for clip in tests)]
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    (x, y), (x_test, y_test) = (
        ([(clip.samples / FULL_SCALE_16).float() for clip in clips], torch.tensor([clip.digit for clip in clips]))
        for clips in (spoken_digits(test=False), tests)
    )
    columns = ("parameters", "kB", "s", "accuracy, training", "accuracy, test", "onnxruntime differs by")
    table = table_of("trained", "network", *columns)
    for layer in LAYERS:
        began = time.perf_counter()
        network = trained(layer, x, y)
        seconds = time.perf_counter() - began
        path = to_onnx(network, folder / f"{layer}.onnx")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        with torch.no_grad():
            apart = max(
                float((torch.from_numpy(session.run(None, {"wave": clip[None].numpy()})[0]) - network(clip[None])).abs().max())
                for clip in x_test
            )
        parameters = sum(each.numel() for each in network.parameters())
        shares = (f"{accuracy(network, *given):.1f} %" for given in ((x, y), (x_test, y_test)))
        table.add_row(layer, str(parameters), f"{path.stat().st_size / 1000:.0f}", f"{seconds:.0f}", *shares, f"{apart:.0e}")
    report(table)


@main.command(cls=Experiment)
@FOLDER
@METHOD
@TIME_LIMIT
@click.option("--db", "decibels", type=float, multiple=True, default=DECIBELS, show_default=True)
@click.option("--limit", default=300, show_default=True, help="So many test clips.")
@click.option("--after", default="", help="A run before, such as combine-60s: go on with what it left open.")
@click.option("--above", default=-math.inf, show_default=True, help="With --after, only with clips of at least this margin.")
def certify(
    folder: Path, method: str, time_limit: float, decibels: tuple[float, ...], limit: int, after: str, above: float
) -> None:
    """Decide the test clips at every level."""
    clips = test_clips(folder, limit)
    words = f"{len(clips)} test clips, method {method}, {time_limit:g} s each"
    columns = ("certified", "falsified", "open", "misclassified", "median s", "longest s")
    table = table_of(words, "network", "dB", *columns)
    for layer in LAYERS:
        kept = Kept(folder, f"certified-{method}-{time_limit:g}s", layer)
        taken = [line for line in Kept(folder, f"certified-{after}", layer).lines() if not left(line, above)]
        lines = list(decided(kept, folder / f"{layer}.onnx", clips, decibels, method, time_limit, taken))
        for level in decibels:
            some = [line for line in lines if line["db"] == level]
            verdicts = [line["verdict"] for line in some]
            counts = [verdicts.count(name) for name in ("ROBUST", "COUNTEREXAMPLE", "MISCLASSIFIED")]
            seconds = [line["seconds"] for line in some if line["verdict"] != "MISCLASSIFIED"]
            numbers = [*counts[:2], len(some) - sum(counts), counts[2]]
            times = (f"{statistics.median(seconds):.2f}", f"{max(seconds):.1f}")
            table.add_row(layer, f"{level:g}", *map(str, numbers), *times)
    report(table)


def left(line: dict[str, Any], above: float) -> bool:
    """Whether a clip stayed open, at a margin that is worth another method."""
    return line["verdict"] in ("UNKNOWN", "TIMED_OUT") and line["margin"] >= above


def decided(
    kept: Kept,
    network: Path,
    clips: list[Heard],
    decibels: tuple[float, ...],
    method: str,
    time_limit: float,
    taken: list[dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """A line for each clip and level; the network is imported once for each clip that has one left."""
    before = {(line["clip"], line["db"]): line for line in [*taken, *kept.lines()]}
    for clip in clips:
        new = [level for level in decibels if (clip.name, level) not in before]
        yield from (before[clip.name, level] for level in decibels if level not in new)
        if not new:
            continue
        began = time.perf_counter()
        model = tv.load(network, shape=(len(clip.values),))
        importing = time.perf_counter() - began
        for level in new:
            region = tv.DecibelBall(level)
            (found,) = tv.certify(model, clip.values[None], [clip.digit], region, method=method, time_limit=time_limit)
            facts = {"verdict": found.verdict.name, "margin": found.margin, "stage": found.stage, "seconds": found.seconds}
            yield kept.add(clip=clip.name, db=level, samples=len(clip.values), importing=importing, **facts)


@main.command(cls=Experiment)
@FOLDER
@click.option("--clips", "count", default=5, show_default=True)
@click.option("--method", default="linear", show_default=True)
def segments(folder: Path, count: int, method: str) -> None:
    """Certified radii, in decibels relative to the peak, of the sixteenths of a few clips, at which each network is right."""
    table = table_of(f"method {method}", "clip", "network", *map(str, range(1, 17)))
    for clip in test_clips(folder, count):
        for layer in LAYERS:
            kept = Kept(folder, f"segments-{method}", layer)
            found = next((line for line in kept.lines() if line["clip"] == clip.name), None)
            if found is None:
                radii = tv.segments(folder / f"{layer}.onnx", clip.values, clip.digit, settings=tv.Settings(method, restarts=0))
                found = kept.add(clip=clip.name, edges=radii.edges, levels=radii.levels)
            table.add_row(clip.name, layer, *(f"{level:.0f}" for level in found["levels"]))
    report(table)


@main.command(cls=Experiment)
@FOLDER
@METHOD
@TIME_LIMIT
@click.argument("path", type=click.Path(path_type=Path))
def picture(folder: Path, method: str, time_limit: float, path: Path) -> None:
    """Draw the first clip with its segments, and the certified share against the level."""
    (clip,) = test_clips(folder, 1)
    with panels(None, 1, 2, (10.0, 3.8), width_ratios=[3, 2]) as (radii, shares):
        place = radii.get_xaxis_transform()  # across in seconds, up in parts of the axes
        heights = 0.55 + 0.4 * clip.values / float(clip.values.abs().max())
        radii.plot(torch.arange(len(clip.values)) / RATE, heights, color=GREY, linewidth=0.4, transform=place, zorder=0)
        radii.set(xlabel="seconds", ylabel="radius, dB to the peak")
        for look, layer in zip(CYCLE, LAYERS, strict=False):
            (found,) = (line for line in Kept(folder, "segments-linear", layer).lines() if line["clip"] == clip.name)
            times = [edge / RATE for edge in found["edges"]]
            radii.stairs(found["levels"], times, baseline=None, color=look.colour, linestyle=look.line, label=layer.upper())
            lines = Kept(folder, f"certified-{method}-{time_limit:g}s", layer).lines()
            levels = sorted({line["db"] for line in lines})
            for verdict, word, line_style in (("ROBUST", "certified", "-"), ("COUNTEREXAMPLE", "falsified", ":")):
                verdicts = [[line["verdict"] for line in lines if line["db"] == level] for level in levels]
                share = [100 * each.count(verdict) / len(each) for each in verdicts]
                shares.plot(levels, share, line_style, marker=look.marker, color=look.colour, label=f"{layer.upper()}, {word}")
        shares.set(xlabel="change, dB to the peak", ylabel="% of clips", ylim=(-3, 103))
        count = len({line["clip"] for line in lines})
        title(radii, f"Radius of each sixteenth of a spoken {clip.digit}, alone")
        title(shares, f"Shares of {count} test clips, all samples changed")
        shares.legend(loc="center left")
        radii.legend(loc="upper left")
    click.echo(f"{save(radii, path)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
