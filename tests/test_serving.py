"""The solver `serving`: measured rows by an independent calculation, limits, and what cannot be."""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping
from itertools import product
from math import ceil, erf, exp, floor, inf, isnan, pi
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import servegrid as sg
from servegrid import CONTINUOUS_BATCHING, InputError
from servegrid.api import load
from servegrid.equations.binding import BOTTLENECKS
from servegrid.equations.serving import PHENOMENA
from servegrid.equations.serving.arrival import normal_density, normal_share
from servegrid.equations.serving.experts import decay, experts_touched
from servegrid.equations.serving.feasibility import REASONS
from servegrid.equations.serving.validity import VALIDITY
from servegrid.parameters import gather
from servegrid.point import solve_point
from servegrid.solvers import SERVING, Solver
from servegrid.variant import Variant

DATA = Path(__file__).parent / "data"
RUNS = pd.read_csv(DATA / "serving_runs.csv", comment="#")
MEASURED = ["date", "ttft_ms", "tpot_ms", "expected_ttft_ms", "expected_tpot_ms"]
DENSE: Mapping[str, Any] = {
    "model": "llama-3.1-70b",
    "hardware": "h100-sxm",
    "precision": "fp8",
    "engine": "vllm",
    "tensor_parallel": 4,
}
EXPERTS: Mapping[str, Any] = {
    "model": "gpt-oss-120b",
    "hardware": "h200",
    "precision": "mxfp4",
    "engine": "tensorrt-llm",
}
LATENT: Mapping[str, Any] = {
    "model": "deepseek-r1",
    "hardware": "b200",
    "precision": "fp8",
    "engine": "sglang",
    "tensor_parallel": 8,
}
LOAD = {"input_len": 2000, "output_len": 500, "concurrency": 32}


def solved(
    values: Mapping[str, Any], solver: Solver = SERVING, outputs: tuple[str, ...] = (), **changed: Any
) -> dict[str, float]:
    """Every quantity at one point, by calling the equations."""
    given = {**(LOAD if solver is SERVING else {}), **values, **changed}
    parameters = gather(load(solver=solver, values=given, outputs=list(outputs or solver.outputs)))
    inputs = {name: float(value) for name, value in parameters.inputs.items()}
    return solve_point(parameters.sweep.solver, parameters.graph, inputs)


def same(one: Mapping[str, float], other: Mapping[str, float], names: tuple[str, ...] = SERVING.outputs) -> None:
    for name in names:
        assert one[name] == pytest.approx(other[name], rel=1e-12, nan_ok=True), name


# Measured rows.


@pytest.fixture(scope="module")
def runs() -> Any:
    cases = RUNS.drop(columns=MEASURED)
    return sg.sweep(solver="serving", cases=cases, outputs=["ttft", "tpot", "feasible", "extrapolated"])


@pytest.mark.parametrize("row", RUNS.index, ids=RUNS["model"] + "-" + RUNS["hardware"] + "-" + RUNS["engine"])
@pytest.mark.parametrize("name", ["ttft", "tpot"])
def test_runs_are_as_calculated_independently(row: int, name: str, runs: Any) -> None:
    """12 digits are in the file; what is left is the order of operations."""
    assert runs[name].values[row] * 1e3 == pytest.approx(RUNS[f"expected_{name}_ms"][row], rel=1e-11)


def test_measured_runs_are_met(runs: Any) -> None:
    assert runs.feasible.values.all()
    assert not runs.extrapolated.values.any()
    assert np.median(abs(runs.tpot.values * 1e3 / RUNS.tpot_ms - 1)) < 0.1
    assert np.median(abs(runs.ttft.values * 1e3 / RUNS.ttft_ms - 1)) < 0.35


def test_compiled_rows_have_the_bits_of_plain_python(runs: Any) -> None:
    cases = RUNS.drop(columns=MEASURED)
    for row in (0, 8, 13, 25):
        values = {str(name): value for name, value in cases.loc[row].items()}
        point = solved(values)
        assert point["tpot"] == runs.tpot.values[row]
        assert point["ttft"] == runs.ttft.values[row]


# Slow loops.


