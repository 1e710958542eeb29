"""The highest rate of requests that meets the limits, found by simulating again and again."""

from __future__ import annotations

import numpy as np

from servegrid.simulation.simulate import Limits, Scheduler, measures, play
from servegrid.simulation.state import RULES, SERVER
from servegrid.simulation.workload import Workload, at_rate

HALVINGS = 10  # of the bracket: the rate is found to a thousandth of the largest one


def search_capacity(workload: Workload, scheduler: Scheduler, limits: Limits, physics: np.ndarray) -> np.ndarray:
    """Return the highest rate at which the limits are met [request/s]; 0 where they never are.

    The limits: of the time to first token at the percentile, and of the mean time per output token; and all requests
    are served. No rate can be higher than that at which the requests end when all of them come at once.
    """
    if not limits.feasible:
        return np.zeros(1)
    low, high = 0.0, np.inf
    for _ in range(HALVINGS + 1):
        rules, server = np.zeros(1, RULES), np.zeros(1, SERVER)
        rate = (low + high) / 2  # endless at first: all come at once
        # The one place that plays: LLVM writes the whole simulation out in each, and takes minutes for two.
        requests = play(at_rate(workload, rate), scheduler, limits.warmup, physics, rules, server)
        if server[0]["refused"] > 0:
            return np.zeros(1)
        if np.isinf(high):
            high = workload.attention_data_parallel * len(requests) / server[0]["now"]
        elif meets(requests, rules, limits):
            low = rate
        else:
            high = rate
    return np.array((low,))


def meets(requests: np.ndarray, rules: np.ndarray, limits: Limits) -> bool:
    """Return whether the requests of a simulation meet the limits."""
    found = measures(requests, rules, limits)
    if np.percentile(found.ttft, limits.percentile) > limits.ttft_limit:
        return False
    return len(found.tpot) == 0 or bool(np.mean(found.tpot) <= limits.tpot_limit)
