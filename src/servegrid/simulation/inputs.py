"""The quantities of the simulation that are no inputs of the equations: requests, scheduler, limits."""

from __future__ import annotations

from servegrid.quantity import COUNT, NOT_NEGATIVE, POSITIVE, SERIES, Bounds, Quantity

_FRACTION = Bounds(at_least=0, at_most=1)
_SEED = Bounds(at_least=0, below=2**32)


def _switch(name: str, long_name: str) -> Quantity:
    return Quantity(name, "1", f"{long_name} (1: yes, 0: no)", "int", _FRACTION)


WORKLOAD = (
    Quantity(
        "concurrency",
        "request",
        "clients, each with one request at a time (0: none)",
        "int",
        NOT_NEGATIVE,
    ),
    Quantity(
        "request_rate",
        "request/s",
        "requests per second (0: as in the trace, or all at once)",
        bounds=NOT_NEGATIVE,
    ),
    Quantity(
        "arrival_cv",
        "1",
        "variation of the gaps between arrivals (1: Poisson, 0: even)",
        bounds=NOT_NEGATIVE,
    ),
    Quantity("requests", "request", "requests that are simulated", "int", COUNT),
    Quantity("seed", "1", "seed of the random numbers", "int", _SEED),
    Quantity("warmup", "1", "share of the first requests that is not counted", bounds=Bounds(at_least=0, below=1)),
    Quantity("length_shape", "1", "shape of the distribution of lengths", "int", Bounds(at_least=0, at_most=3)),
    Quantity("input_cv", "1", "coefficient of variation of the prompts' lengths", bounds=NOT_NEGATIVE),
    Quantity("trace_times", "s", "times of arrival", SERIES, NOT_NEGATIVE),
    Quantity("trace_inputs", "token", "lengths of the prompts", SERIES, NOT_NEGATIVE),
    Quantity("trace_outputs", "token", "lengths of the outputs", SERIES, NOT_NEGATIVE),
)
SCHEDULER = (
    _switch("iteration_level", "the batch is formed anew before each pass"),
    Quantity(
        "reservation",
        "1",
        "memory (0: pages, 1: exact, 2: power of two, 3: longest)",
        "int",
        Bounds(at_least=0, at_most=3),
    ),
    _switch("mixed_passes", "prompts share passes with requests that decode"),
    _switch("chunked_prompts", "prompts are cut to what a pass takes; of a static batch, to the shortest"),
    _switch("swapping", "caches of preempted requests are kept in the host's memory"),
    Quantity("watermark", "1", "share of the pages that admission leaves free", bounds=_FRACTION),
    Quantity("swap_bandwidth", "byte/s", "link to the host's memory, per device, one way", bounds=POSITIVE),
    Quantity("prefill_servers", "1", "servers of the pool that processes prompts", "int", COUNT),
)
LIMITS = (
    Quantity("ttft_limit", "s", "longest time to first token that is good", bounds=POSITIVE),
    Quantity("tpot_limit", "s", "longest time per output token that is good", bounds=POSITIVE),
    Quantity(
        "percentile",
        "1",
        "percentile that is asked for, and of the limit on TTFT",
        bounds=Bounds(at_least=0, at_most=100),
    ),
)

SIMULATION_INPUTS = {quantity.name: quantity for quantity in (*WORKLOAD, *SCHEDULER, *LIMITS)}
