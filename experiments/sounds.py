"""Other changes of a sound than noise on every sample, on PROVER's speech network: a table, and where in time it is fragile.

    python experiments/sounds.py [--clips 20] [--picture FILE.png]

The first test clips of the Free Spoken Digit Dataset (by name, digit_speaker_index) of at most 3,400 samples that the
network classifies rightly; sample values are those of the 16-bit files. `noise` is hum: 50 Hz and its next two harmonics.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from data import folder
from torch import Tensor, nn
from torch.nn import functional

import tightverify as tv

RATE, FRAME, HOP, BINS, BANDS = 8000, 256, 200, 129, 10
LONGEST = 3400


class Speech(nn.Module):
    """PROVER's speech network from the waveform on, frames and spectrum as one strided convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(BANDS, 40), nn.Linear(32, 10)
        self.lstm = nn.LSTM(40, 32, 2, batch_first=True)
        with np.load(folder("prover") / "fsdd.npz") as arrays:
            self.load_state_dict({name: torch.tensor(arrays[name]) for name in arrays.files})
        place = torch.arange(FRAME, dtype=torch.float64)
        window = 0.54 - 0.46 * torch.cos(2 * math.pi * place / FRAME)
        emphasis = torch.eye(FRAME, dtype=torch.float64) - 0.97 * torch.diag(torch.ones(FRAME - 1, dtype=torch.float64), -1)
        angles = 2 * math.pi * torch.arange(BINS, dtype=torch.float64)[:, None] * place / FRAME
        waves = torch.cat([torch.cos(angles), torch.sin(angles)]) * window / math.sqrt(FRAME)
        self.register_buffer("waves", (waves @ emphasis)[:, None].float())
        self.register_buffer("mel", mel_bank().float())

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % HOP:
            x = functional.pad(x, (0, HOP))
        parts = functional.conv1d(x[:, None], self.waves, stride=HOP)
        power = parts[:, :BINS] ** 2 + parts[:, BINS:] ** 2
        heard = torch.log(power.transpose(1, 2) @ self.mel + 1e-10)
        return self.linear2(self.lstm(torch.relu(self.linear1(heard)))[0][:, -1])


def mel_bank() -> Tensor:
    """(129, 10): triangular filters between 0 Hz and half the sampling rate."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    hertz = [700 * (10 ** (top * k / (BANDS + 1) / 2595) - 1) for k in range(BANDS + 2)]
    corners = [math.floor((FRAME + 1) * value / RATE) for value in hertz]
    bank = torch.zeros(BINS, BANDS, dtype=torch.float64)
    for band, (left, middle, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        bank[left:middle, band] = torch.arange(middle - left) / (middle - left)
        bank[middle:right, band] = 1 - torch.arange(right - middle) / (right - middle)
    return bank


def short_clips() -> Iterator[tuple[str, Tensor, int]]:
    """Name, samples and digit of the short test clips, by name."""
    with np.load(folder("fsdd") / "fsdd.npz") as arrays:
        audio, offsets, digits, speakers, numbers = (arrays[name] for name in ("audio", "offsets", "digit", "speaker", "index"))
    some = [k for k in range(len(digits)) if numbers[k] < 5 and offsets[k + 1] - offsets[k] <= LONGEST]
    for name, k in sorted((f"{digits[k]}_{speakers[k]}_{numbers[k]}", k) for k in some):
        yield name, torch.tensor(audio[offsets[k] : offsets[k + 1]].astype(np.float32)), int(digits[k])


def right_ones(network: Speech, count: int) -> list[tuple[str, Tensor, int]]:
    """The first clips that the network classifies rightly."""
    found: list[tuple[str, Tensor, int]] = []
    with torch.no_grad():
        for name, clip, digit in short_clips():
            if len(found) < count and int(network(clip[None]).argmax()) == digit:
                found.append((name, clip, digit))
    return found


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


@click.command()
@click.option("--clips", "count", default=20, show_default=True)
@click.option("--method", default="linear", show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the first clip's fragile stretches here instead.")
def main(count: int, method: str, picture: Path | None) -> None:
    torch.set_num_threads(1)
    network = Speech().eval()
    clips = right_ones(network, count)
    if picture is not None:
        name, clip, digit = clips[0]
        _, drawn = tv.stretches(network, clip, digit).save(picture.parent, RATE)
        drawn.rename(picture)
        print(f"{name}: {picture}")
        return
    lengths = tv.AnyLength(network)
    for _, clip, _ in clips:
        lengths.at(tuple(clip.shape))  # imports are not counted in the times below
    print(f"{len(clips)} clips, method {method}")
    print("| region | certified | mean margin | falsified | CPU s per clip |\n|---|---|---|---|---|", flush=True)
    for region in regions():
        began = time.process_time()
        found = tv.certify_clips(lengths, [clip for _, clip, _ in clips], [y for _, _, y in clips], region, tv.Settings(method))
        seconds = (time.process_time() - began) / len(clips)
        verdicts = [result.verdict for result in found]
        certified, falsified = verdicts.count(tv.Verdict.ROBUST), verdicts.count(tv.Verdict.COUNTEREXAMPLE)
        mean = sum(result.margin for result in found) / len(found)
        stretch = getattr(region, "samples", None)
        words = f"{region.words}, samples {stretch[0]}-{stretch[1] - 1}" if isinstance(stretch, tuple) else region.words
        print(f"| {words} | {certified} | {mean:.2f} | {falsified} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
