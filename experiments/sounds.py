"""Other changes of a sound than noise on every sample, on PROVER's speech network: a table, and where in time it is fragile.

    python -m experiments.sounds [--clips 20] [--picture FILE.png]

The first test clips of the Free Spoken Digit Dataset (by name, digit_speaker_index) of at most 3,400 samples that the
network classifies rightly; sample values are those of the 16-bit files. `noise` is hum: 50 Hz and its next two harmonics.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import click
import torch

import tightverify as tv
from experiments.data import ProverSpeech, prover_speech, rightly_heard, spoken_digits
from experiments.figures import table_of
from experiments.pages import Experiment, report

RATE, LONGEST = ProverSpeech.RATE, 3400


def regions() -> list[tv.region.Perturbation]:
    seconds = torch.arange(LONGEST, dtype=torch.float64) / RATE
    hum = sum(torch.sin(2 * math.pi * 50 * k * seconds) / k for k in (1, 2, 3))
    return [
        *(tv.DecibelBall(db) for db in (-80, -70)),
        tv.DecibelBall(-60, samples=(400, 800)),
        *(tv.SnrBall(db) for db in (70, 60)),
        *(tv.Gain(db) for db in (0.5, 1.0, 3.0)),
        *(tv.AddedNoise(hum, strength) for strength in (10.0, 100.0)),
        *(tv.Shift(samples) for samples in (0.1, 0.5)),
    ]


def words(region: tv.region.Perturbation) -> str:
    """A region's words, and the segment of samples that it is of."""
    segment = getattr(region, "samples", None)
    return f"{region.words}, samples {segment[0]}-{segment[1] - 1}" if isinstance(segment, tuple) else region.words


@click.command(cls=Experiment)
@click.option("--clips", "count", default=20, show_default=True)
@click.option("--method", default="linear", show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the first clip's fragile segments here instead.")
def main(count: int, method: str, picture: Path | None) -> None:
    torch.set_num_threads(1)
    network = prover_speech()
    clips = rightly_heard(network, [clip for clip in spoken_digits() if len(clip.samples) <= LONGEST])[:count]
    if picture is not None:
        _, drawn = tv.segments(network, clips[0].samples, clips[0].digit).save(picture.parent, RATE)
        drawn.rename(picture)
        print(f"{clips[0].name}: {picture}")
        return
    lengths = tv.AnyLength(network)
    for clip in clips:
        lengths.at(tuple(clip.samples.shape))  # imports are not counted in the times below
    columns = ("region", "certified", "mean margin", "falsified", "CPU s per clip")
    table = table_of(f"{len(clips)} clips, method {method}", *columns)
    for region in regions():
        began = time.process_time()
        samples, digits = [clip.samples for clip in clips], [clip.digit for clip in clips]
        found = tv.certify_clips(lengths, samples, digits, region, tv.Settings(method))
        seconds = (time.process_time() - began) / len(clips)
        verdicts = [result.verdict for result in found]
        certified, falsified = verdicts.count(tv.Verdict.ROBUST), verdicts.count(tv.Verdict.COUNTEREXAMPLE)
        mean = sum(result.margin for result in found) / len(found)
        table.add_row(words(region), str(certified), f"{mean:.2f}", str(falsified), f"{seconds:.2f}")
    report(table)


if __name__ == "__main__":
    main()
