"""Collectives: two all-reduces per layer of a pass, each by the faster of two ways; alpha-beta model.

Thakur et al. 2005, doi:10.1177/1094342005051521, for the bandwidth-optimal one; one-shot: a kernel reads all peers.

A stage of more devices than the scale-up link connects is several nodes, and each way has a second part: every device
and its peers of the same place in the other nodes reduce over the network what the node has reduced. After half of a
bandwidth-optimal all-reduce (its reduce-scatter) this is a share of the message, after a one-shot the whole of it.
Thakur et al. for this part too. No run on more than one node was compared with any of it.
"""

from math import ceil

from servegrid.quantity import COUNT, NOT_NEGATIVE, POSITIVE, quantity

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


@quantity(unit="1", long_name="nodes of a stage", bounds=COUNT)
def nodes(stage_gpus: float, link_gpus: float) -> float:
    """Return v = ceil(T / T_link); 1 where nothing says how many devices the link connects. Not checked for v > 1."""
    return ceil(stage_gpus / link_gpus) if stage_gpus > link_gpus else 1.0


@quantity(unit="1", long_name="devices of a stage in one node", bounds=COUNT)
def node_gpus(stage_gpus: float, link_gpus: float) -> float:
    """Return t = min(T, T_link), of the fullest node. Checked where it is T."""
    return link_gpus if stage_gpus > link_gpus else stage_gpus


@quantity(unit="s", long_name="latencies of a pass, collectives between nodes", bounds=NOT_NEGATIVE)
def network_latency(layers: float, nodes: float, bulk_latency: float) -> float:
    """Return 2 L a_b for v > 1: as inside a node. Not checked."""
    return 2 * layers * bulk_latency if nodes > 1 else 0.0


@quantity(unit="s", long_name="one token's collectives between nodes", bounds=NOT_NEGATIVE, source=THAKUR)
def network_token_time(
    layers: float, nodes: float, hidden_size: float, hidden_bytes: float, network_bandwidth: float, link_share: float
) -> float:
    """Return 4 L (v - 1)/v h b / (NET share) for v > 1: all of a message, by each device. Not checked."""
    sent = 4 * layers * (nodes - 1) / nodes * hidden_size * hidden_bytes
    return sent / (network_bandwidth * link_share) if nodes > 1 else 0.0


@quantity(unit="s", long_name="latencies of a pass, one-shot collectives", bounds=NOT_NEGATIVE)
def one_shot_latency(
    layers: float,
    node_gpus: float,
    collective_latency: float,
    collective_latency_per_gpu: float,
    network_latency: float,
) -> float:
    """Return 2 L (a0 + a1 t) for t > 1, and latencies between nodes. Checked for 2 to 8 devices of one node."""
    inside = 2 * layers * (collective_latency + collective_latency_per_gpu * node_gpus) if node_gpus > 1 else 0.0
    return inside + network_latency


@quantity(unit="s", long_name="one token's one-shot collectives", bounds=NOT_NEGATIVE)
def one_shot_token_time(layers: float, node_gpus: float, hidden_send_time: float, network_token_time: float) -> float:
    """Return 2 L (t - 1) B, and the whole message between nodes. Checked for 2 to 8 devices of one node."""
    return 2 * layers * (node_gpus - 1) * hidden_send_time + network_token_time


@quantity(unit="s", long_name="latencies of a pass, bandwidth-optimal collectives", bounds=NOT_NEGATIVE)
def bulk_pass_latency(layers: float, node_gpus: float, bulk_latency: float, network_latency: float) -> float:
    """Return 2 L a_b for t > 1, and latencies between nodes. Checked for 2 to 8 devices of one node."""
    return (2 * layers * bulk_latency if node_gpus > 1 else 0.0) + network_latency


@quantity(unit="s", long_name="one token's bandwidth-optimal collectives", bounds=NOT_NEGATIVE, source=THAKUR)
def bulk_token_time(layers: float, node_gpus: float, hidden_send_time: float, network_token_time: float) -> float:
    """Return 4 L (t - 1)/t B, and 1/t of a message between nodes. Checked for 2 to 8 devices of one node."""
    return 4 * layers * (node_gpus - 1) / node_gpus * hidden_send_time + network_token_time / node_gpus


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
