"""Decode: each step reads the weights and the cache of every running request once, and is bound by the memory."""

from math import nan

from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity

REFERENCE = "mlsysim 0.1.1, ContinuousBatchingModel"


@quantity(unit="s", long_name="time to read the weights", bounds=POSITIVE, source=REFERENCE)
def weight_read_time(weight_bytes: float, hbm_bandwidth: float) -> float:
    """Return weights over bandwidth: the step of an empty batch."""
    return weight_bytes / hbm_bandwidth


@quantity(unit="s", long_name="time to read the KV cache of one request", bounds=NOT_NEGATIVE, source=REFERENCE)
def kv_read_time(kv_bytes_per_request: float, hbm_bandwidth: float) -> float:
    """Return the cache of one request over bandwidth: what each request adds to the step."""
    return kv_bytes_per_request / hbm_bandwidth


@quantity(unit="s", long_name="compute time of a decode step", bounds=NOT_NEGATIVE)
def decode_compute_time(
    active_parameters: float, max_active_requests: float, peak_flops: float, efficiency: float
) -> float:
    """Return 2 P n over the reached FLOP/s: two FLOPs per parameter and token; the reference's step leaves it out."""
    return 2 * active_parameters * max_active_requests / (peak_flops * efficiency)


@quantity(unit="s", long_name="inter-token latency", bounds=POSITIVE, source=REFERENCE, better="lower")
def itl(weight_read_time: float, kv_read_time: float, max_active_requests: float) -> float:
    """Return the time to read the weights and every running request's cache once; NaN where nothing fits."""
    return weight_read_time + max_active_requests * kv_read_time if max_active_requests > 0 else nan
