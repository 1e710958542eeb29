"""The work of a run, cut into tasks that anybody can do: a thread, a process, a machine of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from time import perf_counter
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from servegrid.blocks import region_sizes
from servegrid.errors import InputError
from servegrid.evaluate import Evaluator
from servegrid.place import Place
from servegrid.store import Store


class Task(NamedTuple):
    """One block of the grid, and the outputs with which something is to be done there."""

    block: int
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Receipt:
    """What a task did: all that its client learns."""

    block: int
    worker: str
    seconds: float
    points: int
    chunks: int


Memory = dict[str, np.ndarray]
Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs; it can be pickled, and the kernel is compiled where it is first used."""

    evaluator: Evaluator
    store: Store

    def prepare(self) -> None:
        """Compile the kernel, or take it from the cache."""
        _ = self.evaluator.kernel

    def do(self, task: Task, worker: str, memory: Memory) -> Receipt:
        """Compute and store the outputs of one task."""
        started = perf_counter()
        region = self.store.blocks[task.block]
        self.store.write(region, self.evaluator.region(region, memory, task.outputs))
        points = prod(region_sizes(region).values())
        return Receipt(task.block, worker, perf_counter() - started, points, len(task.outputs))


class Work(Protocol[Result_co]):
    """What a crew does with tasks; it can be pickled."""

    def prepare(self) -> None:
        """Get ready, once in each process."""

    def do(self, task: Task, worker: str, memory: Memory) -> Result_co:
        """Do one task; `memory` is kept from task to task, for each thread its own."""


def check_reach(place: Place, crew: Crew) -> None:
    """Raise InputError where the crew could not see the store."""
    if crew.elsewhere and not place.is_shared:
        raise InputError(f"{place}: is in the memory of this process, expected a place that {crew.title} see, too")


class Crew(Protocol):
    """Those who do the tasks."""

    @property
    def title(self) -> str:
        """Who they are, for people: "2 threads"."""

    @property
    def size(self) -> int:
        """How many tasks are done at once in all."""

    @property
    def threads(self) -> int:
        """How many tasks may be done at once in one process, whose memory they share."""

    @property
    def elsewhere(self) -> bool:
        """Whether the work is done in other processes."""

    @property
    def memory(self) -> int | None:
        """What one process may take [byte], where the crew knows."""

    @property
    def retries(self) -> int:
        """How many tasks were given to another worker because one was lost; some of them it had not begun."""

    def limited(self, threads: int) -> Crew:
        """The same with so many threads in one process at most, where that can be chosen."""

    def get_ready(self, work: Work[Any]) -> None:
        """Be there, with the kernel compiled; `do` does it otherwise."""

    def do(self, work: Work[Result_co], tasks: Iterable[Task]) -> Iterator[Result_co]:
        """Do all tasks, few of them at a time; results come in any order."""
