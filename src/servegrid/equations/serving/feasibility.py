"""Whether a deployment can be, and if not, why; which term binds; and what lies outside the range that was checked."""

from servegrid.equations.binding import (
    BATCH_LIMIT,
    BOTTLENECKS,
    COMPUTE,
    INTERCONNECT,
    MEMORY_BANDWIDTH,
    MEMORY_CAPACITY,
)
from servegrid.quantity import quantity

# Codes of the labels, in the order of REASONS.
FITS = 0
WEIGHTS = 1
KV_CACHE = 2
HEADS = 3
EXPERTS = 4
LINK = 5
FORMAT = 6
REASONS = ("fits", "weights", "kv_cache", "tensor_parallel_heads", "expert_parallel", "link", "format")


@quantity(unit="1", long_name="why the parts do not fit together", kind="label", labels=REASONS)
def misfit(
    attention_flops: float,
    ffn_flops: float,
    expert_flops: float,
    heads: float,
    kv_cache_heads: float,
    tensor_parallel: float,
    experts: float,
    expert_parallel: float,
    stage_gpus: float,
    nodes: float,
    network_bandwidth: float,
) -> float:
    """Return the first reason: a format that the device cannot compute, heads or experts that cannot be shared out.

    Or more devices in a stage than the scale-up link connects, and no network that is known. Query heads must divide
    by tp; key-value heads divide by it or it by them; experts and devices divide by ep.
    """
    copies = min(kv_cache_heads % tensor_parallel, tensor_parallel % kv_cache_heads)
    ungrouped = max(experts % expert_parallel, stage_gpus % expert_parallel)
    apart = LINK if nodes > 1 and not network_bandwidth > 0 else FITS
    split = HEADS if heads % tensor_parallel + copies > 0 else EXPERTS if ungrouped > 0 else apart
    return split if attention_flops > 0 and ffn_flops > 0 and expert_flops > 0 else FORMAT


@quantity(unit="1", long_name="why it cannot be", kind="label", labels=REASONS)
def infeasible_because(misfit: float, kv_budget: float, kv_capacity_requests: float) -> float:
    """Return the misfit; else whether weights and activations, or the cache of one request, exceed the memory."""
    memory = WEIGHTS if kv_budget <= 0 else KV_CACHE if kv_capacity_requests < 1 else FITS
    return misfit if misfit > FITS else memory


@quantity(unit="1", long_name="whether the deployment can be", kind="bool")
def feasible(infeasible_because: float) -> bool:
    """Return whether there is no reason against it."""
    return infeasible_because == FITS


@quantity(unit="1", long_name="which term binds", kind="label", labels=BOTTLENECKS)
def bottleneck(
    feasible: float,
    kv_capacity_requests: float,
    max_batch_size: float,
    concurrency: float,
    attention_data_parallel: float,
    dense_read_time: float,
    dense_token_time: float,
    decode_tokens: float,
    touched_experts: float,
    expert_read_time: float,
    step_dispatch_time: float,
    kv_read_time: float,
    kv_request_time: float,
    time_weights: float,
    time_experts: float,
    time_kv: float,
    time_collectives: float,
    time_launch: float,
    prefill_stall: float,
    prefill_collective_time: float,
    prefill_time: float,
    step_tokens: float,
) -> float:
    """Return the term that holds throughput down; each is tried in turn.

    Requests wait for memory: its capacity (also where nothing fits). They wait for the batch limit: that. Then the
    largest part of a token's time: reading (weights, experts, caches that are bound by it), computing (those that are
    not, and prompts), collectives (also of prompts), or launches, a fixed cost that a larger batch would share.
    """
    rank = concurrency / attention_data_parallel
    weights = time_weights if dense_read_time >= decode_tokens * dense_token_time else 0.0
    routed = time_experts - step_dispatch_time
    experts = routed if touched_experts * expert_read_time >= routed else 0.0
    caches = time_kv if kv_read_time >= kv_request_time else 0.0
    reading = weights + experts + caches
    stall = prefill_stall * step_tokens
    sending = stall * min(prefill_collective_time / prefill_time, 1)
    computing = time_weights + routed + time_kv - reading + stall - sending
    linked = time_collectives + step_dispatch_time + sending
    rest = INTERCONNECT if linked >= time_launch else BATCH_LIMIT
    other = rest if max(linked, time_launch) > computing else COMPUTE
    of_step = MEMORY_BANDWIDTH if reading >= max(max(linked, time_launch), computing) else other
    full = MEMORY_CAPACITY if kv_capacity_requests < min(max_batch_size, rank) else of_step
    waiting = BATCH_LIMIT if max_batch_size < min(kv_capacity_requests, rank) else full
    return waiting if feasible else MEMORY_CAPACITY


@quantity(unit="1", long_name="whether an input leaves the range that was checked", kind="bool")
def extrapolated(
    parameters: float,
    gpus: float,
    nodes: float,
    concurrency: float,
    input_len: float,
    output_len: float,
    output_cv: float,
    pipeline_parallel: float,
    linear_layers: float,
    index_layers: float,
    prefix_hit_rate: float,
    draft_len: float,
    disaggregated: float,
) -> bool:
    """Return whether it leaves the runs that the solver was compared with; `validity` is about queues instead.

    7e9 to 700e9 parameters, 1 to 8 devices of one node, 4 to 512 concurrent requests, prompts of 900 to 8200 and
    outputs of 100 to 7400 tokens of nearly equal lengths; no linear or sparse attention, prefix hits, drafts, pools or
    pipelines.
    """
    size = not 7e9 <= parameters <= 700e9 or gpus > 8 or nodes > 1 or pipeline_parallel > 1
    load = not 4 <= concurrency <= 512 or not 900 <= input_len <= 8200 or not 100 <= output_len <= 7400
    layers = linear_layers > 0 or index_layers > 0
    return size or load or layers or output_cv > 0.2 or prefix_hit_rate > 0 or draft_len > 0 or disaggregated > 0
