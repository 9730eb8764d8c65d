"""The verdicts of experiments once more: under another seed, in other batches, and against a longer attack.

    python -m experiments.again [images] [relu] [few] ... [--seed 1] [--batch 10] [--time-limit 60]

`images`, `speech` and `prover` take the verdicts that `decide.py`, `speech.py certify` and `speech_prover.py --all` left in
experiments/out. The others decide first what scripts decide that keep no lines, input by input: `relu` the networks of
`decide_lp.py relu`, `few` those of `few_inputs.py`, `hundred` the images of `first_hundred.py`, `twenty` those of
`mnist_lstm.py` by `combine` and of `polygons.py`, `sounds` the clips and regions of `sounds.py`. What was decided is decided
again, and a search of ten times as many starts tries to falsify what was proved. Clips, each of a length of its own, stay
alone. Keeps a line for each input as it goes: what is in its file already is not run again.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import tightverify as tv
from experiments.data import (
    correctly_classified,
    mnist_test,
    prover_lstm,
    prover_order,
    prover_speech,
    rightly_heard,
    spoken_digits,
)
from experiments.decide import DECIDED, lines_of
from experiments.figures import table_of
from experiments.pages import Experiment, report
from tightverify.api.certify import stream
from tightverify.json_lines import add_line
from tightverify.settings import Settings
from tightverify.stages import METHODS
from tightverify.stages.attack import attack_stage

OUT = Path(__file__).parent / "out"
COMPLETE = Settings("complete", splits=10**6)
LONGER = Settings(method="search", restarts=40, attack_steps=100, seed=7)


@dataclass(frozen=True, eq=False)
class Group:
    """Inputs of one network on one kind of region, by their names, how they were decided, and what was said of each."""

    case: str
    model: tv.Model
    x: Tensor
    labels: Tensor | None
    region: tv.region.Perturbation
    settings: Settings
    names: list[str]
    verdicts: list[str] = field(default_factory=list)

    def __getitem__(self, places: list[int]) -> Group:
        labels = None if self.labels is None else self.labels[places]
        names, verdicts = [self.names[k] for k in places], [self.verdicts[k] for k in places]
        return replace(self, x=self.x[places], labels=labels, names=names, verdicts=verdicts)


def images(_limit: float) -> Iterator[Group]:
    """What `decide.py` decided, one by one."""
    pixels, labels = mnist_test()
    for path in sorted(OUT.glob("first_*-1-0.jsonl")):
        _, model, eps, *_ = path.stem.split("-")
        module, lines = prover_lstm(model), lines_of(path)
        chosen = torch.tensor([line["image"] for line in lines])
        x = module.cut(pixels[chosen])
        names = [str(line["image"]) for line in lines]
        loaded, ball = tv.load(module, tuple(x.shape[1:])), tv.LinfBall(float(eps), clip=(0, 1))
        verdicts = [line["verdict"] for line in lines]
        yield Group(f"{model} {eps}", loaded, x, labels[chosen], ball, COMPLETE, names, verdicts)


def decided(group: Group, limit: float) -> Group:
    """Its inputs decided here, one by one, so many seconds each."""
    settings = replace(group.settings, time_limit=limit)
    results = stream(group.model, group.x, group.labels, group.region, settings, batch=1)
    return replace(group, verdicts=[result.verdict.name for result in results])


def relu(limit: float) -> Iterator[Group]:
    from experiments.decide_lp import RELU_RADII, relu_inputs

    model, x = relu_inputs(10)
    names = [str(k) for k in range(len(x))]
    for eps in RELU_RADII:
        yield decided(Group(f"ReLU RNN {eps}", model, x, None, tv.LinfBall(eps), Settings("milp"), names), limit)


def few(limit: float) -> Iterator[Group]:
    from experiments.few_inputs import BALLS, CASES, cases, points

    cases()
    for name, (module, shape, radius) in CASES.items():
        model, x = tv.load(module, shape=shape), points(shape)
        names = [str(k) for k in range(len(x))]
        for ball, (kind, factor) in BALLS.items():
            yield decided(Group(f"{name}, {ball}", model, x, None, kind(factor * radius), COMPLETE, names), limit)


def pictures(name: str, eps: float, count: int, order: Tensor | None, settings: Settings) -> Group:
    """The first so many images that a network of PROVER's answers rightly."""
    pixels, labels = mnist_test()
    module = prover_lstm(name)
    chosen = correctly_classified(module, pixels, labels, count, order)
    x, names = module.cut(pixels[chosen]), [str(int(image)) for image in chosen]
    model, ball = tv.load(module, tuple(x.shape[1:])), tv.LinfBall(eps, clip=(0, 1))
    return Group(f"{settings.method} {name} {eps:.3f}", model, x, labels[chosen], ball, settings, names)


def hundred(limit: float) -> Iterator[Group]:
    from experiments.first_hundred import EPS, INPUTS, PUBLISHED

    for eps in EPS:
        for name in PUBLISHED:
            yield decided(pictures(name, eps, INPUTS, prover_order(), Settings("combine", rounds=3)), limit)


def twenty(limit: float) -> Iterator[Group]:
    from experiments.mnist_lstm import HERE
    from experiments.polygons import PROVER

    config = tomllib.loads((HERE / "mnist_lstm.toml").read_text())
    for case in config["case"]:
        yield decided(pictures(case["model"], case["eps"], config["inputs"], None, Settings("combine")), limit)
    for name, eps, *_ in PROVER:
        yield decided(pictures(name, eps, 20, prover_order(), Settings("planes")), limit)


