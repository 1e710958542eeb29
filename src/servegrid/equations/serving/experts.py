"""Routed experts: how many distinct ones a batch touches, and grouped matrices of narrow shards in tiles."""

from math import log

from servegrid.equations.serving.gemm import gemm_time, token_time
from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity

HEAPS = "distinct items among draws; exponent below 1: Heaps' law"


SMALLEST_MISS = 1e-300
# exp(-40) is below the last digit of 1.
LARGEST_EXPONENT = 40


def decay(x: float) -> float:
    """Return exp(-x) for 0 <= x <= 40, to 1e-13: a series for x/256, squared eight times.

    A power takes 8 ns, whatever else a loop does; this is a dozen multiplications, several points at a time.
    """
    y = x / 256
    series = 1 - y * (1 - y / 2 * (1 - y / 3 * (1 - y / 4 * (1 - y / 5 * (1 - y / 6)))))
    to_4 = series * series * series * series
    to_16 = to_4 * to_4 * to_4 * to_4
    to_64 = to_16 * to_16 * to_16 * to_16
    return to_64 * to_64 * to_64 * to_64


def experts_touched(rank_experts: float, miss_rate: float, tokens: float, routing_exponent: float) -> float:
    """Return (E/ep) (1 - exp(-c N^g)), c = -log(1 - k/E): distinct experts of one group that N tokens use.

    g = 1: tokens route evenly and apart, (1 - k/E)^N misses; g < 1: some experts are popular. k = E gives E/ep, N = 1
    gives k/ep.
    """
    drawn = max(tokens, 1) ** routing_exponent
    return rank_experts * (1 - decay(min(miss_rate * drawn, LARGEST_EXPONENT)))


def expert_time(touched: float, rows: float, read_time: float, row_time: float, tile: float) -> float:
    """Return max(X read, (M + min(M, X tile)) row) [s]: rows are padded to tiles, and the busiest expert waited for."""
    return gemm_time(touched * read_time, row_time, rows + min(rows, touched * tile))


@quantity(unit="1", long_name="growth of distinct experts with tokens", bounds=POSITIVE, source=HEAPS)
def routing_exponent(balanced_router: float, routing_exponent_balanced: float, routing_exponent_plain: float) -> float:
    """Return g, nearer to 1 where a bias balances the router. Checked with DeepSeek-R1 and gpt-oss, one of each."""
    return routing_exponent_balanced if balanced_router > 0 else routing_exponent_plain


@quantity(unit="1", long_name="routed experts of one group", bounds=POSITIVE)
def rank_experts(experts: float, expert_parallel: float) -> float:
    """Return E / ep. Checked for ep of 1 to 8."""
    return experts / expert_parallel


@quantity(unit="1", long_name="rate at which tokens leave fewer experts untouched", bounds=POSITIVE)
def miss_rate(experts: float, experts_per_token: float) -> float:
    """Return c = -log(1 - k/E), finite also where every token uses every expert. Checked for k/E of 1/32."""
    return -log(max(1 - experts_per_token / experts, SMALLEST_MISS))


@quantity(unit="1", long_name="inner width of an expert's shard", bounds=NOT_NEGATIVE)
def expert_inner_width(
    expert_parameters: float, gated_ffn: float, hidden_size: float, expert_parallel: float, stage_gpus: float
) -> float:
    """Return W_x / (3 h) ep / T, or 2 h without a gate. Checked for 256 to 14336."""
    return expert_parameters / ((2 + gated_ffn) * hidden_size) * expert_parallel / stage_gpus


@quantity(unit="FLOP/s", long_name="rate of grouped matrices", bounds=NOT_NEGATIVE)
def expert_flops_rate(
    expert_gemm_rate: float, expert_flops_share: float, expert_inner_width: float, half_width: float
) -> float:
    """Return f share w / (w + w0): a narrow shard does not fill tiles. Checked for w of 256 to 14336."""
    width = max(expert_inner_width, 1)
    return expert_gemm_rate * expert_flops_share * width / (width + half_width)


