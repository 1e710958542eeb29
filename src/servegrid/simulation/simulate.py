"""One simulation: requests are drawn, served by one of the data-parallel ranks, and summed up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from servegrid.simulation.buddy import all_free
from servegrid.simulation.scheduler import serve
from servegrid.simulation.state import PAGES, REQUEST, RULES, SERVER, Lists
from servegrid.simulation.statistics import estimate
from servegrid.simulation.workload import Workload, clients_of, draw_requests

PERCENTILES = (50.0, 90.0, 95.0, 99.0)  # besides the one that is asked for
EACH = 2 * (2 + len(PERCENTILES))  # numbers of each measure: the mean, the percentiles, each with its interval


class Measures(NamedTuple):
    """Times of the requests that count [s], by the names of the quantities; (n,) arrays."""

    ttft: np.ndarray
    tpot: np.ndarray  # of requests with two tokens or more
    request_latency: np.ndarray
    normalized_latency: np.ndarray


class Totals(NamedTuple):
    """Numbers of a whole simulation, by the names of the quantities, in their units."""

    requests_per_second: float
    throughput: float
    goodput: float
    good_share: float
    rank_requests: float
    rank_waiting: float
    longest_queue: float
    busy_share: float
    kv_states_share: float
    kv_reserved_share: float
    kv_internal_share: float
    kv_free_share: float
    used_pages: float
    most_used_share: float
    kv_fragmentation: float
    preemptions: float
    refused_share: float
    passes: float
    simulated_time: float


MEASURES, TOTALS = len(Measures._fields), len(Totals._fields)


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
    declared in `procedures`: `estimates` of the four measures of the requests, then the totals. All are NaN where the
    deployment cannot be, but for the rates, which are 0.
    """
    results = np.empty(MEASURES * EACH + TOTALS)
    results[:] = np.nan
    totals = results[MEASURES * EACH :]
    if limits.feasible:
        rules, server = np.zeros(1, RULES), np.zeros(1, SERVER)
        requests = play(workload, scheduler, limits.warmup, physics, rules, server)
        percentiles = np.array((*PERCENTILES, limits.percentile))
        for k, values in enumerate(measures(requests, rules, limits)):
            estimate(values, percentiles, results[k * EACH : (k + 1) * EACH])
        for k, value in enumerate(total(requests, rules, server, workload, limits)):
            totals[k] = value
    else:
        totals[:3] = 0.0
    return results


def first_token_time(request: np.void, limits: Limits) -> float:
    """Return the time to the first token [s]."""
    return float(request["first"] - request["arrival"] + limits.frontend_time)


def output_token_time(request: np.void) -> float:
    """Return the time of each further token [s]; 0 where there is none."""
    return float((request["finish"] - request["first"]) / max(request["output"] - 1, 1))


def measures(requests: np.ndarray, rules: np.ndarray, limits: Limits) -> Measures:
    """Return the times of the requests that count."""
    count = len(requests)
    found = np.empty((4, count))
    ended, several = 0, 0
    for i in range(rules[0]["ignored"], count):
        request = requests[i]
        if np.isnan(request["finish"]):
            continue
        latency = request["finish"] - request["arrival"] + limits.frontend_time
        found[0, ended] = first_token_time(request, limits)
        found[2, ended] = latency
        found[3, ended] = latency / request["output"]
        ended += 1
        if request["output"] > 1:
            found[1, several] = output_token_time(request)
            several += 1
    return Measures(found[0, :ended], found[1, :several], found[2, :ended], found[3, :ended])


def total(requests: np.ndarray, rules: np.ndarray, server: np.ndarray, workload: Workload, limits: Limits) -> Totals:
    """Return rates of the whole server, means over time of one rank, and counts of the whole run.

    The time is from the first request that counts to the last arrival; all of it, where all come at once.
    """
    count = len(requests)
    begin, end = requests[rules[0]["ignored"]]["arrival"], requests[count - 1]["arrival"]
    if rules[0]["burst"]:
        begin, end = requests[0]["arrival"], server[0]["now"]
    ended, tokens, good, counted = 0, 0.0, 0, 0
    for i in range(count):
        request = requests[i]
        if begin < request["finish"] <= end:
            ended += 1
            tokens += request["output"]
        if i >= rules[0]["ignored"] and not np.isnan(request["finish"]):
            counted += 1
            first, each = first_token_time(request, limits), output_token_time(request)
            good += first <= limits.ttft_limit and each <= limits.tpot_limit
    ranks = workload.attention_data_parallel
    seconds = end - begin
    time = server[0]["counted"]
    pool = time * rules[0]["pages"] * rules[0]["page"]
    states, used = server[0]["token_time"], server[0]["used_time"] * rules[0]["page"]
    reserved = server[0]["reserved_time"] * rules[0]["page"]
    final = states if rules[0]["reservation"] == PAGES else server[0]["final_time"]
    return Totals(
        requests_per_second=ranks * ended / seconds,
        throughput=ranks * tokens / seconds,
        goodput=ranks * ended / seconds * good / counted,
        good_share=good / counted,
        rank_requests=server[0]["running_time"] / time,
        rank_waiting=server[0]["waiting_time"] / time,
        longest_queue=float(server[0]["longest_queue"]),
        busy_share=server[0]["busy"] / time,
        kv_states_share=states / pool,
        kv_reserved_share=(final - states) / pool,
        kv_internal_share=(reserved - final) / pool,
        kv_free_share=1 - reserved / pool,
        used_pages=server[0]["used_time"] / time,
        most_used_share=server[0]["most_used"] / rules[0]["pages"],
        kv_fragmentation=1 - states / used,
        preemptions=server[0]["preemptions"] / count,
        refused_share=server[0]["refused"] / count,
        passes=float(server[0]["passes"]),
        simulated_time=server[0]["now"],
    )
