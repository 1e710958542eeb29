"""The question in plain numpy: as one would write it, and tuned.

`tiles` takes one model on one accelerator at a time, so that everything stays in cache, and filters on few axes what
can be filtered there. `by_hand` also sees that the efficiency changes what meets the filter, but not the throughput.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.grid import DISPATCH_TIME, Arrays, Problem, aligned
from benchmarks.question import MOST_ITL, MOST_TTFT, Answer
from benchmarks.with_numpy import on_few_axes, part, places, served

Ask = Callable[[], Answer]
Work = dict[str, np.ndarray]
EFFICIENCY = 5  # its place among the axes


def written(problem: Problem) -> Ask:
    """Each quantity along its own axes; filter and maximum along all."""

    def run() -> Answer:
        found = served(**problem.facts)
        counts = (found["n"] > 0) & (found["ttft"] <= MOST_TTFT) & (found["itl"] <= MOST_ITL)
        scores = np.where(counts, found["throughput"], -np.inf).reshape(*counts.shape[:2], -1)
        best = scores.argmax(axis=-1)
        return Answer.of(problem, np.take_along_axis(scores, best[..., None], axis=-1), best)

    return run


def tiles(problem: Problem, threads: int) -> Ask:
    """One model on one accelerator at a time, into memory that is used again and again."""
    return _shared(problem, threads, _best)


def by_hand(problem: Problem, threads: int) -> Ask:
    """The same, with the efficiency found last: the lowest one at which the winner meets the filter."""
    return _shared(problem, threads, _best_of_any_efficiency)


def _shared(problem: Problem, threads: int, best: Callable[[Arrays, Work], tuple[float, int]]) -> Ask:
    parts = [part(problem.facts, *place) for place in places(problem)]
    work = [_work(problem) for _ in range(threads)]

    def run() -> Answer:
        found: list[tuple[float, int]] = [(0.0, 0)] * len(parts)

        def answer(thread: int) -> None:
            for index in range(thread, len(parts), threads):
                found[index] = best(parts[index], work[thread])

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(answer, range(threads)))
        return Answer.of(problem, np.array([score for score, _ in found]), np.array([place for _, place in found]))

    return run


def _work(problem: Problem) -> Work:
    """Memory for everything that is not on few axes, for one model on one accelerator."""
    decode, prefill = ((1, 1, *problem.open_shape(output)[2:]) for output in ("throughput", "ttft"))
    whole = np.broadcast_shapes(decode, prefill)
    return {
        "n": aligned(decode),
        "itl": aligned(decode),
        "slow": np.empty(decode, np.bool_),
        "ttft": aligned(prefill),
        "soon": np.empty(prefill, np.bool_),
        "scores": aligned(whole),
    }


def _filtered(facts: Arrays, work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Throughput where ITL is short enough, -inf elsewhere; and whether TTFT is."""
    few = on_few_axes(facts)
    n, itl, slow = work["n"], work["itl"], work["slow"]
    np.minimum(facts["max_batch_size"], few["room"], out=n)
    np.multiply(n, few["itl_per_request"], out=itl)
    np.add(itl, np.where(few["room"] > 0, few["itl_of_weights"], np.inf), out=itl)
    np.greater(itl, MOST_ITL, out=slow)
    np.divide(n, itl, out=itl)
    np.copyto(itl, -np.inf, where=slow)
    np.multiply(few["ttft_per_request"], facts["max_batch_size"], out=work["ttft"])
    np.less_equal(work["ttft"], MOST_TTFT - DISPATCH_TIME, out=work["soon"])
    return itl, work["soon"]


def _best(facts: Arrays, work: Work) -> tuple[float, int]:
    throughput, soon = _filtered(facts, work)
    scores = work["scores"]
    scores.fill(-np.inf)
    np.copyto(scores, throughput, where=soon)
    place = int(scores.argmax())
    return float(scores.flat[place]), place


def _best_of_any_efficiency(facts: Arrays, work: Work) -> tuple[float, int]:
    scores, soon = _filtered(facts, work)
    np.copyto(scores, -np.inf, where=~soon.any(axis=EFFICIENCY, keepdims=True))
    place = int(scores.argmax())
    where = list(np.unravel_index(place, scores.shape))
    at = tuple(0 if size == 1 else index for size, index in zip(soon.shape, where, strict=True))
    along = soon[(*at[:EFFICIENCY], slice(None), *at[EFFICIENCY + 1 :])]
    where[EFFICIENCY] = along.argmax()
    return float(scores.flat[place]), int(np.ravel_multi_index(where, work["scores"].shape))
