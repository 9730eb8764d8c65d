"""Inputs of different lengths: each verified at its own length, by a network that takes any.

Clips are never padded or cut to a common length, for that would be another input: frames that the network does not see, or does
not see like that. A network is imported once for every length among the clips (`AnyLength`), with the number of frames that it
makes of such a clip itself, and compared with the original there; clips of one length are worked on together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack, final

import torch
from torch import Tensor

from tightverify.api.checks import as_inputs, as_labels, as_read, as_region
from tightverify.api.gathering import Progress, gathered
from tightverify.api.load import AnyModel, LoadOptions, load, name_of
from tightverify.api.results import Results, questions
from tightverify.calling import plainly
from tightverify.disk import alone_in
from tightverify.errors import InputError, ModelError, RegionError, UsageError
from tightverify.former import renamed
from tightverify.inputs.dataset import Group, prepared
from tightverify.models.model import Model
from tightverify.models.streaming import State
from tightverify.region import Perturbation, Region
from tightverify.settings import Options, Settings, merged
from tightverify.spec import Property, classify_as
from tightverify.stages.progress import Callback, no_callback
from tightverify.statements import Statement

KEPT = 64
"""So many imports of one network are kept, the last ones used."""


class AnyLength:
    """A network for inputs of any length: a torch module, or an ONNX file with a dynamic axis, imported once for each.

    `tokens` says that a torch module takes numbers of words, and `vocabulary` has their names, as in `load`; so are `fix`,
    `output`, `frame`, `unroll`, `state` and `progress`.
    """

    def __init__(
        self,
        model: AnyModel,
        batch_axis: int | None = None,
        tokens: bool = False,
        vocabulary: Sequence[str] = (),
        *,
        fix: Mapping[str, Any] | None = None,
        output: int | str | None = None,
        frame: int | str | None = None,
        unroll: int | None = None,
        state: State | None = None,
        progress: bool = False,
    ) -> None:
        self.model, self.tokens, self.vocabulary = model, tokens, vocabulary
        self._how: LoadOptions = {"batch_axis": batch_axis, "fix": fix, "output": output, "frame": frame}
        self._how |= {"unroll": unroll, "state": state, "progress": progress}
        self._imported: dict[tuple[int, ...], Model] = {}

    def at(self, shape: tuple[int, ...], inputs: Tensor | None = None) -> Model:
        """The network for inputs of one shape (without the batch), `inputs` (N, *shape) among them."""
        found = self._imported.pop(shape, None) or self._load(shape, inputs)
        self._imported[shape] = found
        if len(self._imported) > KEPT:
            del self._imported[next(iter(self._imported))]
        return found

    def _load(self, shape: tuple[int, ...], inputs: Tensor | None) -> Model:
        return load(
            self.model,
            shape if inputs is None else None,
            inputs=inputs,
            tokens=self.tokens,
            vocabulary=self.vocabulary,
            **self._how,
        )

    @property
    def name(self) -> str:
        """What records call it."""
        found = next(iter(self._imported.values()), None)
        return str(self.model) if found is None else name_of(self.model, found)

    def shaped(self, samples: int) -> tuple[int, ...]:
        """The shape in which the network takes a waveform of so many samples: (n,), and for ONNX also (1, n) or (n, 1)."""
        rest = self._axes
        if rest is None:
            return (samples,)
        long = [k for k, length in enumerate(rest) if length != 1]
        shown = ", ".join(str(length) if length else "?" for length in rest)
        if len(long) != 1:
            raise ModelError(
                f"{self.model} takes inputs of shape ({shown}), without the batch, which are no waveforms; wanted (samples), "
                "(1, samples) or (samples, 1)"
            )
        if isinstance(rest[long[0]], int) and rest[long[0]] != samples:
            raise InputError(
                f"it has {samples} samples, and {self.model} takes inputs of shape ({shown}) only; cut it to that length, or "
                "export the model with a dynamic axis of samples"
            )
        return tuple(samples if k == long[0] else 1 for k in range(len(rest)))

    @cached_property
    def _axes(self) -> tuple[int | str, ...] | None:
        """The axes of an ONNX file's input, as far as the file says, without the batch."""
        if not isinstance(self.model, (str, Path)):
            return None
        from tightverify.models.from_onnx.asked import axes_asked_about
        from tightverify.models.from_onnx.entries import chosen_batch_axis

        path = Path(self.model)
        axes = axes_asked_about(path, self._how.get("fix") or {}, self._how.get("output"))
        if axes is None:
            return None
        batch = chosen_batch_axis(axes, len(axes), self._how.get("batch_axis"), path)
        return (*axes[:batch], *axes[batch + 1 :])