@pytest.mark.parametrize(("experts", "per_token", "tokens"), [(128, 4, 1), (128, 4, 40), (256, 8, 17), (8, 2, 3)])
def test_experts_touched_is_what_random_routing_touches(experts: int, per_token: int, tokens: int) -> None:
    draw = random.Random(f"{experts} {tokens}")
    trials = [
        len({expert for _ in range(tokens) for expert in draw.sample(range(experts), per_token)}) for _ in range(2000)
    ]
    rate = SERVING.equations["miss_rate"](float(experts), float(per_token))
    assert experts_touched(experts, rate, tokens, 1) == pytest.approx(np.mean(trials), rel=0.01)


@given(st.floats(0, 40))
def test_decay_is_an_exponential(x: float) -> None:
    assert decay(x) == pytest.approx(exp(-x), rel=2e-6, abs=2e-13)


@pytest.mark.parametrize(("draft", "acceptance"), [(0, 0.5), (1, 0.6), (3, 0.7), (4, 0.0), (2, 1.0)])
def test_step_tokens_are_those_of_all_outcomes(draft: int, acceptance: float) -> None:
    expected = 0.0
    for outcome in product([True, False], repeat=draft):
        accepted = next((index for index, good in enumerate(outcome) if not good), draft)
        chance = np.prod([acceptance if good else 1 - acceptance for good in outcome])
        expected += float(chance) * (accepted + 1)
    assert SERVING.equations["step_tokens"](float(draft), acceptance) == pytest.approx(expected)


def test_cache_of_a_request_layer_by_layer() -> None:
    """gpt-oss-120b: 36 layers, every other one sees 128 tokens; 8 heads of 64, bf16, pages of 16."""
    point = solved(EXPERTS, kv_precision="bf16", page_size=16, input_len=1000, output_len=203)
    layer = sum(2 * 64 * 2 for _ in range(8))
    held = [ceil(1203 / 16) * 16 if index % 2 else 128 for index in range(36)]
    assert point["kv_bytes_per_request"] == sum(tokens * layer for tokens in held)


def test_page_waste_is_that_of_lengths_of_all_kinds() -> None:
    waste = [1 - (750 + n) / (16 * ceil((750 + n) / 16)) for n in range(501)]
    point = solved(DENSE, page_size=16, input_len=750, output_len=500)
    assert point["kv_fragmentation"] == pytest.approx(np.mean(waste), rel=0.02)


def test_prefill_flops_of_one_prompt_pair_by_pair() -> None:
    """Causal attention alone: 2 d FLOPs for scores and as many for the sum, over all pairs."""
    point = solved(DENSE, input_len=300, bf16_flops=1e15, attention_flops_share=1, tensor_parallel=1)
    pairs = sum(key + 0.5 for query in range(300) for key in [query])
    flops = 80 * 64 * 4 * 128 * pairs
    assert point["prefill_attention_time"] == pytest.approx(flops / 1e15, rel=1e-12)


# Limits.


def test_a_mixture_of_which_each_token_uses_all_is_dense() -> None:
    """k = E experts of W / E parameters are one dense network of W, but for the way that grouped kernels run."""
    plain: dict[str, Any] = {"expert_bandwidth_share": 0.8, "expert_flops_share": 1, "half_width": 0, "expert_tile": 0}
    shares: dict[str, Any] = {name: 0.8 for name in SERVING.inputs if name.startswith("gemm_")}
    dense = {**DENSE, **plain, **shares, "kernels": 100, "mixed_prefill": 1, "concurrency": 1}
    width = solved(DENSE, outputs=("ffn_weights",), dense_layers=1, tensor_parallel=1)["ffn_weights"]
    mixed: dict[str, Any] = {"dense_layers": 0, "expert_layers": 80, "experts": 8, "experts_per_token": 8}
    mixed |= {"ffn_parameters": 0, "expert_parameters": width / 8, "router_parameters": 0}
    for concurrency in (1, 40, 300):
        one = solved(dense, concurrency=concurrency)
        other = solved({**dense, **mixed}, concurrency=concurrency)
        assert other["time_experts"] + other["time_weights"] == pytest.approx(one["time_weights"], rel=1e-12)
        assert other["weight_memory"] == pytest.approx(one["weight_memory"], rel=1e-12)
        same(one, other, ("tpot", "ttft", "throughput", "max_active_requests"))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_window_longer_than_the_context_is_full_attention(share: float) -> None:
    one = solved(DENSE)
    other = solved(DENSE, full_layers=80 * (1 - share), windowed_layers=80 * share, window=10**6)
    same(one, other, tuple(name for name in SERVING.outputs if name != "kv_capacity_tokens"))
    assert other["kv_capacity_tokens"] == one["kv_capacity_tokens"]


