"""The simulator against queues that are known, against itself in plain Python, and against what must hold."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from contents import files, timeless
from killing import Machine, Moment, Story, results
from plain_simulation import LIMITS, SCHEDULER, WORKLOAD, Linear, asking, played, results_of, traced
from uncompiled import nothing_compiled

import servegrid as sg
from servegrid.parameters import gather
from servegrid.simulation import state
from servegrid.simulation.capacity import meets, search_capacity
from servegrid.simulation.procedures import SIMULATE
from servegrid.simulation.simulate import play
from servegrid.simulation.statistics import SECTIONS, T_QUANTILE, estimate
from servegrid.simulation.workload import at_rate, draw_requests
from servegrid.sweepfile import make_sweep

# All sweeps here have these axes and outputs: one kernel for all of them.
OUTPUTS = [result.name for result in SIMULATE.results]
MEASURES = ("ttft", "tpot", "request_latency", "normalized_latency")
SERVER: dict[str, Any] = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "precision": "bf16", "engine": "ideal"}
# A server that processes one prompt at a time, in a time that is proportional to its tokens.
ONE_BY_ONE: dict[str, Any] = {
    **SERVER,
    "hbm_bandwidth": 1e18,
    "chunk_size": 1,
    "chunked_prompts": 0,
    "mixed_passes": 0,
    "watermark": 0,
    "input_len": 100,
    "output_len": 1,
    "longest_output": 1,
    "max_len": 1e5,
}
SERVICE = 100 * 1.4135e-5  # [s]; checked below
CHAT: dict[str, Any] = {
    **SERVER,
    "length_shape": 2,
    "input_len": 500,
    "input_cv": 1,
    "output_len": 100,
    "output_cv": 1,
    "longest_output": 2000,
    "max_len": 8000,
    "requests": 400,
}
FIXED, UNIFORM, LOGNORMAL, EXPONENTIAL = range(4)


def simulated(seeds: Any, rates: Any, values: dict[str, Any], **more: Any) -> xr.Dataset:
    axes = {"seed": list(seeds), "request_rate": list(rates)}
    return sg.sweep(solver="simulation", axes=axes, values=values, outputs=OUTPUTS, **more)


# Queues that are known.


def queue(shape: int, cv: float, loads: list[float], arrival_cv: float = 1, seeds: int = 4, **more: Any) -> xr.Dataset:
    values = {**ONE_BY_ONE, "length_shape": shape, "input_cv": cv, "arrival_cv": arrival_cv, "requests": 20000, **more}
    found = simulated(range(seeds), [load / SERVICE for load in loads], values)
    return found.assign_coords(request_rate=loads).rename(request_rate="load")


def check_time(found: xr.Dataset, name: str, expected: Any) -> None:
    """The mean over the seeds, whose intervals say how sure it is; twice as wide, as there are many of them."""
    mean = found[name].mean("seed") / SERVICE
    half = np.sqrt((found[f"{name}_ci"] ** 2).sum("seed")) / found.sizes["seed"] / SERVICE
    assert (abs(mean - expected) <= 1.5 * half + 2e-3).all(), (mean, half, expected)
    assert (half <= 0.15 * mean).all(), "no test: too wide"


def test_the_service_is_proportional_to_the_tokens() -> None:
    for tokens in (50, 100, 400):
        alone = simulated([0], [1e-3], {**ONE_BY_ONE, "input_len": tokens, "requests": 4})
        assert alone.ttft.item() == pytest.approx(SERVICE * tokens / 100, rel=0.01)
        assert alone.busy_share.item() == pytest.approx(1e-3 * alone.ttft.item(), rel=1)
        assert (alone.passes, alone.longest_queue, alone.rank_waiting) == (4, 0, 0)


@pytest.mark.parametrize(
    ("shape", "cv", "variance"), [(FIXED, 0.0, 0.0), (EXPONENTIAL, 0.0, 1.0), (UNIFORM, 0.5, 0.25), (LOGNORMAL, 1, 1.0)]
)
def test_times_and_queues_are_those_of_pollaczek_and_khinchine(shape: int, cv: float, variance: float) -> None:
    loads = [0.3, 0.6] if shape == LOGNORMAL else [0.3, 0.6, 0.8]
    found = queue(shape, cv, loads)
    load = found["load"]
    waits = load * (1 + variance) / 2 / (1 - load)
    check_time(found, "ttft", waits + 1)
    np.testing.assert_array_equal(found.ttft, found.request_latency)
    # A wide margin for the queue: it has no interval of its own.
    np.testing.assert_allclose(found.rank_waiting.mean("seed"), load * waits, rtol=0.12)
    np.testing.assert_allclose(found.busy_share.mean("seed"), load, rtol=0.02 + 0.02 * variance)
    np.testing.assert_allclose(found.rank_requests.mean("seed"), found.busy_share.mean("seed"), rtol=1e-9)
    np.testing.assert_allclose(found.requests_per_second.mean("seed") * SERVICE, load, rtol=0.02)


def test_the_times_of_m_m_1_are_exponential() -> None:
    found = queue(EXPONENTIAL, 0, [0.5, 0.7])
    for share in (50, 90, 95, 99):
        check_time(found, f"ttft_p{share}", -math.log(1 - share / 100) / (1 - found["load"]))


@pytest.mark.parametrize("arrival_cv", [0.5, 2.0])
def test_times_are_those_of_gi_m_1_with_gamma_arrivals(arrival_cv: float) -> None:
    loads = [0.3, 0.6]
    found = queue(EXPONENTIAL, 0, loads, arrival_cv=arrival_cv)
    # Kleinrock 1975, Queueing Systems I, section 6.4: s = A*(mu (1 - s)), the mean time 1 / (mu (1 - s)).
    roots = []
    for load in loads:
        root = 0.5
        for _ in range(500):
            root = (1 + (1 - root) / load * arrival_cv**2) ** (-1 / arrival_cv**2)
        roots.append(root)
    check_time(found, "ttft", xr.DataArray([1 / (1 - root) for root in roots], dims="load"))


def test_nobody_waits_where_everything_is_even() -> None:
    found = queue(FIXED, 0, [0.2, 0.95], arrival_cv=0, seeds=2, requests=500)
    np.testing.assert_allclose(found.ttft / SERVICE, 1, rtol=1e-3)
    np.testing.assert_allclose(found.ttft_p99, found.ttft, rtol=1e-9)
    np.testing.assert_allclose(found.ttft_ci, 0, atol=1e-12)
    assert (found.longest_queue == 0).all()
    assert (found.rank_waiting == 0).all()
    np.testing.assert_allclose(found.busy_share / found["load"], 1, rtol=5e-3)
    over = queue(FIXED, 0, [2.0], arrival_cv=0, seeds=1, requests=500, warmup=0)
    # Each waits for half of a service longer than the one before.
    assert over.ttft.item() / SERVICE == pytest.approx(1 + 0.5 * 499 / 2, rel=1e-2)
    assert over.longest_queue.item() == pytest.approx(250, abs=2)


@pytest.mark.parametrize(("arrival_cv", "shape"), [(0.5, LOGNORMAL), (2.0, EXPONENTIAL), (1.0, UNIFORM)])
def test_waits_are_those_of_lindley_s_recursion_on_the_same_draws(arrival_cv: float, shape: int) -> None:
    workload = WORKLOAD._replace(
        requests=300, arrival_cv=arrival_cv, length_shape=shape, input_len=100, input_cv=0.5, longest_output=1,
        request_rate=0.7, max_len=1e6, longest_input=1e6,
    )  # fmt: skip
    scheduler = SCHEDULER._replace(mixed_passes=0, chunked_prompts=0, chunk_size=1, pool_pages=10**6)
    requests = played(workload, scheduler, Linear(step=0, prompt_token=0.01, pair=0)).requests
    arrivals, prompts, _ = draw_requests(workload)
    wait, waits = 0.0, []
    for i in range(len(arrivals)):
        if i > 0:
            wait = max(0.0, wait + 0.01 * prompts[i - 1] - (arrivals[i] - arrivals[i - 1]))
        waits.append(wait)
    assert max(waits) > 1
    np.testing.assert_allclose(requests["first"] - requests["arrival"], waits + 0.01 * prompts, atol=1e-9)


# How sure.


def test_intervals_cover_what_is_known() -> None:
    found = queue(EXPONENTIAL, 0, [0.5], seeds=60, requests=4000)
    truths = {"ttft": 1 / 0.5, "ttft_p50": math.log(2) / 0.5, "ttft_p90": math.log(10) / 0.5}
    for name, truth in truths.items():
        covered = abs(found[name] / SERVICE - truth) <= found[f"{name}_ci"] / SERVICE
        assert covered.mean() >= 0.8, name
        spread = found[name].std("seed", ddof=1)
        # 1.96 deviations wide, if it is right.
        assert 1.4 <= (found[f"{name}_ci"].mean("seed") / spread).item() <= 2.8, name


def test_an_interval_of_independent_numbers_is_student_s() -> None:
    values = np.random.default_rng(0).normal(5, 1, 1000)
    found = np.full(4, np.nan)
    estimate(values, np.array([50.0]), found)
    sections = values.reshape(SECTIONS, -1)
    assert found[0] == pytest.approx(values.mean())
    assert found[1] == pytest.approx(T_QUANTILE * sections.mean(1).std(ddof=1) / math.sqrt(SECTIONS))
    assert found[2] == np.median(values)
    scatter = ((np.median(sections, 1) - np.median(values)) ** 2).sum() / (SECTIONS - 1)
    assert found[3] == pytest.approx(T_QUANTILE * math.sqrt(scatter / SECTIONS))


def test_few_values_have_no_interval_and_none_have_no_mean() -> None:
    found = np.full(4, np.nan)
    estimate(np.empty(0), np.array([50.0]), found)
    assert np.isnan(found).all()
    estimate(np.arange(19.0), np.array([50.0]), found)
    np.testing.assert_array_equal(found, [9, np.nan, 9, np.nan])
    estimate(np.arange(20.0), np.array([50.0]), found)
    assert not np.isnan(found).any()


# What holds for any server.


@pytest.fixture(scope="module")
def chat() -> xr.Dataset:
    return simulated(range(3), [1.0, 5, 20, 40, 80], CHAT)


def test_percentiles_are_in_order(chat: xr.Dataset) -> None:
    for name in MEASURES:
        spread = [chat[f"{name}{suffix}"] for suffix in ("_p50", "_p90", "_p95", "_p99")]
        for lower, higher in itertools.pairwise(spread):
            assert (lower <= higher).all(), name
        np.testing.assert_array_equal(chat[f"{name}_percentile"], chat[f"{name}_p99"])
    assert (chat.ttft <= chat.request_latency).all()


def test_more_requests_per_second_wait_longer(chat: xr.Dataset) -> None:
    for name in ("ttft", "tpot", "request_latency", "rank_requests", "kv_states_share", "used_pages"):
        assert (chat[name].diff("request_rate") > 0).all(), name
    assert (chat.passes.diff("request_rate") < 0).all()


def test_requests_in_the_server_follow_little_s_law() -> None:
    found = simulated(range(4), [10.0, 40], {**CHAT, "requests": 3000})
    inside = found.rank_requests + found.rank_waiting
    np.testing.assert_allclose(
        inside.mean("seed"), (found.request_rate * found.request_latency).mean("seed"), rtol=0.04
    )
    assert inside.isel(request_rate=1).mean() > 20


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(chat: xr.Dataset) -> None:
    again = simulated([2, 0], [80.0, 5], CHAT)
    assert again.identical(chat.sel(seed=[2, 0], request_rate=[80.0, 5]).assign_attrs(again.attrs)) or all(
        np.array_equal(again[name], chat[name].sel(seed=[2, 0], request_rate=[80.0, 5]), equal_nan=True)
        for name in OUTPUTS
    )
    assert len(np.unique(chat.ttft)) == chat.ttft.size


def test_the_bits_are_the_same_in_any_chunks_and_threads(chat: xr.Dataset, tmp_path: Path) -> None:
    rates = chat.request_rate.values.tolist()
    chunked = simulated(range(3), rates, CHAT, chunks={"seed": 2, "request_rate": 1})
    lazy = simulated(range(3), rates, CHAT, lazily=True)
    alone, both = (simulated(range(3), rates, CHAT, threads=threads) for threads in (1, 2))
    assert chunked.ttft.chunks is not None
    for other in (chunked, lazy, alone, both):
        for name in OUTPUTS:
            assert other[name].values.tobytes() == chat[name].values.tobytes(), name


def test_clients_that_wait_are_always_in_the_server() -> None:
    found = simulated(range(2), [0.0], {**CHAT, "concurrency": 12})
    np.testing.assert_allclose(found.rank_requests + found.rank_waiting, 12, rtol=1e-9)
    np.testing.assert_allclose(found.busy_share, 1, rtol=1e-12)
    # Little's law: a client's next request comes when the last one has ended.
    np.testing.assert_allclose(found.requests_per_second * found.request_latency, 12, rtol=0.1)


def test_all_memory_is_accounted_for(chat: xr.Dataset) -> None:
    shares = ("kv_states_share", "kv_reserved_share", "kv_internal_share", "kv_free_share")
    np.testing.assert_allclose(sum(chat[name] for name in shares), 1, rtol=1e-9)
    assert (chat.kv_reserved_share == 0).all(), "pages are not reserved"
    assert (chat.most_used_share <= 1).all()
    np.testing.assert_allclose(chat.kv_fragmentation, 1 - chat.kv_states_share / (1 - chat.kv_free_share), rtol=1e-6)


def test_no_fitting_model_no_numbers() -> None:
    found = simulated([0], [1.0], {**CHAT, "model": "llama-3.1-70b"})
    assert np.isnan(found.ttft)
    assert (found.throughput, found.requests_per_second, found.goodput) == (0, 0, 0)


# The same in plain Python.


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"iteration_level": 0, "chunked_prompts": 0, "reservation": 3, "output_len": 20},
        {"mixed_passes": 0, "chunked_prompts": 0, "reservation": 2},
        {"chunked_prompts": 0, "arrival_cv": 0, "length_shape": EXPONENTIAL},
        {"concurrency": 20, "length_shape": UNIFORM, "output_cv": 0.3},
        {"chunk_size": 64, "prefix_hit_rate": 0.5, "disaggregated": 1, "swapping": 1},
    ],
)
def test_compiled_code_gives_what_plain_python_gives(changed: dict[str, Any]) -> None:
    # numba draws gamma variates in its own way, all others as numpy does.
    values = {**CHAT, "requests": 60, "input_len": 200, "output_len": 40, "max_len": 2000, **changed}
    rates = [0.0 if "concurrency" in values else 500.0]
    compiled = simulated([0, 1], rates, values)
    with nothing_compiled():
        plain = simulated([0, 1], rates, values)
    for name in OUTPUTS:
        np.testing.assert_allclose(compiled[name], plain[name], rtol=1e-9, atol=1e-12, err_msg=name)
    assert (compiled.passes > 0).all()
    assert (compiled.rank_requests > 1).all()


# By hand: Linear's times, dyadic, so that sums are exact.

ALONE = Linear()


def test_a_lone_request_takes_the_time_of_its_passes() -> None:
    found = results_of(traced([1, 200], [20, 20], [5, 5]), SCHEDULER)
    # Two chunks of 16 and 4 tokens; then four tokens more, each on top of those in memory.
    prompt = ALONE.prompts(16, 0, ALONE.attention(16, 16)) + ALONE.prompts(4, 0, ALONE.attention(4, 20))
    steps = sum(ALONE.decode(1, context) for context in (21, 22, 23, 24))
    assert found["ttft"] == prompt
    assert found["request_latency"] == prompt + steps
    assert found["tpot"] == steps / 4
    assert found["normalized_latency"] == (prompt + steps) / 5
    assert found["passes"] == 2 * (2 + 4)
    assert found["simulated_time"] == 200 + prompt + steps
    # From the first arrival to the last one: one request ended.
    assert found["requests_per_second"] == 1 / 199
    assert found["throughput"] == 5 / 199
    assert found["busy_share"] == found["rank_requests"] == pytest.approx((prompt + steps) / 199)
    assert found["most_used_share"] == 6 / 64


def test_the_time_of_the_frontend_is_added() -> None:
    workload = traced([0, 9], [8, 8], [5, 5])
    without, added = (results_of(workload, SCHEDULER, LIMITS._replace(frontend_time=time)) for time in (0, 0.5))
    assert added["ttft"] == without["ttft"] + 0.5
    assert added["request_latency"] == without["request_latency"] + 0.5
    assert added["tpot"] == without["tpot"]


def test_the_first_requests_are_not_counted() -> None:
    workload = traced([0, 1, 100, 200], [8, 16, 4, 4], [3, 3, 3, 3])
    found = results_of(workload, SCHEDULER, LIMITS._replace(warmup=0.5))
    assert found["ttft_p50"] == ALONE.prompts(4, 0, ALONE.attention(4, 4))
    assert found["requests_per_second"] == 1 / 100


def test_good_requests_are_within_both_limits() -> None:
    workload = traced([0, 50, 100, 150], [4, 4, 16, 16], [2, 9, 2, 9])
    requests = played(workload, SCHEDULER).requests
    ttft = requests["first"] - requests["arrival"]
    tpot = (requests["finish"] - requests["first"]) / (requests["output"] - 1)
    assert ttft[0] == ttft[1] < ttft[2] == ttft[3]
    assert tpot[0] < tpot[1] < tpot[2] < tpot[3]
    for ttft_limit, tpot_limit, share in ((9, 9, 1), (ttft[0], 9, 0.5), (9, tpot[0], 0.25), (ttft[0], tpot[2], 0.5)):
        limits = LIMITS._replace(ttft_limit=ttft_limit, tpot_limit=tpot_limit)
        found = results_of(workload, SCHEDULER, limits)
        assert found["good_share"] == share
        assert found["goodput"] == found["requests_per_second"] * share


def test_no_request_is_cut_unless_a_longest_one_is_given() -> None:
    lengths = {"length_shape": LOGNORMAL, "input_len": 500, "input_cv": 1, "output_len": 100, "output_cv": 1}
    uniform = {**lengths, "length_shape": UNIFORM, "input_cv": 0.5, "output_cv": 0.25}
    for values, longest in ((lengths, [1e4, 2e3, 1.2e4]), (uniform, [935, 143.5, 1078.5])):
        found = sg.sweep(
            solver="simulation",
            values={**SERVER, "request_rate": 1, **values},
            outputs=["longest_input", "longest_output", "max_len"],
        )
        assert [found[name].item() for name in found.data_vars] == pytest.approx(longest)


def test_who_can_never_be_served_is_refused_and_holds_nobody_up() -> None:
    workload = traced([0, 0, 10], [8, 60, 8], [4, 60, 4], max_len=200)
    found = results_of(workload, SCHEDULER._replace(pool_pages=16))
    assert found["refused_share"] == pytest.approx(1 / 3)
    alone = results_of(traced([0, 10], [8, 8], [4, 4]), SCHEDULER._replace(pool_pages=16))
    assert found["ttft"] == alone["ttft"]


@pytest.mark.parametrize("times", [Linear(step=math.nan), Linear(step=math.inf), Linear(token=math.nan)])
def test_times_that_are_no_numbers_end_a_simulation(times: Linear) -> None:
    requests = played(traced([0, 1, 2], [8, 8, 8], [4, 4, 4]), SCHEDULER, times).requests
    assert not np.isfinite(requests["finish"]).any()


def test_a_rate_that_is_no_number_ends_a_simulation() -> None:
    assert np.isnan(played(WORKLOAD._replace(request_rate=math.nan), SCHEDULER).requests["first"]).all()


def test_a_padded_batch_of_pages_ends_although_memory_is_short() -> None:
    workload = traced([0.0] * 6, [9, 5, 7, 3, 2, 8], [2, 30, 1, 9, 20, 4], max_len=64)
    for swapping in (0, 1):
        scheduler = SCHEDULER._replace(
            iteration_level=0, chunked_prompts=0, pool_pages=20, page_size=2, chunk_size=64, swapping=swapping
        )
        run = played(workload, scheduler)
        assert run.server["preemptions"] > 0
        assert run.server["used"] == 0
        assert not np.isnan(run.requests["finish"]).any()


def test_a_power_of_two_is_asked_for_up_to_the_longest() -> None:
    scheduler = SCHEDULER._replace(reservation=2, page_size=1, pool_pages=128, max_batch_size=1)
    for output, longest, reserved in ((33, 1000, 64 + 8), (33, 60, 60), (32, 1000, 40), (1, 1000, 9)):
        run = results_of(traced([0, 1000], [8, 8], [output, output], max_len=longest), scheduler)
        busy = run["busy_share"]
        assert (1 - run["kv_free_share"]) * 128 / busy == pytest.approx(reserved)
        assert run["most_used_share"] == 2 ** math.ceil(math.log2(reserved)) / 128


# Twice as fast.


def test_twice_the_speed_and_the_rate_halve_all_times_to_the_bit() -> None:
    slow, fast = Linear(), Linear(0.125, 0.015625, 0.00390625, 0.03125, 0.0009765625, 0.0078125)
    workload = WORKLOAD._replace(length_shape=EXPONENTIAL, requests=80, input_len=10, output_len=6, request_rate=0.8)
    for changed in ({}, {"pool_pages": 20}, {"mixed_passes": 0, "chunked_prompts": 0, "pool_pages": 20, "swapping": 1}):
        scheduler = SCHEDULER._replace(**changed)
        before = results_of(workload, scheduler._replace(swap_page_time=0.5), times=slow)
        after = results_of(at_rate(workload, 1.6), scheduler._replace(swap_page_time=0.25), times=fast)
        times = {name for name in before if name.startswith(MEASURES)} | {"simulated_time"}
        rates = {"requests_per_second", "throughput", "goodput"}
        for name, value in before.items():
            factor = 0.5 if name in times else 2 if name in rates else 1
            np.testing.assert_equal(after[name], factor * value, err_msg=name)
        assert before["ttft"] > 0
        assert (before["preemptions"] > 0) == bool(changed)


def busy(seed: int) -> Any:
    return WORKLOAD._replace(
        length_shape=LOGNORMAL, requests=150, input_len=12, input_cv=0.5, output_len=10, output_cv=0.5,
        request_rate=0.3,
        seed=seed,
    )  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_more_memory_preempts_less_and_lets_nobody_wait_longer(seed: int) -> None:
    for swapping in (0, 1):
        paged = SCHEDULER._replace(mixed_passes=0, chunked_prompts=0, swapping=swapping, swap_page_time=0.01)
        found = [results_of(busy(seed), paged._replace(pool_pages=pages)) for pages in (30, 45, 80, 1000)]
        for name in ("ttft", "rank_waiting"):
            values = [one[name] for one in found]
            assert values == sorted(values, reverse=True), name
            assert values[0] > values[-1]
        assert (
            found[0]["preemptions"] > found[1]["preemptions"] > found[2]["preemptions"] == found[3]["preemptions"] == 0
        )


@pytest.mark.parametrize("seed", [0, 1])
def test_a_larger_batch_has_a_shorter_queue(seed: int) -> None:
    scheduler = SCHEDULER._replace(pool_pages=1000)
    found = [
        results_of(busy(seed), scheduler._replace(max_batch_size=batch))["rank_waiting"] for batch in (1, 2, 4, 16)
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] > 10 * found[-1]


@pytest.mark.parametrize("seed", [0, 1])
def test_memory_by_pages_holds_more_than_blocks(seed: int) -> None:
    orca = SCHEDULER._replace(chunked_prompts=0, pool_pages=64, max_batch_size=64)
    workload = busy(seed)
    waits = [results_of(workload, orca._replace(reservation=code))["ttft"] for code in (0, 1, 2, 3)]
    assert waits == sorted(waits)
    assert waits[0] < waits[-1] / 1.5


def test_a_swap_costs_its_pages_both_ways() -> None:
    workload = traced([0.0, 0.0], [7, 7], [9, 9])
    scheduler = SCHEDULER._replace(chunked_prompts=0, pool_pages=5, swapping=1)
    without, swapped = (played(workload, scheduler._replace(swap_page_time=time)) for time in (0.0, 0.5))
    assert without.server["preemptions"] == swapped.server["preemptions"] == 1
    last = [run.requests["finish"].max() for run in (without, swapped)]
    # It had 8 or 9 tokens, of which pages hold 4.
    assert last[1] - last[0] in {2 * 0.5 * 2, 2 * 0.5 * 3}


# Capacity.


def run(workload: Any) -> tuple[np.ndarray, np.ndarray]:
    rules, server = np.zeros(1, state.RULES), np.zeros(1, state.SERVER)
    return play(workload, SCHEDULER, LIMITS.warmup, np.empty(0), rules, server), rules


@pytest.mark.parametrize("limit", [4.0, 8.0])
def test_the_highest_rate_meets_the_limits_and_no_higher_one_does(limit: float) -> None:
    workload, limits = busy(0), LIMITS._replace(ttft_limit=limit, percentile=90)
    with asking(Linear()):
        (rate,) = search_capacity(workload, SCHEDULER, limits, np.empty(0))
        assert rate > 0
        assert meets(*run(at_rate(workload, rate)), limits)
        assert not meets(*run(at_rate(workload, 1.05 * rate)), limits)
        assert results_of(at_rate(workload, rate), SCHEDULER, limits)["ttft_p90"] <= limit


def test_the_highest_rate_rises_with_the_limits() -> None:
    workload = busy(1)
    with asking(Linear()):

        def rate(**limits: float) -> float:
            return float(search_capacity(workload, SCHEDULER, LIMITS._replace(**limits), np.empty(0))[0])

        by_ttft = [rate(ttft_limit=limit) for limit in (0.01, 4, 8, 16, 1e9)]
        by_tpot = [rate(tpot_limit=limit) for limit in (0.01, 1.3, 1.6, 1e9)]
        assert by_ttft == sorted(by_ttft)
        assert by_tpot == sorted(by_tpot)
        assert by_ttft[0] == by_tpot[0] == 0
        assert by_ttft[-1] == by_tpot[-1] > max(by_ttft[-2], by_tpot[-2])
        assert rate(feasible=0) == 0
        # Whoever is refused has not been served in time.
        refused = search_capacity(workload, SCHEDULER._replace(pool_pages=2), LIMITS, np.empty(0))
    assert refused.tolist() == [0]


def test_the_highest_rate_is_near_the_closed_form_s() -> None:
    values = {**SERVER, "engine": "vllm", "input_len": 500, "output_len": 200, "max_batch_size": 64}
    found = sg.sweep(
        solver="simulation",
        axes={"requests": [1000]},
        values={**values, "request_rate": 1, "ttft_limit": 1e6, "tpot_limit": 1e6},
        outputs=["max_request_rate"],
    )
    closed = sg.sweep(solver="serving", values={**values, "request_rate": 1}, outputs=["saturation_rate"])
    assert found.max_request_rate.item() == pytest.approx(closed.saturation_rate.item(), rel=0.25)


# What cannot be.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"warmup": 1}, "values.warmup: got 1, expected a number, at least 0 and below 1"),
        ({"percentile": 101}, "values.percentile: got 101, expected a number, at least 0 and at most 100"),
        ({"reservation": 7}, "values.reservation: got 7, expected a whole number, at least 0 and at most 3"),
        ({"length_shape": 4}, "values.length_shape: got 4, expected a whole number, at least 0 and at most 3"),
        ({"mixed_passes": 2}, "values.mixed_passes: got 2, expected a whole number, at least 0 and at most 1"),
        ({"requests": 0}, "values.requests: got 0, expected a whole number in request, at least 1"),
        ({"arrival_cv": -1}, "values.arrival_cv: got -1, expected a number, at least 0"),
        ({"concurrency": 4},
         "got request_rate and concurrency at the same point, expected one of them, and 0 for the other"),
        ({"seed": -1}, "values.seed: got -1, expected a whole number, at least 0 and below 4.29497e+09"),
        (
            {"trace_times": 5},
            "values.trace_times: trace_times is a number for each request: give a trace, which has them",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(sg.InputError) as refusal:
        sg.sweep(solver="simulation", values={**SERVER, "input_len": 9, "output_len": 9, "request_rate": 1, **values})
    assert str(refusal.value) == message


def test_clients_and_a_rate_may_be_given_for_different_points() -> None:
    values = {**SERVER, "input_len": 9, "output_len": 9}
    cases = {"columns": {"request_rate": [0, 5], "concurrency": [3, 0]}}
    assert gather(make_sweep({"solver": "simulation", "cases": cases, "values": values})).sizes == {"case": 2}
    many = {"request_rate": range(1, 60_000), "concurrency": range(1, 60_000)}  # no table of all points is made
    with pytest.raises(sg.InputError, match="at the same point"):
        gather(make_sweep({"solver": "simulation", "axes": many, "values": values}))


def test_no_axis_may_be_called_as_the_requests_of_a_trace_are() -> None:
    with pytest.raises(sg.InputError) as refusal:
        sg.sweep(solver="simulation", axes={"request": [1, 2]}, values={**SERVER, "request_rate": 1})
    assert str(refusal.value) == (
        "axes.request: 'request' cannot be the name of an axis, expected a word such as page_size"
    )


def test_requests_must_come_from_somewhere() -> None:
    with pytest.raises(sg.InputError) as refusal:
        sg.sweep(solver="simulation", values={**SERVER, "input_len": 9, "output_len": 9})
    assert str(refusal.value) == (
        "got none of request_rate, concurrency, a trace with times of arrival, expected one of them, "
        "as an axis or under values"
    )


# A store.


def test_a_run_that_is_killed_goes_on_with_the_same_bits(kernel_cache: Path, tmp_path: Path) -> None:
    outputs = ["ttft", "ttft_p99_ci", "feasible"]
    content: dict[str, Any] = {
        "name": "killed",
        "solver": "simulation",
        "axes": {"seed": [0, 1, 2], "request_rate": [1, 50]},
        "values": {**CHAT, "requests": 100},
        "outputs": outputs,
    }
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(content, sort_keys=False))
    machine = Machine.of(tmp_path / "machine", kernel_cache)
    whole = tmp_path / "whole" / "killed.zarr"
    whole.parent.mkdir()
    ended = machine.run("run", sweep, "--out", whole, "--threads", 2)
    assert ended.code == 0, ended.said
    out = tmp_path / "killed.zarr"
    command = ("run", str(sweep), "--out", str(out), "--threads", "2")
    story = Story(machine, out, command, timeless(files(whole)), tuple(outputs))
    assert len(results(story.whole, outputs)) > 6
    for moment in (Moment("layout", "replace"), Moment("chunks", "replaced", 3), Moment("chunks", "write", 2)):
        assert story.run(moment).code < 0
    story.finished()
    stored = xr.open_zarr(out, consolidated=False)
    computed = sg.sweep(**{key: content[key] for key in ("solver", "axes", "values", "outputs")})
    for name in outputs:
        assert stored[name].values.tobytes() == computed[name].values.tobytes()