@final
@dataclass(frozen=True, eq=False)
class Clips:
    """A network and clips of different lengths, checked: the `DataSet` of clips, which are named by their files."""

    network: AnyLength
    clips: tuple[Tensor, ...]
    y: Tensor | None
    numbers: Tensor
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    rows: Property | Statement | None = None

    @classmethod
    def of(
        cls,
        model: AnyModel | AnyLength,
        clips: Sequence[Any],
        labels: Any,
        names: Sequence[str] = (),
        batch_axis: int | None = None,
        notes: tuple[str, ...] = (),
    ) -> Clips:
        """Clips as a user hands them over: one input of the model each, without the batch."""
        network = model if isinstance(model, AnyLength) else AnyLength(model, batch_axis)
        called = tuple(names) or tuple(f"clip {k}" for k in range(len(clips)))
        if not len(clips):
            raise InputError("there are no clips; give at least one")
        if len(called) != len(clips):
            raise InputError(f"{len(clips)} clips were given, and {len(called)} names; give one for each")
        tensors = tuple(_one(clip, name) for clip, name in zip(clips, called, strict=True))
        y = None if labels is None else as_labels(labels, len(tensors))
        return cls(network, tensors, y, torch.arange(len(tensors)), called, notes)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, chosen: Tensor | slice) -> Clips:
        places = torch.arange(len(self))[chosen].tolist()
        return replace(
            self,
            clips=tuple(self.clips[k] for k in places),
            y=None if self.y is None else self.y[chosen],
            numbers=self.numbers[chosen],
            names=tuple(self.names[k] for k in places),
            rows=None if self.rows is None else self.rows[chosen],
        )

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(clip.shape) for clip in self.clips)

    def groups(self) -> Iterator[Group]:
        """For every shape the network, the clips and their places; the shortest first."""
        places: dict[tuple[int, ...], list[int]] = {}
        for k, shape in enumerate(self.shapes):
            places.setdefault(shape, []).append(k)
        for shape, some in sorted(places.items(), key=lambda entry: (torch.Size(entry[0]).numel(), entry[0])):
            model = self._imported(shape, self.names[some[0]], self.clips[some[0]][None])
            yield Group(model, torch.stack([self._fitting(k, model) for k in some]), torch.tensor(some))

    def _fitting(self, k: int, model: Model) -> Tensor:
        """A clip as the network reads it: of token numbers their vectors."""
        with said_of(self.names[k]):
            return as_read(model, self.clips[k][None])[0]

    def _imported(self, shape: tuple[int, ...], name: str, inputs: Tensor) -> Model:
        try:
            return self.network.at(shape, inputs)
        except InputError as error:
            raise InputError(of(name, error)) from error
        except ModelError as error:
            raise type(error)(
                f"{name}, an input of shape {shape}: {error}; if it is shorter than one frame of the network, leave it out"
            ) from error

    def check(self, region: Perturbation, top: int) -> None:
        """Say before any work what is wrong with a clip or a label; the shortest clip's network is imported for that."""
        model = next(self.groups()).model
        for k, name in enumerate(self.names):
            with said_of(name):
                self._around(k, region, model)
        if self.y is not None:
            classify_as(torch.stack([self.y.min(), self.y.max()]), model.graph.output_size, top)

    def balls(self, region: Perturbation) -> list[tuple[float, float]]:
        """Radius and norm of each clip's own region; a radius is infinite where it is no ball."""
        model = next(self.groups()).model
        found: list[tuple[float, float]] = []
        for k, name in enumerate(self.names):
            with said_of(name):
                found.extend(self._around(k, region, model).balls)
        return found

    def _around(self, k: int, region: Perturbation, model: Model) -> Region:
        """The region of one clip, given the network for another length."""
        clip = as_read(model, self.clips[k][None])
        return region.chosen(self.numbers[k : k + 1], clip.dim()).around(clip)


@renamed
@plainly
def certify_clips(
    model: AnyModel | AnyLength,
    clips: Sequence[Any],
    labels: Any,
    region: Perturbation,
    settings: Settings | None = None,
    *,
    names: Sequence[str] = (),
    top: int = 1,
    batch_axis: int | None = None,
    callback: Callback = no_callback,
    progress: Progress = None,
    **options: Unpack[Options],
) -> Results:
    """Decide for every clip whether the network keeps its answer on the region around it: `certify` for different lengths.

    `clips` are tensors, one input of the model each, without the batch: (samples,), or whatever the model takes; `labels` are
    (N,), or None for the model's own answers. Settings, `callback`, `progress` and what comes back are as in `certify`. `names`
    are what errors and records call the clips. To certify the same network again, give it as `AnyLength(model)`, which keeps
    what was imported.
    """
    given, region = Clips.of(model, clips, labels, names, batch_axis), as_region(region)
    several = region.count(given.clips[0].dim() + 1)
    if several not in (None, len(given)):
        raise RegionError(f"a region for each of {several} inputs was given, and {len(given)} clips; give one for each")
    settings = merged(settings, options)
    found = prepared(given, region, settings, top, callback)
    name = given.network.name
    asked = questions(name, region, given.balls(region), settings.method, top, given.names)
    with alone_in(**settings.folders):
        return gathered(found, asked, progress, Path(name).name)


def _one(clip: Any, name: str) -> Tensor:
    """A clip as a tensor of numbers, named in errors."""
    with said_of(name):
        try:
            tensor = clip if isinstance(clip, Tensor) else torch.as_tensor(clip)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"it cannot be made a tensor ({error}); give numbers") from error
        if tensor.dim() == 0 or not tensor.numel():
            raise InputError(f"it has shape {tuple(tensor.shape)}; wanted samples, or words, at least one")
        return as_inputs(tensor[None])[0]


@contextmanager
def said_of(name: str) -> Iterator[None]:
    """What is wrong with a single input is said of it by its name."""
    try:
        yield
    except UsageError as error:
        raise type(error)(of(name, error)) from error


def of(name: str, error: UsageError) -> str:
    """A sentence about a single input, of its name."""
    words = str(error)
    return f"{name}{words[7:] if words.startswith('input 0 ') else f': {words}'}"
