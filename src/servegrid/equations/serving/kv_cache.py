"""What the requests keep in memory: keys and values, latent vectors, windows, states, keys of an indexer.

Kwon et al. 2023, doi:10.1145/3600006.3613165, for the pages; DeepSeek-AI 2024, arXiv:2405.04434, for latent vectors.
"""

from math import ceil

from servegrid.quantity import COUNT, NOT_NEGATIVE, POSITIVE, Bounds, quantity

PAGED_ATTENTION = "Kwon et al. 2023, section 4, doi:10.1145/3600006.3613165"
DEEPSEEK_V2 = "DeepSeek-AI 2024, DeepSeek-V2, section 2.1, arXiv:2405.04434"


@quantity(unit="1", long_name="values cached per token and layer, on one device", bounds=NOT_NEGATIVE)
def kv_layer_values(kv_head_values: float, kv_cache_heads: float, tensor_parallel: float) -> float:
    """Return v max(H_kv / tp, 1): heads are split, and copied where there are fewer; a latent vector is one head."""
    return kv_head_values * max(kv_cache_heads / tensor_parallel, 1)


@quantity(
    unit="byte",
    long_name="cache per token that grows with the context, on one device",
    bounds=NOT_NEGATIVE,
    source=f"{PAGED_ATTENTION}; latent attention: {DEEPSEEK_V2}",
)
def kv_token_bytes(
    full_layers: float,
    kv_layer_values: float,
    kv_bytes: float,
    index_layers: float,
    index_head_dim: float,
    index_value_bytes: float,
    pipeline_parallel: float,
) -> float:
    """Return (L_f v b_kv + L_i d_i b_i) / pp. Checked against logged capacities (median error 3 %); indexers not."""
    indexer = index_layers * index_head_dim * index_value_bytes
    return (full_layers * kv_layer_values * kv_bytes + indexer) / pipeline_parallel


@quantity(unit="byte", long_name="cache per token of the window, on one device", bounds=NOT_NEGATIVE)
def window_token_bytes(
    windowed_layers: float, kv_layer_values: float, kv_bytes: float, pipeline_parallel: float
) -> float:
    """Return L_w v b_kv / pp. Checked with windows of 128 tokens."""
    return windowed_layers * kv_layer_values * kv_bytes / pipeline_parallel


@quantity(unit="byte", long_name="states of a request that do not grow, on one device", bounds=NOT_NEGATIVE)
def state_bytes(
    linear_layers: float,
    state_values: float,
    conv_state_values: float,
    state_value_bytes: float,
    tensor_parallel: float,
    pipeline_parallel: float,
) -> float:
    """Return L_l (s + c / 2) b_s / (tp pp): convolutions keep half the width. Not checked against runs."""
    values = state_values + conv_state_values / 2
    return linear_layers * values * state_value_bytes / (tensor_parallel * pipeline_parallel)


@quantity(unit="token", long_name="tokens that a request needs to be admitted", bounds=POSITIVE)
def request_tokens(input_len: float, output_len: float, output_reserved: float, output_cv: float) -> float:
    """Return s + r o (1 + cv^2) = E[O (s + r O)] / E[O]: r = 1 where the engine reserves to the end.

    Less where it hands out pages as tokens come, and preempts: a request has half of its output, on average over its
    life. Checked for 1 and 0.8 and equal lengths in measured runs, for 0.5 in simulated ones.
    """
    return input_len + output_reserved * output_len * (1 + output_cv * output_cv)


@quantity(
    unit="byte", long_name="cache of one request, whole pages, on one device", bounds=POSITIVE, source=PAGED_ATTENTION
)
def kv_bytes_per_request(
    request_tokens: float,
    page_size: float,
    kv_token_bytes: float,
    window: float,
    window_token_bytes: float,
    state_bytes: float,
) -> float:
    """Return p ceil(S/p) b + p ceil(min(S, w)/p) b_w + states. Checked: capacity in queues within 3.4 %."""
    growing = page_size * ceil(request_tokens / page_size) * kv_token_bytes
    windowed = page_size * ceil(min(request_tokens, window) / page_size) * window_token_bytes
    return growing + windowed + state_bytes


@quantity(unit="token", long_name="context of a running request on average", bounds=COUNT)
def mean_context(input_len: float, output_len: float, output_cv: float) -> float:
    """Return x = s + o (1 + cv^2) / 2 = E[O (s + O/2)] / E[O]: long outputs run for longer. Checked on two traces."""
    return input_len + output_len * (1 + output_cv * output_cv) / 2


@quantity(
    unit="1",
    long_name="share of the running requests' pages that is empty",
    bounds=Bounds(at_least=0, below=1),
    source=PAGED_ATTENTION,
    better="lower",
)
def kv_fragmentation(mean_context: float, page_size: float) -> float:
    """Return ((p - 1)/2) / (x + (p - 1)/2): the last page is half full on average, over lengths that vary.

    Checked: within 0.25 percentage points of replaying two traces, pages of 1 to 256 tokens.
    """
    empty = (page_size - 1) / 2
    return empty / (mean_context + empty)