def test_a_latent_vector_as_wide_as_all_heads_is_multi_head_attention() -> None:
    heads: dict[str, Any] = {"heads": 64, "tensor_parallel": 1, "attention_flops_share": 1, "kernels": 500}
    one = solved(DENSE, **heads, kv_cache_heads=64, kv_head_values=2 * 128, bf16_flops=1e30)
    other = solved(DENSE, **heads, kv_cache_heads=1, kv_head_values=64 * 2 * 128, latent=1, bf16_flops=1e30)
    same(one, other)


def test_an_indexer_that_chooses_all_tokens_is_full_attention() -> None:
    same(solved(DENSE), solved(DENSE, index_top_k=10**6, index_layers=0))


@pytest.mark.parametrize("point", [DENSE, EXPERTS, LATENT], ids=["dense", "experts", "latent"])
def test_neutral_defaults_are_neutral(point: Mapping[str, Any]) -> None:
    neutral: dict[str, Any] = {
        "pipeline_parallel": 1,
        "prefix_hit_rate": 0,
        "draft_len": 0,
        "disaggregated": 0,
        "output_cv": 0,
    }
    same(
        solved(point), solved(point, **neutral, acceptance=0.7, transfer_bandwidth=1, max_len=2500, longest_output=500)
    )


@pytest.mark.parametrize(
    ("changed", "gains"),
    [
        ({"prefix_hit_rate": 0.8}, True),
        ({"disaggregated": 1}, True),
        ({"draft_len": 3, "acceptance": 0.8}, True),
        ({"draft_len": 3, "acceptance": 0}, False),
        ({"output_cv": 1}, False),
    ],
)
def test_each_option_does_what_it_is_for(changed: Mapping[str, Any], gains: bool) -> None:
    one, other = solved(DENSE), solved(DENSE, **changed)
    assert (other["tpot"] < one["tpot"]) == gains


@pytest.mark.parametrize("point", [DENSE, EXPERTS, LATENT], ids=["dense", "experts", "latent"])
@pytest.mark.parametrize(
    ("name", "outputs", "falls"),
    [
        ("hbm_bandwidth", ("tpot", "itl"), True),
        ("link_bandwidth", ("tpot", "itl"), True),
        ("hbm_capacity", ("ttft",), True),
        ("kernel_time", ("tpot", "itl", "ttft"), False),
        ("expert_bytes", ("itl", "weight_memory"), False),
        ("kv_bytes", ("itl", "kv_memory"), False),
    ],
)
def test_nothing_falls_or_rises_the_wrong_way(
    name: str, outputs: tuple[str, ...], falls: bool, point: Mapping[str, Any]
) -> None:
    value = solved(point)
    least = gather(load(solver=SERVING, values={**LOAD, **point})).inputs[name]
    more = solved({**point, name: float(least) * 1.4})
    for output in outputs:
        change = more[output] - value[output]
        assert change <= 1e-15 if falls else change >= -1e-15, output


@pytest.mark.parametrize("point", [DENSE, EXPERTS, LATENT], ids=["dense", "experts", "latent"])
def test_more_clients_wait_longer_and_get_more_together(point: Mapping[str, Any]) -> None:
    """From two on: the prompt of a lone client shares no pass, so it has the reading of all weights to itself."""
    points = [solved(point, concurrency=concurrency) for concurrency in (2, 8, 64, 512)]
    for name in ("tpot", "ttft", "throughput"):
        assert np.all(np.diff([one[name] for one in points]) > 0), name


def test_littles_law_holds() -> None:
    point = solved(DENSE, concurrency=2000, max_batch_size=100)
    assert point["requests_per_second"] * point["request_latency"] == pytest.approx(2000)
    assert point["active_requests"] == 100
    decoding = point["throughput"] * point["token_time"]
    assert decoding == pytest.approx(100, rel=0.1)


# Rates of requests.


def open_loop(**changed: Any) -> dict[str, float]:
    return solved({**DENSE, "input_len": 2000, "output_len": 500, **changed}, outputs=(*SERVING.outputs, "concurrency"))


@pytest.fixture
def no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(LOAD, "concurrency")


