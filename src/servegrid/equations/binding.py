"""Which term binds: what one would buy more of, as a label that all solvers share."""

from servegrid.quantity import quantity

# Codes of the labels, in the order of BOTTLENECKS. `interconnect` is for solvers with more than one accelerator.
MEMORY_CAPACITY = 0
MEMORY_BANDWIDTH = 1
COMPUTE = 2
INTERCONNECT = 3
BATCH_LIMIT = 4
BOTTLENECKS = ("memory_capacity", "memory_bandwidth", "compute", "interconnect", "batch_limit")


@quantity(unit="1", long_name="which term binds", kind="label", labels=BOTTLENECKS)
def bottleneck(
    max_active_requests: float,
    max_batch_size: float,
    decode_compute_time: float,
    itl: float,
    weight_read_time: float,
    kv_read_time: float,
) -> float:
    """Return the term that holds throughput down at n of at most B requests; each is tried in turn.

    n < B: the memory is full (or nothing fits), so capacity binds. Then 2 P n / (peak efficiency) > ITL: the step
    would be bound by compute, which the reference's step does not count: there, its throughput is too high. Then,
    where reading the weights takes longer than reading all running caches, the step is mostly a fixed cost, which
    more requests share: 1 % more of them give W / (W + n K) % more tokens, more than half a percent, and the batch
    limit binds. Otherwise the bandwidth does. One accelerator has no interconnect.
    """
    of_step = BATCH_LIMIT if weight_read_time > max_active_requests * kv_read_time else MEMORY_BANDWIDTH
    at_limit = COMPUTE if decode_compute_time > itl else of_step
    return MEMORY_CAPACITY if max_active_requests < max_batch_size else at_limit
