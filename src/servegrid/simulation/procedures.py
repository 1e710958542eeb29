"""What a simulation gives: its results as quantities."""

from __future__ import annotations

from servegrid.procedure import Procedure
from servegrid.quantity import NOT_NEGATIVE, Bounds, Quantity
from servegrid.simulation.capacity import search_capacity
from servegrid.simulation.simulate import PERCENTILES, Measures, Totals, simulate

ORCA = "Yu et al. 2022, ORCA, OSDI, section 3"
PAGED_ATTENTION = "Kwon et al. 2023, doi:10.1145/3600006.3613165"
DISTSERVE = "Zhong et al. 2024, DistServe, arXiv:2401.09670"
SECTIONING = "Nakayama 2014, doi:10.1145/2558328"
_SHARE = Bounds(at_least=0, at_most=1)

_MEASURES = {
    "ttft": ("time to first token", "s"),
    "tpot": ("time per output token", "s"),
    "request_latency": ("time of a whole request", "s"),
    "normalized_latency": ("time of a whole request per output token", "s"),
}
_SPREAD = {
    "": "mean",
    **{f"_p{percent:g}": f"{percent:g}th percentile" for percent in PERCENTILES},
    "_percentile": "the percentile that is asked for",
}


def _spread(name: str, words: str, unit: str) -> tuple[Quantity, ...]:
    """A measure's statistics, each followed by half the width of its 95 % confidence interval."""
    found = []
    for suffix, statistic in _SPREAD.items():
        long_name = f"{words}, {statistic}"
        found.append(Quantity(f"{name}{suffix}", unit, long_name, bounds=NOT_NEGATIVE, source=ORCA, better="lower"))
        half = f"{long_name}: half of the 95 % confidence interval"
        found.append(Quantity(f"{name}{suffix}_ci", unit, half, bounds=NOT_NEGATIVE, source=SECTIONING))
    return tuple(found)


def _rate(name: str, unit: str, long_name: str, source: str = ORCA) -> Quantity:
    return Quantity(name, unit, long_name, bounds=NOT_NEGATIVE, source=source, better="higher")


def _mean(name: str, unit: str, long_name: str, bounds: Bounds = NOT_NEGATIVE) -> Quantity:
    return Quantity(name, unit, long_name, bounds=bounds, source=f"{ORCA}; {PAGED_ATTENTION}")


_TOTALS = (
    _rate("requests_per_second", "request/s", "requests that the server ends"),
    _rate("throughput", "token/s", "output tokens per second"),
    _rate("goodput", "request/s", "requests that end within both limits", DISTSERVE),
    Quantity("good_share", "1", "share of the requests that end within both limits", bounds=_SHARE, better="higher"),
    _mean("rank_requests", "request", "requests that one rank runs, mean over time"),
    _mean("rank_waiting", "request", "requests that wait at one rank, mean over time"),
    _mean("longest_queue", "request", "most requests that waited at one rank"),
    _mean("busy_share", "1", "share of the time with a pass under way", _SHARE),
    _mean("kv_states_share", "1", "share of the pages' memory that holds token states", _SHARE),
    _mean("kv_reserved_share", "1", "share of it that is reserved for tokens to come", Bounds()),
    _mean("kv_internal_share", "1", "share of it that is handed out and will never be used", Bounds()),
    _mean("kv_free_share", "1", "share of it that is not asked for: free, or lost between blocks", Bounds()),
    _mean("used_pages", "1", "pages of one rank that are handed out, mean over time"),
    _mean("most_used_share", "1", "largest share of the pages that was handed out", _SHARE),
    _mean("kv_fragmentation", "1", "share of the pages that are handed out that holds no token", Bounds(at_most=1)),
    _mean("preemptions", "1", "preemptions per request"),
    _mean("refused_share", "1", "share of the requests that the memory can never hold", _SHARE),
    _mean("passes", "1", "passes of the whole simulation"),
    _mean("simulated_time", "s", "time that was simulated"),
)
_BY_NAME = {quantity.name: quantity for quantity in _TOTALS}

SIMULATE = Procedure(
    simulate,
    results=(
        *(quantity for name in Measures._fields for quantity in _spread(name, *_MEASURES[name])),
        *(_BY_NAME[name] for name in Totals._fields),
    ),
)

SEARCH_CAPACITY = Procedure(
    search_capacity,
    results=(_rate("max_request_rate", "request/s", "highest rate of requests that meets the limits", DISTSERVE),),
)

PROCEDURES = {result.name: procedure for procedure in (SIMULATE, SEARCH_CAPACITY) for result in procedure.results}