@pytest.mark.usefixtures("no_load")
def test_few_requests_end_as_they_arrive() -> None:
    point = open_loop(request_rate=0.001)
    assert point["requests_per_second"] == pytest.approx(0.001, rel=0.02)
    alone = solved({**DENSE, "concurrency": 1})
    assert point["request_latency"] == pytest.approx(alone["request_latency"], rel=0.02)


@pytest.mark.usefixtures("no_load")
def test_more_requests_wait_longer_until_the_server_is_full() -> None:
    points = [open_loop(request_rate=rate) for rate in (0.1, 1, 2, 4, 6, 8)]
    for name in ("concurrency", "tpot", "ttft"):
        assert all(np.diff([min(point[name], 1e9) for point in points]) >= 0), name  # endless once it is full
    assert points[-1]["ttft"] == inf
    assert points[-1]["active_requests"] == points[-1]["max_active_requests"]
    assert points[-1]["requests_per_second"] < 8
    for rate, point in zip((0.1, 1, 2, 4), points, strict=False):
        assert point["requests_per_second"] == rate


@pytest.mark.usefixtures("no_load")
def test_the_two_batches_are_those_that_a_number_of_clients_gives() -> None:
    point = open_loop(request_rate=2)
    alone = solved({**DENSE, "concurrency": 1})
    full = solved({**DENSE, "concurrency": 10**5})
    for name in ("decode_step_time", "prefill_time", "token_time", "placed_ttft"):
        if name != "placed_ttft":  # who is alone finds no pass under way, which one of a few clients does
            assert point[f"{name}_alone"] == pytest.approx(alone[name], rel=1e-12), name
    for name in ("decode_step_time", "prefill_time", "token_time"):
        assert point[f"{name}_full"] == pytest.approx(full[name], rel=1e-12), name


@pytest.mark.usefixtures("no_load")
def test_a_rate_is_compiled_to_the_same_bits() -> None:
    values = {**DENSE, **LOAD}
    swept = sg.sweep(solver="serving", axes={"request_rate": [0.5, 3, 20]}, values=values, outputs=["tpot", "ttft"])
    for index, rate in enumerate((0.5, 3, 20)):
        point = solved(values, request_rate=rate)
        assert (swept.tpot.values[index], swept.ttft.values[index]) == (point["tpot"], point["ttft"])


@pytest.mark.usefixtures("no_load")
def test_a_load_must_be_given() -> None:
    with pytest.raises(InputError, match=r"concurrency \(.* where request_rate is not given\) has no value: give"):
        solved(DENSE)


# Several nodes.


WIDE: Mapping[str, Any] = {**DENSE, "tensor_parallel": 16}
WIDE_EXPERTS: Mapping[str, Any] = {
    **LATENT,
    "hardware": "h100-sxm",
    "tensor_parallel": 1,
    "attention_data_parallel": 16,
    "expert_parallel": 16,
    "concurrency": 256,
}
TIMES = ("itl", "tpot", "ttft")
SERVED_LAYERS = {"llama-3.1-70b": 80, "deepseek-r1": 61}


@pytest.mark.parametrize("point", [DENSE, EXPERTS, LATENT], ids=["dense", "experts", "latent"])
@pytest.mark.parametrize("network", [1.0, 1e30])
def test_one_node_has_nothing_of_the_network(point: Mapping[str, Any], network: float) -> None:
    one, other = solved(point), solved(point, network_bandwidth=network)
    assert one["nodes"] == 1
    for name in SERVING.outputs:
        assert one[name] == other[name] or (isnan(one[name]) and isnan(other[name])), name


@pytest.mark.parametrize("hardware", ["h20", "mi210"])
def test_one_node_needs_no_network_that_is_known(hardware: str) -> None:
    """Of MI210 nothing says how many devices its link connects: a stage is one node, as wide as it may be."""
    point = solved(DENSE, hardware=hardware, precision="bf16", tensor_parallel=8, link_bandwidth=100e9)
    assert point["nodes"] == 1
    assert point["feasible"]
    assert point["tpot"] > 0


