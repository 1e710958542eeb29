"""Matrices: a group of weights for some tokens is a roofline of reading the weights once and of multiplying.

Williams et al. 2009, Roofline, doi:10.1145/1498765.1498785. Both sides are quantities of their own, for one pass and
for one token: they vary over fewer axes than the tokens do.
"""

from math import inf

from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity

ROOFLINE = "Williams et al. 2009, doi:10.1145/1498765.1498785"


def gemm_time(read_time: float, token_time: float, tokens: float) -> float:
    """Return max(time to read the weights, tokens times time of one) [s]."""
    return max(read_time, tokens * token_time)


def layers_gemm_time(
    attention_read_time: float,
    attention_token_time: float,
    ffn_read_time: float,
    ffn_token_time: float,
    shared_read_time: float,
    shared_token_time: float,
    tokens: float,
) -> float:
    """Return the same of attention, feed-forward and shared experts: the dense matrices of the layers [s]."""
    attention = gemm_time(attention_read_time, attention_token_time, tokens)
    ffn = gemm_time(ffn_read_time, ffn_token_time, tokens)
    return attention + ffn + gemm_time(shared_read_time, shared_token_time, tokens)


def at_bits(bits: float, at_16: float, at_8: float, at_4: float) -> float:
    """Return the share for the format in which a part computes; weight-only formats compute at 16 bits."""
    return at_4 if bits < 8 else at_8 if bits < 16 else at_16


def read_time(weights: float, bytes_per_weight: float, bandwidth: float, share: float) -> float:
    """Return W b / (BW share) [s]."""
    return weights * bytes_per_weight / (bandwidth * share)


def token_time(weights: float, flops: float, share: float) -> float:
    """Return 2 W / (f share): two FLOPs per parameter and token [s]; without end where the device cannot compute."""
    return 2 * weights / (flops * share) if flops > 0 else inf


@quantity(unit="s", long_name="time to read attention's weights", bounds=NOT_NEGATIVE, source=ROOFLINE)
def attention_read_time(
    attention_weights: float,
    attention_bytes: float,
    hbm_bandwidth: float,
    attention_compute_bits: float,
    gemm_bandwidth_share_bf16: float,
    gemm_bandwidth_share_fp8: float,
    gemm_bandwidth_share_fp4: float,
) -> float:
    """Return W_a b_a / (BW share), the share that of the format. Checked for 16, 8 and 4 bits."""
    share = at_bits(
        attention_compute_bits, gemm_bandwidth_share_bf16, gemm_bandwidth_share_fp8, gemm_bandwidth_share_fp4
    )
    return read_time(attention_weights, attention_bytes, hbm_bandwidth, share)


@quantity(unit="s", long_name="time to multiply one token by attention's weights", bounds=NOT_NEGATIVE, source=ROOFLINE)
def attention_token_time(
    attention_weights: float,
    attention_flops: float,
    attention_compute_bits: float,
    gemm_flops_share_bf16: float,
    gemm_flops_share_fp8: float,
    gemm_flops_share_fp4: float,
) -> float:
    """Return 2 W_a / (f share). Checked for 16, 8 and 4 bits."""
    share = at_bits(attention_compute_bits, gemm_flops_share_bf16, gemm_flops_share_fp8, gemm_flops_share_fp4)
    return token_time(attention_weights, attention_flops, share)


@quantity(unit="s", long_name="time to read dense feed-forward weights", bounds=NOT_NEGATIVE, source=ROOFLINE)
def ffn_read_time(
    ffn_weights: float,
    ffn_bytes: float,
    hbm_bandwidth: float,
    ffn_compute_bits: float,
    gemm_bandwidth_share_bf16: float,
    gemm_bandwidth_share_fp8: float,
    gemm_bandwidth_share_fp4: float,
) -> float:
    """Return W_d b_d / (BW share). Checked for 16, 8 and 4 bits."""
    share = at_bits(ffn_compute_bits, gemm_bandwidth_share_bf16, gemm_bandwidth_share_fp8, gemm_bandwidth_share_fp4)
    return read_time(ffn_weights, ffn_bytes, hbm_bandwidth, share)


@quantity(unit="s", long_name="time to multiply one token by dense feed-forward weights", bounds=NOT_NEGATIVE)
def ffn_token_time(
    ffn_weights: float,
    ffn_flops: float,
    ffn_compute_bits: float,
    gemm_flops_share_bf16: float,
    gemm_flops_share_fp8: float,
    gemm_flops_share_fp4: float,
) -> float:
    """Return 2 W_d / (f share). Checked for 16, 8 and 4 bits."""
    share = at_bits(ffn_compute_bits, gemm_flops_share_bf16, gemm_flops_share_fp8, gemm_flops_share_fp4)
    return token_time(ffn_weights, ffn_flops, share)


