"""Collectives: two all-reduces per layer of a pass, each by the faster of two ways; alpha-beta model.

Thakur et al. 2005, doi:10.1177/1094342005051521, for the bandwidth-optimal one; one-shot: a kernel reads all peers.
"""

from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity

THAKUR = "Thakur et al. 2005, doi:10.1177/1094342005051521"


def collective_time(
    tokens: float, one_shot_latency: float, one_shot_token_time: float, bulk_pass_latency: float, bulk_token_time: float
) -> float:
    """Return min(one shot, bulk), both as latency + tokens times time of one [s]."""
    return min(one_shot_latency + tokens * one_shot_token_time, bulk_pass_latency + tokens * bulk_token_time)


@quantity(unit="s", long_name="time to send one token's hidden state over the link", bounds=POSITIVE)
def hidden_send_time(hidden_size: float, hidden_bytes: float, link_bandwidth: float, link_share: float) -> float:
    """Return B = h b / (NV share). Checked with NVLink 4 and 5."""
    return hidden_size * hidden_bytes / (link_bandwidth * link_share)


@quantity(unit="s", long_name="latencies of a pass, one-shot collectives", bounds=NOT_NEGATIVE)
def one_shot_latency(
    layers: float, stage_gpus: float, collective_latency: float, collective_latency_per_gpu: float
) -> float:
    """Return 2 L (a0 + a1 T) for T > 1. Checked for 2 to 8."""
    return 2 * layers * (collective_latency + collective_latency_per_gpu * stage_gpus) if stage_gpus > 1 else 0.0


@quantity(unit="s", long_name="one token's one-shot collectives", bounds=NOT_NEGATIVE)
def one_shot_token_time(layers: float, stage_gpus: float, hidden_send_time: float) -> float:
    """Return 2 L (T - 1) B. Checked for 2 to 8."""
    return 2 * layers * (stage_gpus - 1) * hidden_send_time


@quantity(unit="s", long_name="latencies of a pass, bandwidth-optimal collectives", bounds=NOT_NEGATIVE)
def bulk_pass_latency(layers: float, stage_gpus: float, bulk_latency: float) -> float:
    """Return 2 L a_b for T > 1. Checked for 2 to 8."""
    return 2 * layers * bulk_latency if stage_gpus > 1 else 0.0


@quantity(unit="s", long_name="one token's bandwidth-optimal collectives", bounds=NOT_NEGATIVE, source=THAKUR)
def bulk_token_time(layers: float, stage_gpus: float, hidden_send_time: float) -> float:
    """Return 4 L (T - 1)/T B. Checked for 2 to 8."""
    return 4 * layers * (stage_gpus - 1) / stage_gpus * hidden_send_time


@quantity(unit="s", long_name="collectives and stage transfers of a decode step", bounds=NOT_NEGATIVE, better="lower")
def time_collectives(
    decode_tokens: float,
    stage_tokens: float,
    one_shot_latency: float,
    one_shot_token_time: float,
    bulk_pass_latency: float,
    bulk_token_time: float,
    hop_latency: float,
    hop_token_time: float,
) -> float:
    """Return min(one shot, bulk) of all ranks' tokens, and the hops between stages. Checked for 1 to 8 GPUs."""
    reduced = collective_time(stage_tokens, one_shot_latency, one_shot_token_time, bulk_pass_latency, bulk_token_time)
    return reduced + hop_latency + decode_tokens * hop_token_time
