"""Regions of several perturbed inputs: what `--region` says of each, by the options that say it of one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tightverify.cli.command import options
from tightverify.cli.options import LEVEL_OF_ONE, LIMITS, NORMS, input_files, region_of
from tightverify.errors import TightVerifyError, UsageError

if TYPE_CHECKING:
    from tightverify.region import Perturbation

WANTED = (
    "wanted NAME=NORM:EPS with a norm inf, 2 or 1, such as --region x=inf:0.01,noise=2:0.1, or NAME and the options of its "
    "region, such as --region 'x=db -80' --region 'noise=eps 0.1 norm 2 frames 0-3'"
)
TAKERS = "certify, bounds and radius"
"""The commands that take regions of several inputs."""


def regions_by_name(words: Sequence[str], clip: tuple[float, float] | None) -> dict[str, Perturbation]:
    """A region for each of several inputs; the clip is of those that have none of their own."""
    from tightverify.inputs.importing import named_apart

    if "inputs" not in click.get_current_context().params:
        raise UsageError(f"--region names several perturbed inputs, which {TAKERS} take; give --eps")
    apart = [part for given in words for part in re.split(r",(?=[^,=\s]+=)", given)]
    return {name: region_in(name, value, clip) for name, value in named_apart(apart, "--region", WANTED)}


def region_in(name: str, words: str, clip: tuple[float, float] | None) -> Perturbation:
    """The region that is said of one input in a few words."""
    norm, colon, size = words.partition(":")
    typed = ["eps", size, "norm", norm] if colon and norm in NORMS else shlex.split(words)
    reader = click.command("region")(options(*LEVEL_OF_ONE, *LIMITS)(lambda **_: None))
    known = {switch.removeprefix("--") for parameter in reader.params for switch in parameter.opts}
    try:
        with reader.make_context(f"--region {name}", [f"--{word}" if word in known else word for word in typed]) as context:
            said = dict(context.params)
    except click.UsageError as error:
        raise UsageError(f"--region {name}={words} cannot be read ({error.format_message().rstrip('.')}); {WANTED}") from error
    said["clip"] = clip if said["clip"] is None else said["clip"]
    try:
        return region_of(**said, region_words=(), substitute=None, nearest=None, most=None, name=name)
    except TightVerifyError as error:
        raise type(error)(f"--region {name}={words}: {error}") from error


def several_of(words: Sequence[str], clip: tuple[float, float] | None) -> Perturbation:
    """The regions as one, for arrays of these names and of the shapes that they have."""
    from tightverify.inputs.npz import read_several
    from tightverify.region import Several

    found = regions_by_name(words, clip)
    files = input_files()
    if len(files) != 1:
        raise UsageError(f"--region names arrays of one file of inputs, and {len(files)} files were given; give that file")
    return Several.of(found, {name: values.shape[1:] for name, values in read_several(files[0], list(found))[0].items()})