def test_sixteen_h100_all_reduce_by_all_reduce() -> None:
    """Two nodes of 8: bytes are sent one after the other over NVLink 4 (450 GB/s) and InfiniBand (50 GB/s)."""
    point = solved(WIDE, concurrency=32)
    link, network = (rate * point["link_share"] for rate in (450e9, 50e9))
    for tokens, name in ((32, "time_collectives"), (2000, "prefill_collective_time")):
        message = tokens * 8192 * 2
        one_shot = bulk = 0.0
        for _all_reduce in range(2 * 80):
            one_shot += point["collective_latency"] + 8 * point["collective_latency_per_gpu"]
            one_shot += sum(message / link for _peer in range(7))
            one_shot += point["bulk_latency"] + sum(message / 2 / network for _round in ("scatter", "gather"))
            bulk += point["bulk_latency"] + sum(message / 8 / link for _step in range(2 * 7))
            bulk += point["bulk_latency"] + sum(message / 8 / 2 / network for _round in ("scatter", "gather"))
        assert point[name] == pytest.approx(min(one_shot, bulk), rel=1e-9), name
    assert point["feasible"]
    assert point["extrapolated"]


def test_sixteen_h100_dispatch_copy_by_copy() -> None:
    """16 devices with a sixteenth of the experts each: a copy of a token goes to each of 8 experts, and back."""
    point = solved(WIDE_EXPERTS)
    tokens = point["stage_tokens"]
    crossing = sum((sender < 8) != (owner < 8) for sender in range(16) for owner in range(16)) / 16**2
    sent = tokens / 16 * 8 * crossing * 7168 * 2  # by one device, in one layer
    expected = 58 * (point["expert_parallel_time"] + 2 * sent / (50e9 * point["link_share"]))
    assert point["step_dispatch_time"] == pytest.approx(expected, rel=1e-12)


def test_nodes_are_as_many_as_a_stage_needs() -> None:
    for gpus, link, nodes, fullest in ((16, 8, 2, 8), (16, 16, 1, 16), (16, 72, 1, 16), (64, 8, 8, 8), (8, 3, 3, 3)):
        point = solved(DENSE, tensor_parallel=gpus, link_gpus=link)
        assert (point["nodes"], point["node_gpus"]) == (nodes, fullest)


def test_one_device_in_each_node_has_the_network_alone() -> None:
    point = solved(DENSE, tensor_parallel=2, link_gpus=1)
    sent = 2 * 80 * (point["bulk_latency"] + 32 * 8192 * 2 / (50e9 * point["link_share"]))
    assert point["time_collectives"] == pytest.approx(sent, rel=1e-12)


@pytest.mark.parametrize("point", [WIDE, WIDE_EXPERTS], ids=["dense", "experts"])
def test_two_nodes_are_slower_than_one_and_a_faster_network_is_not(point: Mapping[str, Any]) -> None:
    one, two = (solved(point, link_gpus=link) for link in (16, 8))
    rates = [solved(point, network_bandwidth=rate) for rate in (400e9, 50e9, 25e9, 1e9)]
    for name in TIMES:
        assert one[name] < two[name], name
        assert all(np.diff([point[name] for point in rates]) > 0), name


def test_collectives_of_more_nodes_take_longer() -> None:
    points = [solved(DENSE, tensor_parallel=gpus) for gpus in (8, 16, 32, 64)]
    assert [point["nodes"] for point in points] == [1, 2, 4, 8]
    for name in ("time_collectives", "prefill_collective_time"):
        assert all(np.diff([point[name] for point in points]) > 0), name


@pytest.mark.parametrize("point", [WIDE, WIDE_EXPERTS], ids=["dense", "experts"])
def test_an_endless_network_leaves_latencies(point: Mapping[str, Any]) -> None:
    apart = solved(point, network_bandwidth=1e30)
    inside = solved(point, tensor_parallel=8) if point is WIDE else solved(point, attention_data_parallel=8)
    for name in ("one_shot", "bulk"):
        latency = "one_shot_latency" if name == "one_shot" else "bulk_pass_latency"
        assert apart[latency] == inside[latency] + 2 * SERVED_LAYERS[point["model"]] * apart["bulk_latency"]
        assert apart[f"{name}_token_time"] == pytest.approx(inside[f"{name}_token_time"], rel=1e-12)
    assert apart["step_dispatch_time"] == pytest.approx(apart["expert_dispatch_time"], rel=1e-12)


