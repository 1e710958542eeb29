"""Prefill: what one prompt adds to passes that decode anyway.

Agrawal et al. 2024, Sarathi-Serve, arXiv:2403.02310: chunks of prompts share passes with decoding requests.
"""

from math import ceil

from servegrid.equations.serving.collectives import collective_time
from servegrid.equations.serving.experts import expert_time, experts_touched
from servegrid.equations.serving.gemm import layers_gemm_time
from servegrid.quantity import COUNT, NOT_NEGATIVE, POSITIVE, quantity

SARATHI = "Agrawal et al. 2024, arXiv:2403.02310"


def added_gemm_time(
    attention_read_time: float,
    attention_token_time: float,
    ffn_read_time: float,
    ffn_token_time: float,
    shared_read_time: float,
    shared_token_time: float,
    tokens: float,
    fellows: float,
    decoding: float,
) -> float:
    """Return G(m + fellows) - G(fellows) of the layers, the latter as far as a pass decodes anyway [s]."""
    both = layers_gemm_time(
        attention_read_time, attention_token_time, ffn_read_time, ffn_token_time, shared_read_time, shared_token_time,
        tokens + fellows,
    )  # fmt: skip
    anyway = layers_gemm_time(
        attention_read_time, attention_token_time, ffn_read_time, ffn_token_time, shared_read_time, shared_token_time,
        fellows,
    )  # fmt: skip
    return both - decoding * anyway


def added_expert_time(
    rank_experts: float,
    miss_rate: float,
    experts_per_token: float,
    expert_parallel: float,
    routing_exponent: float,
    read_time: float,
    row_time: float,
    tile: float,
    tokens: float,
    fellows: float,
    decoding: float,
) -> float:
    """Return the same for the routed experts, of all ranks' tokens [s]."""
    share = experts_per_token / expert_parallel
    touched = experts_touched(rank_experts, miss_rate, tokens + fellows, routing_exponent)
    touched_anyway = experts_touched(rank_experts, miss_rate, fellows, routing_exponent)
    both = expert_time(touched, (tokens + fellows) * share, read_time, row_time, tile)
    return both - decoding * expert_time(touched_anyway, fellows * share, read_time, row_time, tile)


@quantity(unit="token", long_name="tokens of a prompt that are computed", bounds=NOT_NEGATIVE)
def prompt_tokens(input_len: float, prefix_hit_rate: float) -> float:
    """Return m = s (1 - hit rate). Checked without hits."""
    return input_len * (1 - prefix_hit_rate)


@quantity(unit="token", long_name="rows of decoding requests in a pass with a prompt", bounds=NOT_NEGATIVE)
def fellow_tokens(mixed_prefill: float, micro_batch: float, draft_len: float) -> float:
    """Return mixed (n/pp - 1) (1 + d): none where prompts have passes of their own. Checked."""
    return mixed_prefill * max(micro_batch - 1, 0) * (1 + draft_len)


@quantity(unit="s", long_name="dense matrices that a prompt adds", bounds=NOT_NEGATIVE, source=SARATHI)
def prefill_gemm_time(
    attention_read_time: float,
    attention_token_time: float,
    ffn_read_time: float,
    ffn_token_time: float,
    shared_read_time: float,
    shared_token_time: float,
    head_read_time: float,
    prompt_tokens: float,
    fellow_tokens: float,
) -> float:
    """Return G(m + fellows) - G(fellows), and the head for its last token where nobody decodes. Checked."""
    decoding = min(fellow_tokens, 1)
    added = added_gemm_time(
        attention_read_time, attention_token_time, ffn_read_time, ffn_token_time, shared_read_time, shared_token_time,
        prompt_tokens, fellow_tokens, decoding,
    )  # fmt: skip
    return added + (1 - decoding) * head_read_time


@quantity(unit="s", long_name="routed experts that a prompt adds", bounds=NOT_NEGATIVE)
def prefill_expert_time(
    rank_experts: float,
    miss_rate: float,
    experts_per_token: float,
    expert_parallel: float,
    routing_exponent: float,
    expert_read_time: float,
    expert_row_time: float,
    expert_tile: float,
    prompt_tokens: float,
    fellow_tokens: float,
    attention_data_parallel: float,
) -> float:
    """Return the same difference for the experts, all ranks' prompts together. Checked for dp 1 and 8."""
    tokens = prompt_tokens * attention_data_parallel
    return added_expert_time(
        rank_experts, miss_rate, experts_per_token, expert_parallel, routing_exponent, expert_read_time,
        expert_row_time, expert_tile, tokens, fellow_tokens * attention_data_parallel, min(fellow_tokens, 1),
    )  # fmt: skip


@quantity(unit="s", long_name="collectives of a prompt", bounds=NOT_NEGATIVE)
def prefill_collective_time(
    prompt_tokens: float,
    one_shot_latency: float,
    one_shot_token_time: float,
    bulk_pass_latency: float,
    bulk_token_time: float,
    dispatch_token_time: float,
    attention_data_parallel: float,
) -> float:
    """Return min(one shot, bulk) of the prompt's tokens, dispatch of all ranks' prompts. Checked for 1 to 8 GPUs."""
    reduced = collective_time(prompt_tokens, one_shot_latency, one_shot_token_time, bulk_pass_latency, bulk_token_time)
    return reduced + prompt_tokens * attention_data_parallel * dispatch_token_time


@quantity(unit="s", long_name="device time that a prompt adds", bounds=NOT_NEGATIVE)
def prefill_gpu_time(
    prefill_attention_time: float, prefill_gemm_time: float, prefill_expert_time: float, prefill_collective_time: float
) -> float:
    """Return attention + matrices + experts + collectives. Checked."""
    return prefill_attention_time + prefill_gemm_time + prefill_expert_time + prefill_collective_time


@quantity(unit="s", long_name="host time of a prompt's passes", bounds=NOT_NEGATIVE)
def prefill_host_time(kernels: float, eager_launch_time: float, prompt_tokens: float, chunk_size: float) -> float:
    """Return K t_e ceil(m / chunk): kernels that are launched one by one, outside graphs. Checked for 1 chunk."""
    return kernels * eager_launch_time * ceil(prompt_tokens / chunk_size)


@quantity(unit="1", long_name="prompts that share a pass", bounds=COUNT)
def prompts_per_step(rank_requests: float, output_len: float, chunk_size: float, prompt_tokens: float) -> float:
    """Return max(1 + l/2, l) with l = n/o arrivals in a step, within the chunk. Checked."""
    arrivals = rank_requests / output_len
    return min(max(1 + arrivals / 2, arrivals), max(chunk_size / max(prompt_tokens, 1), 1))


@quantity(unit="s", long_name="time that a prompt adds", bounds=POSITIVE, source=SARATHI, better="lower")
def prefill_time(
    prefill_gpu_time: float, prefill_host_time: float, prompts_per_step: float, prefill_overhead: float
) -> float:
    """Return t_p = max(device, host / k) + overhead / k, k prompts per pass. Checked."""
    return max(prefill_gpu_time, prefill_host_time / prompts_per_step) + prefill_overhead / prompts_per_step
