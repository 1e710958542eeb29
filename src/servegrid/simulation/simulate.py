"""One simulation: requests are drawn, served by one of the data-parallel ranks, and summed up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from servegrid.simulation.buddy import all_free
from servegrid.simulation.scheduler import serve
from servegrid.simulation.state import PAGES, REQUEST, RULES, SERVER, Lists
from servegrid.simulation.statistics import estimate
from servegrid.simulation.workload import Workload, clients_of, draw_requests

EACH = 12  # results of each of the four measures
COUNTS = 19  # results after those
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
    pipeline_parallel: float


class Limits(NamedTuple):
    """What is counted, and what is good."""

    feasible: float
    warmup: float
    frontend_time: float
    ttft_limit: float
    tpot_limit: float
    percentile: float


def set_rules(rules: np.ndarray, scheduler: Scheduler, workload: Workload) -> None:
    """Fill `rules` with the same in whole requests, tokens and pages."""
    rules[0]["iteration_level"] = scheduler.iteration_level > 0
    rules[0]["reservation"] = scheduler.reservation
    rules[0]["mixed"] = scheduler.mixed_passes > 0
    rules[0]["chunked"] = scheduler.chunked_prompts > 0 and scheduler.iteration_level > 0
    rules[0]["shortest"] = scheduler.chunked_prompts > 0 and not rules[0]["chunked"] and scheduler.reservation > PAGES
    rules[0]["swapping"] = scheduler.swapping > 0
    rules[0]["batch"] = scheduler.max_batch_size
    rules[0]["budget"] = scheduler.chunk_size
    rules[0]["pages"] = scheduler.pool_pages
    rules[0]["page"] = scheduler.page_size
    rules[0]["spare"] = scheduler.watermark * scheduler.pool_pages
    rules[0]["own"] = scheduler.state_pages
    rules[0]["stages"] = scheduler.pipeline_parallel
    rules[0]["longest"] = workload.max_len
    rules[0]["clients"] = clients_of(workload)
    rules[0]["swap_time"] = scheduler.swap_page_time
    rules[0]["handed_over"] = scheduler.disaggregated


def play(
    workload: Workload, scheduler: Scheduler, warmup: float, physics: np.ndarray, rules: np.ndarray, server: np.ndarray
) -> np.ndarray:
    """Serve the requests of a workload and return them; fills `rules` and `server`, an empty record each."""
    arrival, prompt, output = draw_requests(workload)
    count = len(arrival)
    requests = np.zeros(count, REQUEST)
    for i in range(count):
        request = requests[i]
        request["arrival"], request["prompt"], request["output"] = arrival[i], prompt[i], output[i]
        request["first"] = request["finish"] = np.nan
        request["cached"] = min(prompt[i] * workload.prefix_hit_rate, prompt[i] - 1)  # the last one gives the output
    set_rules(rules, scheduler, workload)
    rules[0]["ignored"] = int(warmup * count)
    clients = rules[0]["clients"]
    rules[0]["burst"] = clients >= count if clients > 0 else arrival[count - 1] <= arrival[rules[0]["ignored"]]
    lists = Lists(
        np.zeros((3, count), np.int64),
        np.zeros(rules[0]["page"], np.int64),
        all_free(rules[0]["pages"] if rules[0]["reservation"] != PAGES else 1),
    )
    serve(requests, rules, server, lists, np.zeros(int(scheduler.prefill_servers)), physics)
    return requests


def simulate(workload: Workload, scheduler: Scheduler, limits: Limits, physics: np.ndarray) -> np.ndarray:
    """Simulate one point.

    Fields are quantities of the solver `simulation`, in their units; series are (n,) arrays. What it returns is
    declared in `procedures`, in the same order: `estimates` of four measures of the requests, then means over the time
    from the first request that counts to the last arrival (over all of it, where all come at once).
    """
    results = np.full(RESULTS, np.nan)
    counts = results[RESULTS - COUNTS :]
    if limits.feasible:
        rules, server = np.zeros(1, RULES), np.zeros(1, SERVER)
        requests = play(workload, scheduler, limits.warmup, physics, rules, server)
        percentiles = np.array((50.0, 90.0, 95.0, 99.0, limits.percentile))
        for k, values in enumerate(measures(requests, rules, limits)):
            estimate(values, percentiles, results[k * EACH : (k + 1) * EACH])
        count(requests, rules, server, workload, limits, counts)
    else:
        counts[:3] = 0.0
    return results


def measures(
    requests: np.ndarray, rules: np.ndarray, limits: Limits
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the times of the requests that count [s]: to the first token, per output token, of all, of all per token.

    The second leaves requests of one token out.
    """
    total = len(requests)
    found = np.empty((4, total))
    ended, several = 0, 0
    for i in range(rules[0]["ignored"], total):
        request = requests[i]
        if np.isnan(request["finish"]):
            continue
        latency = request["finish"] - request["arrival"] + limits.frontend_time
        found[0, ended] = request["first"] - request["arrival"] + limits.frontend_time
        found[2, ended] = latency
        found[3, ended] = latency / request["output"]
        ended += 1
        if request["output"] > 1:
            found[1, several] = (request["finish"] - request["first"]) / (request["output"] - 1)
            several += 1
    return found[0, :ended], found[1, :several], found[2, :ended], found[3, :ended]


def count(
    requests: np.ndarray, rules: np.ndarray, server: np.ndarray, workload: Workload, limits: Limits, counts: np.ndarray
) -> None:
    """Fill rates of the whole server, means over time of one rank, and counts of the whole run."""
    total = len(requests)
    begin, end = requests[rules[0]["ignored"]]["arrival"], requests[total - 1]["arrival"]
    if rules[0]["burst"]:
        begin, end = requests[0]["arrival"], server[0]["now"]
    ended, tokens, good, counted = 0, 0.0, 0, 0
    for i in range(total):
        request = requests[i]
        if begin < request["finish"] <= end:
            ended += 1
            tokens += request["output"]
        if i >= rules[0]["ignored"] and not np.isnan(request["finish"]):
            counted += 1
            first = request["first"] - request["arrival"] + limits.frontend_time
            each = (request["finish"] - request["first"]) / max(request["output"] - 1, 1)
            good += first <= limits.ttft_limit and each <= limits.tpot_limit
    ranks = workload.attention_data_parallel
    seconds = end - begin
    time = server[0]["counted"]
    pool = time * rules[0]["pages"] * rules[0]["page"]
    states, used = server[0]["token_time"], server[0]["used_time"] * rules[0]["page"]
    reserved = server[0]["reserved_time"] * rules[0]["page"]
    final = states if rules[0]["reservation"] == PAGES else server[0]["final_time"]
    counts[0] = ranks * ended / seconds
    counts[1] = ranks * tokens / seconds
    counts[2] = ranks * ended / seconds * good / counted
    counts[3] = good / counted
    counts[4] = server[0]["running_time"] / time
    counts[5] = server[0]["waiting_time"] / time
    counts[6] = server[0]["longest_queue"]
    counts[7] = server[0]["busy"] / time
    counts[8] = states / pool
    counts[9] = (final - states) / pool
    counts[10] = (reserved - final) / pool
    counts[11] = 1 - reserved / pool
    counts[12] = server[0]["used_time"] / time
    counts[13] = server[0]["most_used"] / rules[0]["pages"]
    counts[14] = 1 - states / used
    counts[15] = server[0]["preemptions"] / total
    counts[16] = server[0]["refused"] / total
    counts[17] = server[0]["passes"]
    counts[18] = server[0]["now"]