def sounds(limit: float) -> Iterator[Group]:
    from experiments.sounds import LONGEST, regions, words

    network = prover_speech()
    clips = rightly_heard(network, [clip for clip in spoken_digits() if len(clip.samples) <= LONGEST])[:10]
    for clip in clips:
        model, label = tv.load(network, (len(clip.samples),)), torch.tensor([clip.digit])
        for region in regions():
            case, x, settings = words(region), clip.samples[None], Settings("linear")
            yield decided(Group(case, model, x, label, region, settings, [clip.name]), limit)


def speech(_limit: float) -> Iterator[Group]:
    """What `speech.py certify` decided, by whatever method."""
    from experiments.speech import Kept, test_clips
    from experiments.speech_network import LAYERS

    clips = {clip.name: clip for clip in test_clips(OUT / "speech", 300)}
    for layer in LAYERS:
        path = OUT / "speech" / f"{layer}.onnx"
        for method in ("combine", "complete"):
            for line in Kept(OUT / "speech", f"certified-{method}-60s", layer).lines():
                clip = clips[line["clip"]]
                if line["verdict"] in DECIDED:
                    model, label = tv.load(path, shape=(len(clip.values),)), torch.tensor([clip.digit])
                    case, region = f"{layer} {line['db']:g} dB", tv.DecibelBall(line["db"])
                    x, settings = clip.values[None], replace(COMPLETE, method=method)
                    yield Group(case, model, x, label, region, settings, [clip.name], [line["verdict"]])


def prover(_limit: float) -> Iterator[Group]:
    """What `speech_prover.py --all` decided."""
    from experiments.speech_prover import Imported

    clips = {clip.name: clip for clip in spoken_digits()}
    imported = Imported(prover_speech())
    for path in sorted(OUT.glob("speech_prover-*.jsonl")):
        method = path.stem.split("-")[1]
        for line in lines_of(path):
            clip = clips[line["clip"]]
            if line["verdict"] in DECIDED:
                region, label = tv.LinfBall(clip.radius(line["db"])), torch.tensor([clip.digit])
                case, model = f"PROVER's {line['db']:g} dB", imported.of_length(len(clip.samples))
                x, settings = clip.samples[None], replace(COMPLETE, method=method)
                yield Group(case, model, x, label, region, settings, [clip.name], [line["verdict"]])


SOURCES: dict[str, Callable[[float], Iterator[Group]]] = {
    "images": images,
    "relu": relu,
    "few": few,
    "hundred": hundred,
    "twenty": twenty,
    "sounds": sounds,
    "speech": speech,
    "prover": prover,
}


@click.command(cls=Experiment)
@click.argument("sources", nargs=-1, type=click.Choice(list(SOURCES)))
@click.option("--seed", default=1, show_default=True)
@click.option("--batch", default=10, show_default=True)
@click.option("--time-limit", default=60.0, show_default=True, help="Seconds per input.")
@click.option("--show", is_flag=True, help="Nothing is run: the table of what there is.")
def main(sources: tuple[str, ...], seed: int, batch: int, time_limit: float, show: bool) -> None:
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    columns = ("decided", "alike", "open", "contradictions", "proved", "falsified by a longer search")
    table = table_of(f"once more with seed {seed}, batches of {batch}, {time_limit:g} s each", "case", *columns)
    contradictions = 0
    for source in sources or SOURCES:
        path = OUT / f"again-{source}-{batch}-{seed}.jsonl"
        lines = lines_of(path) if path.exists() else []
        if not show:
            run(source, path, lines, time_limit, seed, batch)
        cases: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in lines:
            cases[line["case"]].append(line)
        for case, mine in cases.items():
            alike = sum(line["again"] == line["verdict"] for line in mine)
            against = sum(line["again"] in DECIDED and line["again"] != line["verdict"] for line in mine)
            proved = [line for line in mine if "ROBUST" in (line["verdict"], line["again"])]
            broken = sum(line["falsified"] for line in proved)
            counts = (len(mine), alike, len(mine) - alike - against, against, len(proved), broken)
            table.add_row(case, *map(str, counts))
            contradictions += against + broken
    report(table)
    raise SystemExit(1 if contradictions else 0)


def run(source: str, path: Path, lines: list[dict[str, Any]], limit: float, seed: int, batch: int) -> None:
    """Decide again what was decided, and add a line for each input to the file."""
    done = {(line["case"], line["input"]) for line in lines}
    for group in SOURCES[source](limit):
        verdicts = zip(group.names, group.verdicts, strict=True)
        some = group[[k for k, (name, v) in enumerate(verdicts) if v in DECIDED and (group.case, name) not in done]]
        if not some.names:
            continue
        settings = replace(some.settings, time_limit=limit, seed=seed)
        again = stream(some.model, some.x, some.labels, some.region, settings, batch=batch)
        found = [result.verdict.name for result in again]
        with searching():
            longer = list(stream(some.model, some.x, some.labels, some.region, LONGER, batch=20))
        for name, verdict, second, result in zip(some.names, some.verdicts, found, longer, strict=True):
            falsified = verdict == "ROBUST" and result.verdict is tv.Verdict.COUNTEREXAMPLE
            lines.append({"case": some.case, "input": name, "verdict": verdict, "again": second, "falsified": falsified})
            done.add((some.case, name))
            add_line(path, lines[-1])
        click.echo(f"{some.case}: {len(some.names)}", err=True)


@contextmanager
def searching() -> Iterator[None]:
    """A method that searches alone."""
    METHODS["search"] = (("attack", attack_stage),)
    try:
        yield
    finally:
        del METHODS["search"]


if __name__ == "__main__":
    main()
