"""A run over several processes: inputs in groups, each group with one thread of a process of its own.

A process reads the files itself, decides a group as a single process would, and sends each result when its input is decided.
One that ends before its group does, as the system kills what takes too much memory, costs nothing that it has sent: another
goes on with the rest of the group, input by input. An input with which processes end `TRIES` times is left open, with a note.

Each process has a pipe of its own. What processes share, as a queue, may be locked for good when one of them is killed.
"""

from __future__ import annotations

import math
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from tightverify.api.certify import Deliver
from tightverify.inputs.dataset import DataSet, prepared
from tightverify.inputs.source import Source
from tightverify.region import Perturbation
from tightverify.settings import Settings
from tightverify.stages.progress import Callback, Step
from tightverify.verify import Result, Verdict

TRIES = 3
SHARE = 1.3
"""A group is one of so many parts, for each process, of what is left: large groups take less time, small ones end together."""
LEAST, PARTS = 8, 16
"""No group is below so many inputs, or one of so many parts, for each process, of all: to begin one takes time, too."""
Group = tuple[int, ...]
"""Numbers of inputs that are decided together."""


@dataclass(frozen=True)
class Question:
    """What a process needs to know to decide groups of inputs."""

    source: Source
    region: Perturbation
    settings: Settings
    top: int


@dataclass(frozen=True)
class Jobs:
    """So many processes for the inputs of a source; called as `inputs.dataset.prepared`."""

    source: Source
    count: int

    def __call__(
        self, data: DataSet, region: Perturbation, settings: Settings, top: int, callback: Callback
    ) -> Callable[[Deliver], None]:
        """What decides all inputs; all is checked before this returns, on the first."""
        prepared(data[:1], region, settings, top)
        if len(data):
            data.check(region, top)
        share = replace(settings, leaf_memory=max(1, settings.leaf_memory // self.count))
        crew = Crew(Question(self.source, region, share, top), callback, data.numbers.tolist())
        return lambda deliver: crew.run(groups_of(crew.numbers, settings.batch, self.count), self.count, deliver)


def groups_of(numbers: Sequence[int], batch: int, jobs: int) -> list[Group]:
    """All inputs in ever smaller groups of at most a batch, in their order."""
    groups, start, least = list[Group](), 0, min(LEAST, batch, len(numbers) // (PARTS * jobs))
    while start < len(numbers):
        left = len(numbers) - start
        size = min(batch, max(1, least, math.ceil(left / (SHARE * jobs))))
        if left - size < least:
            size = left if left <= batch else math.ceil(left / 2)
        groups.append(tuple(numbers[start : start + size]))
        start += size
    return groups


@dataclass(eq=False)
class Worker:
    """A process, this end of its pipe, and what of its group it has not sent yet."""

    process: BaseProcess
    pipe: Connection
    left: list[int] = field(default_factory=list)

    def take(self, group: Group) -> None:
        self.left = list(group)
        self.pipe.send_bytes(pickle.dumps(group))


@dataclass(eq=False)
class Crew:
    """The processes, and how often one ended with each input alone."""

    question: Question
    callback: Callback
    numbers: list[int]
    ended: dict[int, int] = field(default_factory=dict)

    def run(self, groups: Sequence[Group], count: int, deliver: Deliver) -> None:
        """Give groups to processes until all inputs are delivered."""
        waiting = deque(groups)
        with self._processes() as workers:
            while waiting or any(worker.left for worker in workers):
                for worker in workers:
                    if waiting and not worker.left:
                        self._give(worker, waiting)
                while waiting and len(workers) < count:
                    workers.append(self._hire())
                    self._give(workers[-1], waiting)
                for pipe in wait([worker.pipe for worker in workers]):
                    worker = next(worker for worker in workers if worker.pipe is pipe)
                    try:
                        heard = pickle.loads(worker.pipe.recv_bytes())
                    except (EOFError, OSError):
                        workers.remove(worker)
                        waiting.extendleft(reversed(self._again(worker, deliver)))
                        continue
                    self._hear(worker, heard, deliver)

    def _give(self, worker: Worker, waiting: deque[Group]) -> None:
        with suppress(OSError):  # it has ended: its pipe says so when it is read
            worker.take(waiting.popleft())

    def _hear(self, worker: Worker, heard: Any, deliver: Deliver) -> None:
        places = {number: place for place, number in enumerate(self.numbers)}
        match heard:
            case Result():
                worker.left.remove(heard.index)
                deliver(replace(heard, index=places[heard.index]))
            case Step():
                self.callback(replace(heard, inputs=torch.tensor([places[number] for number in heard.inputs.tolist()])))
            case BaseException():
                raise heard

    def _again(self, worker: Worker, deliver: Deliver) -> list[Group]:
        """What another process is to do of the group of one that ended."""
        worker.process.join()
        if len(worker.left) == 1:
            (number,) = worker.left
            self.ended[number] = self.ended.get(number, 0) + 1
            if self.ended[number] == TRIES:
                words = f"its process ended {TRIES} times (exit code {worker.process.exitcode}), as for want of memory"
                deliver(left_open(self.numbers.index(number), words))
                return []
        return [(number,) for number in worker.left]

    def _hire(self) -> Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, pickle.dumps(self.question)), daemon=True)
        process.start()
        theirs.close()
        return Worker(process, ours)

    @contextmanager
    def _processes(self) -> Iterator[list[Worker]]:
        workers: list[Worker] = []
        try:
            yield workers
        finally:
            for worker in workers:
                worker.process.kill()
            for worker in workers:
                worker.process.join()
                worker.pipe.close()


def left_open(place: int, note: str) -> Result:
    """An input that no process came to an end with."""
    return Result(Verdict.UNKNOWN, torch.zeros(0, dtype=torch.float64), -math.inf, "", 0.0, None, note=note, index=place)


def work(pipe: Connection, asked: bytes) -> None:
    """What a process does: groups, until there is no more to read."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever waits for it ends it
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    try:
        question: Question = pickle.loads(asked)
        data = question.source.read(question.top)
        while True:
            group = torch.tensor(pickle.loads(pipe.recv_bytes()))
            decide(question, data[group], pipe)
    except (EOFError, BrokenPipeError, MemoryError):  # the first two, as nobody waits any more; the last is tried again
        return
    except Exception as error:
        pipe.send_bytes(pickle.dumps(error))


def decide(question: Question, data: DataSet, pipe: Connection) -> None:
    """Decide a group, and send every step and result."""
    numbers = data.numbers

    def tell(step: Step) -> None:
        pipe.send_bytes(pickle.dumps(replace(step, inputs=numbers[step.inputs])))

    def deliver(result: Result) -> None:
        pipe.send_bytes(pickle.dumps(replace(result, index=int(numbers[result.index]))))

    prepared(data, question.region, question.settings, question.top, tell)(deliver)


def end_with_parent() -> None:
    """End at once when the process that waits for results has ended."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
