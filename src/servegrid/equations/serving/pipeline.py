"""Pipeline parallel: stages work on as many groups of requests in turn, and hand them on.

Huang et al. 2019, GPipe, arXiv:1811.06965. Checked on offline throughput with up to 8 stages, no run of a server.
"""

from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity


@quantity(unit="request", long_name="requests of one group of a rank", bounds=POSITIVE)
def micro_batch(rank_requests: float, pipeline_parallel: float) -> float:
    """Return n / pp; all requests with one stage."""
    return rank_requests / pipeline_parallel


@quantity(unit="s", long_name="latencies of the transfers between stages", bounds=NOT_NEGATIVE)
def hop_latency(pipeline_parallel: float, bulk_latency: float) -> float:
    """Return (pp - 1) a_b; 0 with one stage."""
    return (pipeline_parallel - 1) * bulk_latency


@quantity(unit="s", long_name="transfers of one token between stages", bounds=NOT_NEGATIVE)
def hop_token_time(
    pipeline_parallel: float,
    hidden_size: float,
    hidden_bytes: float,
    gpus: float,
    link_gpus: float,
    link_bandwidth: float,
    network_bandwidth: float,
    link_share: float,
) -> float:
    """Return (pp - 1) h b / (BW share): over the link, or the network where stages are more than it connects."""
    bandwidth = network_bandwidth if gpus > link_gpus else link_bandwidth
    hops = (pipeline_parallel - 1) * hidden_size * hidden_bytes / (bandwidth * link_share)
    return hops if pipeline_parallel > 1 else 0.0
