"""The work of a run, cut into tasks that anybody can do: a thread, a process, a machine of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from time import perf_counter
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from servegrid.blocks import Region, owns, region_sizes
from servegrid.errors import InputError
from servegrid.place import Place
from servegrid.store import Store
from servegrid.summary import Finder, Found
from servegrid.sweepfile import SCORE


class Task(NamedTuple):
    """One block of the grid: the outputs to compute and store, and whether to look at the results.

    Without outputs, what is stored is looked at.
    """

    block: int
    outputs: tuple[str, ...]
    look: bool


@dataclass(frozen=True)
class Receipt:
    """What a task did: all that its client learns."""

    block: int
    worker: str
    seconds: float
    points: int
    chunks: int
    found: Found | None


Memory = dict[str, np.ndarray]
Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs; it can be pickled, and the kernel is compiled where it is first used."""

    finder: Finder
    store: Store

    def prepare(self) -> None:
        """Compile the kernel, or take it from the cache."""
        _ = self.finder.evaluator.kernel

    def do(self, task: Task, worker: str, memory: Memory) -> Receipt:
        """Do one task; `memory` is kept from task to task, for each thread its own."""
        started = perf_counter()
        region = self.store.blocks[task.block]
        found = self._compute(task, region, memory) if task.outputs else self._look(region)
        points = prod(region_sizes(region).values()) if task.outputs else 0
        return Receipt(task.block, worker, perf_counter() - started, points, len(task.outputs), found)

    def _compute(self, task: Task, region: Region, memory: Memory) -> Found | None:
        wanted = (*task.outputs, SCORE) if task.look else task.outputs
        arrays = self.finder.evaluator.region(region, memory, wanted)
        found = self.finder.look(region, arrays) if task.look else None
        self.store.write(region, {name: arrays[name] for name in task.outputs})
        return found

    def _look(self, region: Region) -> Found:
        variables = self.finder.evaluator.outputs
        names = self.finder.ingredients
        ranked = SCORE in variables and owns(region, variables[SCORE])
        arrays = {name: self.store.read(region, name) for name in names if ranked or owns(region, variables[name])}
        if ranked:
            arrays[SCORE] = self.finder.score(region, arrays)
        counted = {name: values for name, values in arrays.items() if owns(region, variables[name])}
        return self.finder.look(region, counted)


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