def test_a_stage_of_several_nodes_is_compiled_to_the_same_bits() -> None:
    axes: dict[str, Any] = {"tensor_parallel": [8, 16], "hardware": ["h100-sxm", "h20"]}
    values = {name: value for name, value in {**DENSE, **LOAD}.items() if name not in axes}
    swept = sg.sweep(solver="serving", axes=axes, values=values, outputs=["tpot", "infeasible_because"])
    for row, gpus in enumerate(axes["tensor_parallel"]):
        for column, hardware in enumerate(axes["hardware"]):
            point = solved(DENSE, tensor_parallel=gpus, hardware=hardware)
            tpot = float(swept.tpot.values[row, column])
            assert tpot == point["tpot"] or (isnan(tpot) and isnan(point["tpot"]))
            assert swept.infeasible_because.values[row, column] == point["infeasible_because"]


# The reference solver.


@pytest.mark.parametrize("concurrency", [1, 8, 10**6])
def test_an_ideal_engine_on_one_accelerator_is_continuous_batching(concurrency: int) -> None:
    """Requests that hold `tokens` all their life. Sums of some ten terms: 1e-12. The embedding, which is read by row,
    must be tied, and P the parameters that are in matrices: the reference reads all it has."""
    tokens = 3000
    ideal: dict[str, Any] = {"model": "qwen2.5-1.5b", "hardware": "h100-sxm", "precision": "bf16", "engine": "ideal"}
    memory: dict[str, Any] = {"visible_share": 1, "context_bytes": 0, "activation_memory": 0, "max_batch_size": 64}
    lengths: dict[str, Any] = {"mean_context": tokens, "request_tokens": tokens, "input_len": tokens, "output_len": 1}
    one = solved({**ideal, **memory, **lengths}, concurrency=concurrency, page_size=1)
    reference = {name: value for name, value in ideal.items() if name != "engine"}
    reference |= {"parameters": one["weight_memory"] / 2, "seq_len": tokens, "page_size": 1, "efficiency": 1}
    other = solved(
        {**reference, "max_batch_size": min(64, concurrency)},
        CONTINUOUS_BATCHING,
        (*CONTINUOUS_BATCHING.outputs, "kv_capacity_requests", "kv_bytes_per_request", "kv_budget"),
    )
    for name in ("itl", "kv_capacity_requests", "kv_bytes_per_request", "kv_budget"):
        assert one[name] == pytest.approx(other[name], rel=1e-12), name
    assert one["active_requests"] == other["max_active_requests"]
    assert one["decode_step_time"] == one["time_weights"] + one["time_kv"]


# What cannot be.


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, "fits"),
        ({"tensor_parallel": 1}, "weights"),
        ({"input_len": 10**6}, "kv_cache"),
        ({"tensor_parallel": 3}, "tensor_parallel_heads"),
        ({"tensor_parallel": 16, "hardware": "h20"}, "link"),
        ({"tensor_parallel": 16, "link_gpus": 8}, "fits"),
        ({"expert_parallel": 3}, "expert_parallel"),
        ({"ffn_flops": 0}, "format"),
    ],
)
def test_what_cannot_be_says_why(changed: Mapping[str, Any], reason: str) -> None:
    point = solved({**DENSE, "precision": "bf16", **changed})
    assert REASONS[int(point["infeasible_because"])] == reason
    assert point["feasible"] == (reason == "fits")
    if reason != "fits":
        assert all(isnan(point[name]) for name in ("ttft", "tpot", "itl", "request_latency", "speedup_vs_static"))
        assert all(point[name] == 0 for name in ("throughput", "requests_per_second", "active_requests"))
        assert isnan(point["cost_per_million_tokens"])


@pytest.mark.parametrize(
    ("values", "term"),
    [
        ({**DENSE, "input_len": 10**6}, "memory_capacity"),
        ({**DENSE, "concurrency": 2000, "input_len": 8000}, "memory_capacity"),
        ({**DENSE, "concurrency": 64, "max_batch_size": 8}, "batch_limit"),
        ({**DENSE, "concurrency": 4, "tensor_parallel": 1}, "memory_bandwidth"),
        ({**DENSE, "concurrency": 256, "output_len": 20}, "compute"),
        ({**DENSE, "concurrency": 4, "link_bandwidth": 1e6}, "interconnect"),
        ({**DENSE, "model": "llama-3.1-8b", "concurrency": 1}, "batch_limit"),
    ],
)
def test_the_largest_part_of_a_step_binds(values: Mapping[str, Any], term: str) -> None:
    assert BOTTLENECKS[int(solved(values)["bottleneck"])] == term