@quantity(unit="s", long_name="time to read shared experts", bounds=NOT_NEGATIVE, source=ROOFLINE)
def shared_read_time(
    shared_weights: float,
    expert_bytes: float,
    hbm_bandwidth: float,
    expert_compute_bits: float,
    gemm_bandwidth_share_bf16: float,
    gemm_bandwidth_share_fp8: float,
    gemm_bandwidth_share_fp4: float,
) -> float:
    """Return W_s b_x / (BW share): the format of the experts. Checked with DeepSeek-R1."""
    share = at_bits(expert_compute_bits, gemm_bandwidth_share_bf16, gemm_bandwidth_share_fp8, gemm_bandwidth_share_fp4)
    return read_time(shared_weights, expert_bytes, hbm_bandwidth, share)


@quantity(unit="s", long_name="time to multiply one token by shared experts", bounds=NOT_NEGATIVE, source=ROOFLINE)
def shared_token_time(shared_weights: float, expert_gemm_rate: float) -> float:
    """Return 2 W_s / (f share). Checked with DeepSeek-R1."""
    return token_time(shared_weights, expert_gemm_rate, 1)


@quantity(unit="FLOP/s", long_name="rate of dense matrices in the experts' format", bounds=NOT_NEGATIVE)
def expert_gemm_rate(
    expert_flops: float,
    expert_compute_bits: float,
    gemm_flops_share_bf16: float,
    gemm_flops_share_fp8: float,
    gemm_flops_share_fp4: float,
) -> float:
    """Return f share. Checked for 16, 8 and 4 bits."""
    share = at_bits(expert_compute_bits, gemm_flops_share_bf16, gemm_flops_share_fp8, gemm_flops_share_fp4)
    return expert_flops * share


@quantity(unit="s", long_name="time to read the output projection", bounds=NOT_NEGATIVE, source=ROOFLINE)
def head_read_time(
    head_weights: float, head_bytes: float, hbm_bandwidth: float, gemm_bandwidth_share_bf16: float
) -> float:
    """Return V h b_h / (tp BW share), in 16 bits. Checked."""
    return read_time(head_weights, head_bytes, hbm_bandwidth, gemm_bandwidth_share_bf16)


@quantity(unit="s", long_name="time to multiply one token by the output projection", bounds=NOT_NEGATIVE)
def head_token_time(head_weights: float, head_flops: float, gemm_flops_share_bf16: float) -> float:
    """Return 2 V h / (tp f share), in 16 bits. Checked."""
    return token_time(head_weights, head_flops, gemm_flops_share_bf16)


@quantity(unit="s", long_name="time to read the dense weights once", bounds=POSITIVE)
def dense_read_time(
    attention_read_time: float, ffn_read_time: float, shared_read_time: float, head_read_time: float
) -> float:
    """Return the sum over attention, feed-forward, shared experts and head: the matrices of an empty batch."""
    return attention_read_time + ffn_read_time + shared_read_time + head_read_time


@quantity(unit="s", long_name="time to multiply one token by the dense weights", bounds=POSITIVE)
def dense_token_time(
    attention_token_time: float, ffn_token_time: float, shared_token_time: float, head_token_time: float
) -> float:
    """Return the sum over attention, feed-forward, shared experts and head."""
    return attention_token_time + ffn_token_time + shared_token_time + head_token_time


@quantity(unit="s", long_name="dense matrices of a decode step", bounds=POSITIVE, source=ROOFLINE, better="lower")
def time_weights(
    attention_read_time: float,
    attention_token_time: float,
    ffn_read_time: float,
    ffn_token_time: float,
    shared_read_time: float,
    shared_token_time: float,
    head_read_time: float,
    head_token_time: float,
    decode_tokens: float,
) -> float:
    """Return G(attention) + G(FFN) + G(shared) + G(head), G = max(read, m token). Checked for m of 1 to 512."""
    layers = layers_gemm_time(
        attention_read_time, attention_token_time, ffn_read_time, ffn_token_time, shared_read_time, shared_token_time,
        decode_tokens,
    )  # fmt: skip
    return layers + gemm_time(head_read_time, head_token_time, decode_tokens)
