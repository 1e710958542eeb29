"""The simulator as plain Python, with step times and requests that a test chooses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import servegrid.simulation.scheduler
import servegrid.simulation.simulate
from servegrid.simulation.procedures import SIMULATE
from servegrid.simulation.simulate import Limits, Scheduler
from servegrid.simulation.state import RULES, SERVER, Lists
from servegrid.simulation.workload import Workload

NOTHING = np.empty(0)
MOST_TURNS = 100_000  # of the scheduler
_NAMES = [result.name for result in SIMULATE.results]
SCHEDULER = Scheduler(
    iteration_level=1,
    reservation=0,
    mixed_passes=1,
    chunked_prompts=1,
    swapping=0,
    watermark=0,
    max_batch_size=8,
    chunk_size=16,
    pool_pages=64,
    page_size=4,
    state_pages=0,
    swap_page_time=0,
    disaggregated=0,
    prefill_servers=1,
    pipeline_parallel=1,
)
LIMITS = Limits(feasible=1, warmup=0, frontend_time=0, ttft_limit=1e9, tpot_limit=1e9, percentile=99)
WORKLOAD = Workload(
    concurrency=0,
    request_rate=1,
    arrival_cv=1,
    requests=100,
    seed=0,
    length_shape=0,
    input_len=8,
    input_cv=0,
    longest_input=1e9,
    output_len=8,
    output_cv=0,
    longest_output=1e9,
    max_len=64,
    prefix_hit_rate=0,
    attention_data_parallel=1,
    trace_times=NOTHING,
    trace_inputs=NOTHING,
    trace_outputs=NOTHING,
)


@dataclass(frozen=True)
class Linear:
    """Step times [s] that no equation of ours gives."""

    step: float = 0.25
    request: float = 0.03125
    token: float = 0.0078125
    prompt_token: float = 0.0625
    pair: float = 0.001953125
    transfer_token: float = 0.015625

    def decode(self, requests: float, context: float) -> float:
        return self.step + self.request * requests + self.token * requests * context

    def attention(self, tokens: float, total: float) -> float:
        return self.pair * tokens * total

    def prompts(self, tokens: float, fellows: float, attention: float) -> float:
        """With requests that decode in the same pass, the pass is begun but once."""
        return (0 if fellows else self.step) + self.prompt_token * tokens + attention

    def transfer(self, tokens: float) -> float:
        return self.transfer_token * tokens


@contextmanager
def asking(times: Any) -> Iterator[pytest.MonkeyPatch]:
    """The scheduler asks these for the times, in place of equations; nothing warns, as compiled code does not."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        for name, answer in (
            ("decode_time", times.decode),
            ("attention_time", times.attention),
            ("prompt_time", times.prompts),
            ("transfer_time", times.transfer),
        ):
            patch.setattr(servegrid.simulation.scheduler, name, _without_physics(answer))
        yield patch


def _without_physics(answer: Callable[..., float]) -> Callable[..., float]:
    return lambda *arguments: answer(*arguments[:-1])


@dataclass(frozen=True)
class Played:
    requests: np.ndarray
    rules: np.void
    server: np.void
    lists: Lists


def played(workload: Workload, scheduler: Scheduler, times: Any = None, warmup: float = 0) -> Played:
    """All that there is after a simulation."""
    seen: list[Lists] = []
    turns = itertools.count()
    scheduling = servegrid.simulation.scheduler
    serve, admit = scheduling.serve, scheduling.admit

    def watched(*arguments: Any) -> None:
        seen.append(arguments[3])
        serve(*arguments)

    def counted(*arguments: Any) -> tuple[int, float]:
        assert next(turns) < MOST_TURNS, "the simulation does not end"
        return admit(*arguments)

    rules, server = np.zeros(1, RULES), np.zeros(1, SERVER)
    with asking(times or Linear()) as patch:
        patch.setattr(servegrid.simulation.simulate, "serve", watched)
        patch.setattr(scheduling, "admit", counted)
        requests = servegrid.simulation.simulate.play(workload, scheduler, warmup, NOTHING, rules, server)
    return Played(requests, rules[0], server[0], seen[0])


def results_of(
    workload: Workload, scheduler: Scheduler, limits: Limits = LIMITS, times: Any = None
) -> dict[str, float]:
    """What a simulation gives, by name."""
    with asking(times or Linear()):
        values = servegrid.simulation.simulate.simulate(workload, scheduler, limits, NOTHING)
    return dict(zip(_NAMES, values.tolist(), strict=True))


def traced(times: Sequence[float], inputs: Sequence[int], outputs: Sequence[int], **others: float) -> Workload:
    """Requests one by one."""
    columns = [np.array(column, float) for column in (times, inputs, outputs)]
    rows = dict(zip(("trace_times", "trace_inputs", "trace_outputs"), columns, strict=True))
    given: dict[str, Any] = {"request_rate": 0, "requests": len(times), **others, **rows}
    return WORKLOAD._replace(**given)
