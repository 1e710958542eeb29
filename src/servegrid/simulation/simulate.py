"""One simulation: requests are drawn, served by one of the data-parallel ranks, and summed up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from servegrid.simulation.buddy import all_free
from servegrid.simulation.scheduler import serve
from servegrid.simulation.state import (
    BUSY,
    COUNTED,
    COUNTERS,
    FINAL_TIME,
    LONGEST_QUEUE,
    NOW,
    PAGES,
    PASSES,
    PREEMPTIONS,
    REFUSED,
    RESERVED_TIME,
    RUNNING_TIME,
    SUMS,
    TOKEN_TIME,
    USED_TIME,
    WAITING_TIME,
    Requests,
    Rules,
    Server,
)
from servegrid.simulation.statistics import estimate
from servegrid.simulation.workload import Workload, clients_of, draw_requests

EACH = 12  # results of each of the four measures
COUNTS = 18  # results after those
RESULTS = 4 * EACH + COUNTS


class Scheduler(NamedTuple):
    """The quantities that say how requests are scheduled, and how much memory there is."""

    iteration_level: float
    reservation: float
    mixed_passes: float
    chunked_prompts: float
    swapping: float
    watermark: float
    max_batch_size: float
    chunk_size: float
    pool_pages: float
    page_size: float
    state_pages: float
    swap_page_time: float
    disaggregated: float
    prefill_servers: float


class Limits(NamedTuple):
    """What is counted, and what is good."""

    feasible: float
    warmup: float
    frontend_time: float
    ttft_limit: float
    tpot_limit: float
    percentile: float


def rules_of(scheduler: Scheduler, workload: Workload) -> Rules:
    """Return the same for the server, in whole requests, tokens and pages."""
    s = scheduler
    pages = int(s.pool_pages)
    return Rules(
        s.iteration_level > 0, int(s.reservation), s.mixed_passes > 0, s.chunked_prompts > 0, s.swapping > 0,
        int(s.max_batch_size), int(s.chunk_size), pages, int(s.page_size), int(s.watermark * pages),
        int(s.state_pages), int(workload.max_len), s.swap_page_time, clients_of(workload), s.disaggregated,
    )  # fmt: skip


def play(
    workload: Workload, scheduler: Scheduler, warmup: float, physics: np.ndarray
) -> tuple[Requests, Server, Rules]:
    """Serve the requests of a workload."""
    arrival, prompt, output = draw_requests(workload)
    count = len(arrival)
    rules = rules_of(scheduler, workload)
    cached = np.empty(count, np.int64)
    for i in range(count):
        cached[i] = min(int(prompt[i] * workload.prefix_hit_rate), int(prompt[i]) - 1)  # the last one gives the output
    integers = np.zeros((6, count), np.int64)
    requests = Requests(
        arrival, np.full(count, np.nan), prompt.astype(np.int64), cached, output.astype(np.int64),
        np.full(count, np.nan), np.full(count, np.nan),
        integers[0], integers[1], integers[2], integers[3], integers[4], integers[5], np.zeros(count, np.bool_),
    )  # fmt: skip
    ignored = int(warmup * count)
    burst = rules.clients >= count if rules.clients > 0 else arrival[count - 1] <= arrival[ignored]
    lists = np.zeros((3, count), np.int64)
    server = Server(
        np.zeros(COUNTERS, np.int64), np.zeros(SUMS), lists[0], lists[1], lists[2], np.zeros(rules.page, np.int64),
        all_free(rules.pages if rules.reservation != PAGES else 1), np.zeros(int(scheduler.prefill_servers)),
        ignored, burst,
    )  # fmt: skip
    serve(requests, rules, server, physics)
    return requests, server, rules


def simulate(workload: Workload, scheduler: Scheduler, limits: Limits, physics: np.ndarray) -> np.ndarray:
    """Simulate one point.

    Fields are quantities of the solver `simulation`, in their units; series are (n,) arrays. What it returns is
    declared in `procedures`, in the same order: `estimates` of four measures of the requests, then means over the time
    from the first request that counts to the last arrival (over all of it, where all come at once).
    """
    results = np.full(RESULTS, np.nan)
    counts = results[RESULTS - COUNTS :]
    if limits.feasible:
        requests, server, rules = play(workload, scheduler, limits.warmup, physics)
        percentiles = np.array((50.0, 90.0, 95.0, 99.0, limits.percentile))
        for k, values in enumerate(measures(requests, server, limits)):
            estimate(values, percentiles, results[k * EACH : (k + 1) * EACH])
        count(requests, server, rules, workload, limits, counts)
    else:
        counts[:3] = 0.0
    return results


def measures(
    requests: Requests, server: Server, limits: Limits
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the times of the requests that count [s]: to the first token, per output token, of all, of all per token.

    The second leaves requests of one token out.
    """
    ttft = requests.first[server.ignored :] - requests.arrival[server.ignored :] + limits.frontend_time
    latency = requests.finish[server.ignored :] - requests.arrival[server.ignored :] + limits.frontend_time
    outputs = requests.output[server.ignored :]
    ended = ~np.isnan(latency)
    several = ended & (outputs > 1)
    tpot = (latency - ttft)[several] / (outputs[several] - 1)
    return ttft[ended], tpot, latency[ended], latency[ended] / outputs[ended]


def count(
    requests: Requests, server: Server, rules: Rules, workload: Workload, limits: Limits, counts: np.ndarray
) -> None:
    """Fill rates of the whole server, means over time of one rank, and counts of the whole run."""
    n, clock = server.n, server.clock
    total = len(requests.arrival)
    begin, end = requests.arrival[server.ignored], requests.arrival[total - 1]
    if server.burst:
        begin, end = requests.arrival[0], clock[NOW]
    ended, tokens, good, counted = 0, 0.0, 0, 0
    for i in range(total):
        if np.isnan(requests.finish[i]):
            continue
        if begin < requests.finish[i] <= end:
            ended += 1
            tokens += requests.output[i]
        if i >= server.ignored:
            counted += 1
            first = requests.first[i] - requests.arrival[i] + limits.frontend_time
            each = (requests.finish[i] - requests.first[i]) / max(requests.output[i] - 1, 1)
            good += first <= limits.ttft_limit and each <= limits.tpot_limit
    ranks = workload.attention_data_parallel
    seconds = end - begin
    rate = ranks * ended / seconds
    share = good / counted
    time = clock[COUNTED]
    pool = time * rules.pages * rules.page
    states, used = clock[TOKEN_TIME], clock[USED_TIME] * rules.page
    reserved = clock[RESERVED_TIME] * rules.page
    final = states if rules.reservation == PAGES else clock[FINAL_TIME]
    counts[:] = np.array(
        (
            rate,
            ranks * tokens / seconds,
            rate * share,
            share,
            clock[RUNNING_TIME] / time,
            clock[WAITING_TIME] / time,
            float(n[LONGEST_QUEUE]),
            clock[BUSY] / time,
            states / pool,
            (final - states) / pool,
            (reserved - final) / pool,
            1 - reserved / pool,
            clock[USED_TIME] / time,
            1 - states / used,
            n[PREEMPTIONS] / total,
            n[REFUSED] / total,
            float(n[PASSES]),
            clock[NOW],
        )
    )