@pytest.mark.parametrize(
    "changed",
    [{"concurrency": 1000}, {"input_len": 50000}, {"draft_len": 2}, {"prefix_hit_rate": 0.5}, {"pipeline_parallel": 2}],
)
def test_leaving_the_checked_range_is_said(changed: Mapping[str, Any]) -> None:
    assert not solved(DENSE)["extrapolated"]
    assert solved(DENSE, **changed)["extrapolated"]


def test_an_engine_must_be_named() -> None:
    with pytest.raises(InputError, match=r"has no value: give engine, or \w+ itself"):
        solved({name: value for name, value in DENSE.items() if name != "engine"})


# House rules.


@pytest.mark.parametrize("name", sorted(SERVING.equations))
def test_every_equation_says_what_it_gives(name: str) -> None:
    equation = SERVING.equations[name]
    text = inspect.getdoc(equation)
    assert text is not None
    assert text.startswith("Return ")
    if not isinstance(equation, Variant):
        assert len(inspect.signature(equation).parameters) <= 22


def test_every_phenomenon_has_equations() -> None:
    assert all(any(hasattr(value, "__quantity__") for value in vars(module).values()) for module in PHENOMENA)


def test_the_sum_of_the_parts_is_the_step() -> None:
    for point in (DENSE, EXPERTS, LATENT):
        found = solved(point)
        parts = sum(found[f"time_{part}"] for part in ("weights", "experts", "kv", "collectives", "launch"))
        assert found["itl"] == pytest.approx(parts, rel=1e-12)
        assert found["tpot"] * (1 - found["time_prefill_share"]) == pytest.approx(found["itl"], rel=1e-12)
        held = found["weight_memory"] + found["kv_memory"] + found["activation_memory"]
        assert found["memory_per_gpu"] == held + 0.5e9
        assert floor(found["max_active_requests"]) < inf


@pytest.mark.usefixtures("no_load")
def test_a_load_is_given_in_one_way() -> None:
    with pytest.raises(InputError, match="got request_rate and concurrency, expected one of them"):
        solved(DENSE, request_rate=1, concurrency=1)


@pytest.mark.usefixtures("no_load")
@pytest.mark.parametrize("load", [0.1, 0.5, 0.8])
def test_an_arrival_runs_among_those_that_littles_law_gives(load: float) -> None:
    """n - 1 = rate x time of a request that has a place: what three secants have to solve."""
    outputs = (*SERVING.outputs, "found_requests", "rank_requests_full")
    values = {**DENSE, "input_len": 2000, "output_len": 500, "output_reserved": 0.5}
    rate = load * solved({**values, "request_rate": 1}, outputs=("saturation_rate",))["saturation_rate"]
    point = solved(values, request_rate=rate, outputs=outputs)
    assert point["active_requests"] == pytest.approx(point["found_requests"] - 1, rel=0.03)
    # At 0.8, prompts take 0.45 of the time and more.
    assert VALIDITY[int(point["validity"])] == ("valid" if load < 0.8 else "prompt_bound")


@pytest.mark.usefixtures("no_load")
def test_normal_shares_are_those_of_a_normal_distribution() -> None:
    for z in (0, 0.3, 1, 2.5, 4):
        assert normal_share(z, normal_density(z)) == pytest.approx((1 + erf(z / 2**0.5)) / 2, abs=2e-5)
        assert normal_density(z) == pytest.approx(exp(-z * z / 2) / (2 * pi) ** 0.5, rel=1e-9)


@pytest.mark.usefixtures("no_load")
@pytest.mark.parametrize(
    ("changed", "label"),
    [
        ({"request_rate": 0.5}, "valid"),
        ({"request_rate": 100}, "overload"),
        ({"request_rate": 0.5, "arrival_cv": 3}, "arrival_variance"),
        ({"request_rate": 0.5, "output_cv": 2}, "length_variance"),
        ({"request_rate": 0.05, "max_batch_size": 4}, "few_requests"),
        ({"concurrency": 32, "output_cv": 1}, "valid"),
        ({"concurrency": 32}, "equal_lengths"),
        ({"concurrency": 1}, "few_requests"),
        ({"concurrency": 100, "max_batch_size": 100}, "memory_pressure"),
        ({"concurrency": 32, "input_len": 10**7}, "infeasible"),
    ],
)
def test_validity_names_the_regime(changed: Mapping[str, Any], label: str) -> None:
    point = solved(DENSE, **{"input_len": 2000, "output_len": 500, **changed})
    assert VALIDITY[int(point["validity"])] == label
