"""How a record was made: by which version, of which files, with which settings, where and when.

Records of one run have the same origin. Two origins ask the same question where they differ in nothing that `differences`
names: only then can one run go on with what the other left.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from tightverify.evidence import digest
from tightverify.option import Group, option_of
from tightverify.region import Perturbation
from tightverify.settings import Settings

ASIDE = "version", "machine", "threads", "started"
"""What may differ between runs that go on with each other."""
QUESTION = "model_sha256", "data_sha256", "regions", "top", "reading"
"""What says which question is asked; all else, how an answer is looked for."""
WORDS = {
    "model_sha256": "the model",
    "data_sha256": "the data",
    "regions": "the region",
    "top": "--top",
    "reading": "how inputs are read",
}


@dataclass(frozen=True)
class Origin:
    """In plain values: the version of this package, the SHA-256 of the model's and the inputs' files, the regions asked about,
    among how many outputs the label had to stay, the settings that bear on verdicts and margins, how inputs were read, and the
    machine, the threads and the moment (UTC) of the run's start.
    """

    version: str
    model_sha256: str | None
    data_sha256: str | None
    regions: list[dict[str, Any]]
    top: int
    settings: dict[str, Any]
    reading: dict[str, Any]
    machine: str
    threads: int
    started: str

    @classmethod
    def of(
        cls,
        model_sha256: str | None,
        data_sha256: str | None,
        regions: Iterable[Perturbation],
        top: int,
        settings: Settings,
        reading: Mapping[str, Any],
    ) -> Origin:
        """Here and now."""
        asked, told = [exactly(region) for region in regions], plain(settings)
        where, threads = f"{platform.node()} {platform.machine()}", torch.get_num_threads()
        return cls(own_version(), model_sha256, data_sha256, asked, top, told, dict(reading), where, threads, now())


def exactly(region: Perturbation) -> dict[str, Any]:
    """A region in words, and all that it was made of to the last digit."""
    made_of = {each.name: to_plain(getattr(region, each.name)) for each in fields(cast(Any, region))}
    return {"region": region.described, **made_of}


def to_plain(value: Any) -> Any:
    """Numbers and words as they are, infinity in a word, of arrays the hash, of regions all that they are made of."""
    if isinstance(value, Perturbation):
        return exactly(value)
    if isinstance(value, Tensor):
        return digest(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray):
        return digest(value)
    if isinstance(value, (list, tuple)):
        return [to_plain(each) for each in value]
    if isinstance(value, dict):
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    if isinstance(value, float) and math.isinf(value):
        return f"{value:g}"
    return value if value is None or isinstance(value, (str, int, float)) else repr(value)


def now() -> str:
    """The moment, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def own_version() -> str:
    try:
        return version("tightverify")
    except PackageNotFoundError:  # it runs from a folder of sources
        return "unknown"


def plain(settings: Settings) -> dict[str, Any]:
    """The settings that bear on verdicts and margins; a limit that there is not is None."""
    told = {each.name: getattr(settings, each.name) for each in fields(settings) if bears(each)}
    return {name: None if isinstance(value, float) and math.isinf(value) else value for name, value in told.items()}


def bears(field: Any) -> bool:
    """Whether a setting bears on what comes out: folders do not, nor how it is computed."""
    group = option_of(field).group
    return group not in (Group.COMPUTING, Group.EVIDENCE) and field.name not in ("trees", "dump", "leaf_memory", "processes")


def sha256(path: Path) -> str:
    """The hash of a file, as `sha256sum` gives it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(paths: Iterable[Path]) -> str:
    """The hash of a file; of several, that of lines with the hash and the name of each, as `sha256sum` writes them."""
    several = list(paths)
    if len(several) == 1:
        return sha256(several[0])
    lines = "".join(f"{sha256(path)}  {path.name}\n" for path in several)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def differences(before: Mapping[str, Any], origin: Origin, question_alone: bool = False) -> list[str]:
    """In words, what is not as it was when records of an origin, as these hold it, were made."""
    after, found = asdict(origin), []
    for name in QUESTION:
        was, now = before.get(name), after[name]
        if was != now and name.endswith("sha256"):
            found.append(f"{WORDS[name]} (SHA-256 {str(was)[:8]}..., now {str(now)[:8]}...)")
        elif was != now:
            found.append(f"{WORDS[name]} ({in_words(was)}, now {in_words(now)})")
    settings = before.get("settings") or {}
    for name, now in origin.settings.items():
        if not question_alone and settings.get(name) != now:
            found.append(f"--{name.replace('_', '-')} ({in_words(settings.get(name))}, now {in_words(now)})")
    return found


def in_words(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(in_words, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {in_words(each)}" for name, each in value.items() if each is not None) or "nothing said"
    return "none" if value is None else str(value)
