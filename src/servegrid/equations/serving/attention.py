"""Attention beside its matrices: reading caches in decode, and the pairs of tokens in prefill.

Dao et al. 2022, FlashAttention, arXiv:2205.14135: scores are never written, so decode reads each cache once.
"""

from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity

FLASH = "Dao et al. 2022, arXiv:2205.14135"
SPARSE = "DeepSeek-AI 2025, DeepSeek-V3.2, section 2.1"


def seen(tokens: float, index_top_k: float) -> float:
    """Return the tokens that attention reads: all, or at most those that an indexer chooses."""
    return min(tokens, index_top_k) if index_top_k > 0 else tokens


@quantity(unit="1", long_name="share of the bandwidth at which caches are read", bounds=POSITIVE)
def kv_bandwidth_share(kv_bytes: float, kv_bandwidth_share_bf16: float, kv_bandwidth_share_fp8: float) -> float:
    """Return the share for 16 bits, or for 8, which the kernel converts. Checked for both."""
    return kv_bandwidth_share_fp8 if kv_bytes < 2 else kv_bandwidth_share_bf16


@quantity(unit="s", long_name="time to read the cache of one request", bounds=NOT_NEGATIVE, source=f"{FLASH}; {SPARSE}")
def kv_read_time(
    full_layers: float,
    kv_layer_values: float,
    kv_bytes: float,
    index_top_k: float,
    mean_context: float,
    window: float,
    window_token_bytes: float,
    index_layers: float,
    index_head_dim: float,
    index_value_bytes: float,
    state_bytes: float,
    pipeline_parallel: float,
    hbm_bandwidth: float,
    kv_bandwidth_share: float,
) -> float:
    """Return (L_f v b min(x, top_k) + pp min(x, w) b_w + L_i d_i b_i x + 2 pp states) / (BW share), all stages.

    States are read and written. Checked for x of 1k to 12k; states and indexers for their limits alone.
    """
    full = full_layers * kv_layer_values * kv_bytes * seen(mean_context, index_top_k)
    indexer = index_layers * index_head_dim * index_value_bytes * mean_context
    stage = min(mean_context, window) * window_token_bytes + 2 * state_bytes
    return (full + indexer + pipeline_parallel * stage) / (hbm_bandwidth * kv_bandwidth_share)


@quantity(unit="s", long_name="least time of latent attention of one request", bounds=NOT_NEGATIVE)
def latent_compute_time(
    latent: float,
    draft_len: float,
    full_layers: float,
    heads: float,
    tensor_parallel: float,
    decode_head_dims: float,
    mean_context: float,
    index_top_k: float,
    bf16_flops: float,
    attention_flops_share: float,
) -> float:
    """Return (1 + d) L_f 2 (H/tp) d_h min(x, top_k) / (f share): all heads work on the shared vector. Checked."""
    pairs = full_layers * heads / tensor_parallel * seen(mean_context, index_top_k)
    return latent * (1 + draft_len) * 2 * pairs * decode_head_dims / (bf16_flops * attention_flops_share)


@quantity(unit="s", long_name="attention of one request in a decode step", bounds=NOT_NEGATIVE)
def kv_request_time(kv_read_time: float, latent_compute_time: float) -> float:
    """Return the larger of reading the cache and, with latent attention, computing on it. Checked."""
    return max(kv_read_time, latent_compute_time)


@quantity(unit="s", long_name="attention of a decode step", bounds=NOT_NEGATIVE, source=FLASH, better="lower")
def time_kv(micro_batch: float, kv_request_time: float) -> float:
    """Return (n/pp) times the attention of one request. Checked for n of 1 to 512."""
    return micro_batch * kv_request_time


@quantity(unit="s", long_name="attention of one prompt", bounds=NOT_NEGATIVE, source=f"{FLASH}; {SPARSE}")
def prefill_attention_time(
    heads: float,
    tensor_parallel: float,
    prefill_head_dims: float,
    prompt_tokens: float,
    input_len: float,
    full_layers: float,
    windowed_layers: float,
    window: float,
    index_top_k: float,
    index_layers: float,
    index_heads: float,
    index_head_dim: float,
    linear_layers: float,
    state_values: float,
    bf16_flops: float,
    fp8_flops: float,
    attention_flops_share: float,
) -> float:
    """Return ((H/tp) d m (L_f min(K, 2 top_k) + L_w min(2 w, K)) + 4 L_l m s/tp + indexer) / (f share).

    Causal: a token sees half of K = 2 s - m keys on average, at two FLOPs each; m of s tokens are not in the prefix
    cache. Indexer L_i H_i d_i m K / tp, in 8 bits. Checked for s of 0.9k to 8k; linear layers and indexers are not.
    """
    keys = 2 * input_len - prompt_tokens
    layers = full_layers * seen(keys, 2 * index_top_k) + windowed_layers * min(2 * window, keys)
    attention = heads * prefill_head_dims * prompt_tokens * layers
    linear = 4 * linear_layers * prompt_tokens * state_values
    indexer = index_layers * index_heads * index_head_dim * prompt_tokens * keys
    return ((attention + linear) / bf16_flops + indexer / fp8_flops) / (attention_flops_share * tensor_parallel)
