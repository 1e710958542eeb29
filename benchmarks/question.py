"""The question that every contender answers on the benchmark's grid, and how an answer is written down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.grid import FULL, Problem

# Which configuration gives each model the most throughput on each accelerator, where users are not kept waiting?
OBJECTIVE = "throughput"
MOST_TTFT, MOST_ITL = 0.5, 0.05  # [s]
WHERE = f"ttft <= {MOST_TTFT} and itl <= {MOST_ITL}"
PER = ("model", "hardware")
NEEDED = ("throughput", "ttft", "itl")

# Four times the points, 268,435,456: what a question costs whatever its size does not count here.
LARGE = Problem({**FULL.axes, "max_batch_size": range(2, 514, 2)})


@dataclass(frozen=True)
class Answer:
    """For each model and accelerator the highest score, and its place along all other axes, in C order.

    Where no configuration counts, -inf and 0. Of equal scores, the first place.
    """

    scores: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, problem: Problem, scores: np.ndarray, places: np.ndarray) -> Answer:
        """From arrays of any shape that have the right order."""
        shape = tuple(problem.sizes[axis] for axis in PER)
        scores, places = (np.asarray(array).reshape(shape) for array in (scores, places))
        return cls(scores, np.where(scores > -np.inf, places, 0))


def others(problem: Problem) -> tuple[str, ...]:
    """The axes along which a configuration is chosen."""
    return tuple(axis for axis in problem.axes if axis not in PER)


def disagreement(found: Answer, expected: Answer) -> str:
    """In what two answers differ; empty where they do not."""
    exist = expected.scores > -np.inf
    if not np.array_equal(found.scores > -np.inf, exist):
        return "another set of groups has an answer"
    # Two orders of summation, two ways to associate a product: the last bits may differ, no more.
    if not np.allclose(found.scores[exist], expected.scores[exist], rtol=1e-9, atol=0):
        return "the scores differ"
    differ = int((found.places != expected.places).sum())
    return f"{differ} of {exist.sum()} winners are other configurations" if differ else ""
