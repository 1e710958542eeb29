"""Simulations to be timed: the Azure conversation trace under each scheduler, a loaded server, a lone client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measure import use_cache
from servegrid.api import load
from servegrid.evaluate import Evaluator, prepare
from servegrid.kernel import Kernel
from servegrid.parameters import gather

SCHEDULERS = ("static", "orca-max", "orca-pow2", "orca-oracle", "paged", "paged-swap", "chunked")
OUTPUTS = ("passes", "simulated_time", "ttft", "tpot", "active_requests", "preemptions")
SERVER: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm",
    "precision": "bf16",
    "engine": "vllm",
    "max_len": 16384,
}
TRACE = {"trace": "azure-conv", "requests": 19366}
# 600 clients whose requests, all together, would take twice the pages that there are.
LOADED = {"concurrency": 600, "input_len": 1000, "output_len": 1000, "requests": 20000}
LONE = {"concurrency": 1, "input_len": 1000, "output_len": 200, "requests": 4000}
PROMPTS = {"concurrency": 1, "input_len": 1000, "output_len": 1, "requests": 100_000}


@dataclass(frozen=True)
class Case:
    """A workload on a server."""

    name: str
    scheduler: str
    workload: Mapping[str, Any] = field(default_factory=lambda: TRACE)

    def few(self, requests: int) -> Case:
        """The first so many requests of it."""
        return Case(self.name, self.scheduler, {**self.workload, "requests": requests})

    def evaluator(self, seeds: int = 1) -> Evaluator:
        """The simulation; several of it, where there are several seeds, which a trace does not heed."""
        values = {**SERVER, **self.workload, "scheduler": self.scheduler}
        axes = {"seed": list(range(seeds))} if seeds > 1 else {}
        return prepare(gather(load(solver="simulation", axes=axes, values=values, outputs=list(OUTPUTS))))


CASES = (
    *(Case("trace", scheduler) for scheduler in SCHEDULERS),
    *(Case("600 clients, memory short", scheduler, LOADED) for scheduler in ("paged", "paged-swap", "chunked")),
    Case("one client", "chunked", LONE),
    Case("one client, prompts alone", "chunked", PROMPTS),
)


def run(evaluator: Evaluator, kernel: Callable[[Evaluator], Kernel] = lambda evaluator: evaluator.kernel) -> Ran:
    """One simulation without axes: all that its kernel stores."""
    program = evaluator.program
    arrays = {name: np.empty(1, program.array_dtype(name)) for name in program.stored}
    ready = kernel(evaluator)
    started = perf_counter()
    ready({}, evaluator.inputs, arrays, np.ones(len(program.nests), bool))
    seconds = perf_counter() - started
    return Ran({name: float(arrays[name][0]) for name in program.graph.outputs}, seconds)


@dataclass(frozen=True)
class Ran:
    """What a simulation gave, and how long it took."""

    found: Mapping[str, float]
    seconds: float

    @property
    def pass_rate(self) -> float:
        """Passes per second."""
        return self.found["passes"] / self.seconds

    @property
    def times_real(self) -> float:
        """Simulated seconds per second."""
        return self.found["simulated_time"] / self.seconds


def best(evaluator: Evaluator, rounds: int) -> Ran:
    """The fastest of so many runs, after one to warm up."""
    run(evaluator)
    return min((run(evaluator) for _ in range(rounds)), key=lambda ran: ran.seconds)


def seconds_to_compile(cache: str, case: Case, seeds: int = 1) -> float:
    """How long the kernel takes to be compiled, or to come from this folder, in a process of its own."""
    use_cache(cache)
    evaluator = case.evaluator(seeds)
    started = perf_counter()
    _ = evaluator.kernel
    return perf_counter() - started
