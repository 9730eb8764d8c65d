"""How many threads to compute with: as many as the work pays for, and as the machine has to spare.

torch takes all cores unless it is told otherwise. For small networks that is slower even on an idle machine: each of thousands
of small operations waits for all threads. Beside other work it is many times slower, for they wait for the slowest. So one
thread does small work, and large work gets no more than what other programs, and the limits of a container, leave.

Who has chosen a number (`OMP_NUM_THREADS`, `torch.set_num_threads`) has that number.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

PAYS = 1_000_000
"""Numbers in the largest temporary of a bounding pass (rows by neurons) from which on several threads pay.

Measured on two cores: a step of back-substitution (rows times a matrix of 64 to 512 neurons, then planes by sign) takes one
thread 0.1 to 0.7 ms with 3e4 numbers, 2 to 18 ms with 3e5, 10 to 30 ms with 1e6. Where both cores are idle two threads are 1.3
to 1.7 times as fast; where one is taken, each step waits for a time slice of 10 to 20 ms: linear bounds of an LSTM of 64 units,
one input, took 2.4 s instead of 0.04 s. From 1e6 numbers on a step is as long as such a wait: more can be won than lost.
"""
CHOSEN = "OMP_NUM_THREADS", "MKL_NUM_THREADS"
CPUS = Path("/sys/devices/system/cpu")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
OLD_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


@contextmanager
def threads_for(numbers: int, device: str = "cpu") -> Iterator[None]:
    """Compute with as many threads as suit temporaries of so many numbers; what was set before holds again afterwards."""
    before = torch.get_num_threads()
    chosen = before if device != "cpu" or chosen_by_user(before) else min(before, suiting(numbers))
    if chosen != before:
        torch.set_num_threads(chosen)
    try:
        yield
    finally:
        if chosen != before:
            torch.set_num_threads(before)


def suiting(numbers: int) -> int:
    """How many threads such work gets, where nobody has chosen."""
    return 1 if numbers < PAYS else max(1, math.floor(allowed() - load_of_others()))


def chosen_by_user(threads: int) -> bool:
    """Whether the number of threads is not simply that of all cores, which is what torch begins with."""
    return any(os.environ.get(name) for name in CHOSEN) or threads not in {len(cores()), physical(cores())}


def cores() -> frozenset[int]:
    """The logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def physical(logical: frozenset[int]) -> int:
    """How many physical cores these are."""
    try:
        return len({(CPUS / f"cpu{core}" / "topology" / "thread_siblings_list").read_text() for core in logical})
    except OSError:
        return len(logical)


def allowed() -> float:
    """The cores that this process may keep busy: all that it may run on, or less where its container is limited."""
    return min(float(len(cores())), quota())


def quota() -> float:
    """The cores' worth of time that the container has; infinite where it has no limit."""
    try:
        most, per = QUOTA.read_text().split() if QUOTA.exists() else [path.read_text() for path in OLD_QUOTA]
        return float(most) / float(per) if most != "max" and float(most) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


@cache
def load_of_others() -> float:
    """How many cores were busy, in the mean of a minute, when first asked: later this process itself would count."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def busy() -> str:
    """What a user should know of a machine that has little time to spare; nothing where it has."""
    have, load, limit = len(cores()), load_of_others(), quota()
    if load > have / 2:
        return f"the machine is busy (a load of {load:.1f} on {have} cores): runs take longer, and prove less in a time limit"
    if limit < have:
        return f"this process is limited to {limit:g} of {have} cores: runs take longer, and prove less in a time limit"
    return ""