@quantity(unit="s", long_name="time to read one expert in all layers", bounds=NOT_NEGATIVE)
def expert_read_time(
    expert_layers: float,
    expert_weights: float,
    expert_bytes: float,
    weight_only_bytes: float,
    expert_weight_only: float,
    hbm_bandwidth: float,
    expert_bandwidth_share: float,
) -> float:
    """Return L_m W (b + b_w) / (BW share); b_w where weights are expanded. Checked for fp8, nvfp4 and mxfp4."""
    size = expert_bytes + weight_only_bytes * expert_weight_only
    return expert_layers * expert_weights * size / (hbm_bandwidth * expert_bandwidth_share)


@quantity(unit="s", long_name="time to multiply one row by an expert in all layers", bounds=NOT_NEGATIVE)
def expert_row_time(expert_layers: float, expert_weights: float, expert_flops_rate: float) -> float:
    """Return 2 L_m W / f'. Checked for fp8, nvfp4 and mxfp4."""
    return token_time(expert_layers * expert_weights, expert_flops_rate, 1)


@quantity(unit="s", long_name="dispatch and combine of a pass", bounds=NOT_NEGATIVE)
def expert_dispatch_time(expert_layers: float, expert_parallel: float, expert_parallel_time: float) -> float:
    """Return L_m t_ep where ep > 1. Checked for ep up to 8."""
    return expert_layers * expert_parallel_time if expert_parallel > 1 else 0.0


@quantity(unit="s", long_name="one token's dispatch and combine between nodes", bounds=NOT_NEGATIVE)
def dispatch_token_time(
    expert_layers: float,
    experts_per_token: float,
    expert_parallel: float,
    hidden_size: float,
    hidden_bytes: float,
    nodes: float,
    network_bandwidth: float,
    link_share: float,
) -> float:
    """Return 2 L_m k/ep (g - 1)/g h b / (NET share) with g = min(ep, v) for v > 1, 0 in one node. Not checked.

    Of the k/ep copies of a token that a device sends and gets, (g - 1)/g are for another node; twice, out and back.
    Inside a node the volume made TPOT of the runs with ep > 1 worse (median error 17.0 instead of 15.3 %).
    """
    groups = min(expert_parallel, nodes)
    sent = 2 * expert_layers * experts_per_token / expert_parallel * (groups - 1) / groups * hidden_size * hidden_bytes
    return sent / (network_bandwidth * link_share) if nodes > 1 else 0.0


@quantity(unit="s", long_name="dispatch and combine of a decode step", bounds=NOT_NEGATIVE)
def step_dispatch_time(expert_dispatch_time: float, stage_tokens: float, dispatch_token_time: float) -> float:
    """Return latencies + N times one token's. Checked for N of 1 to 512 in one node."""
    return expert_dispatch_time + stage_tokens * dispatch_token_time


@quantity(
    unit="1", long_name="distinct experts of a group that a decode step touches", bounds=NOT_NEGATIVE, source=HEAPS
)
def touched_experts(rank_experts: float, miss_rate: float, stage_tokens: float, routing_exponent: float) -> float:
    """Return (E/ep) (1 - (1 - k/E)^(N^g)). Checked for N of 1 to 512."""
    return experts_touched(rank_experts, miss_rate, stage_tokens, routing_exponent)


@quantity(unit="s", long_name="routed experts of a decode step", bounds=NOT_NEGATIVE, better="lower")
def time_experts(
    touched_experts: float,
    stage_tokens: float,
    experts_per_token: float,
    expert_parallel: float,
    expert_read_time: float,
    expert_row_time: float,
    expert_tile: float,
    step_dispatch_time: float,
) -> float:
    """Return max(X read, (M + min(M, X tile)) row) + dispatch, M = N k/ep. Checked for N of 1 to 512."""
    rows = stage_tokens * experts_per_token / expert_parallel
    return expert_time(touched_experts, rows, expert_read_time, expert_row_time, expert_tile) + step_dispatch_time
