"""One point of the reference solver as a class, with the names and the signature of mlsysim 0.1.1.

Numbers are plain floats in SI: s, byte, token/s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from html import escape
from math import isnan, nan

from servegrid import show
from servegrid.catalog import Catalog
from servegrid.errors import InputError, shown
from servegrid.facts import of_entries
from servegrid.graph import Graph, build
from servegrid.point import solve_point
from servegrid.solvers import CONTINUOUS_BATCHING
from servegrid.written import read_number

# What the classes call an input of the solver, where they have a name of their own for it.
_WORDS = {
    "hidden_size": "hidden_dim",
    "hbm_capacity": "memory_capacity",
    "hbm_bandwidth": "memory_bandwidth",
    "dispatch_time": "dispatch_tax",
}
_OUTPUTS = (*CONTINUOUS_BATCHING.outputs, "kv_cache_bytes", "kv_budget")


@dataclass(frozen=True)
class TransformerWorkload:
    """A model by its shape.

    Parameters
    ----------
    name
        For messages.
    parameters
        All parameters [1].
    layers, hidden_dim, heads, kv_heads
        Transformer layers, width of the residual stream, attention and key-value heads [1]. A head is
        hidden_dim // heads wide.
    """

    name: str
    parameters: float
    layers: int
    hidden_dim: int
    heads: int
    kv_heads: int

    def values(self) -> dict[str, float]:
        """The inputs of the solver that it gives; InputError where one is out of bounds."""
        where = f"TransformerWorkload {self.name}"
        values = _checked(
            where,
            parameters=self.parameters,
            layers=self.layers,
            hidden_size=self.hidden_dim,
            heads=self.heads,
            kv_heads=self.kv_heads,
        )
        if self.heads > self.hidden_dim:
            raise InputError(f"{where}: heads: got {self.heads}, expected hidden_dim ({self.hidden_dim}) at most")
        return values


@dataclass(frozen=True)
class HardwareNode:
    """An accelerator by its datasheet.

    Parameters
    ----------
    name
        For messages.
    peak_flops
        Dense peak [FLOP/s] for precisions that `precision_flops` does not list.
    precision_flops
        Dense peak [FLOP/s] by precision.
    memory_capacity, memory_bandwidth
        [byte], [byte/s].
    dispatch_tax
        Fixed time to launch a step [s].
    """

    name: str
    peak_flops: float
    precision_flops: Mapping[str, float] = field(default_factory=dict)
    memory_capacity: float = nan  # must be given; it stands behind something that need not
    memory_bandwidth: float = nan
    dispatch_tax: float = CONTINUOUS_BATCHING.defaults["dispatch_time"]

    def values(self, precision: str) -> dict[str, float]:
        """The inputs of the solver that it gives; InputError where one is out of bounds."""
        return _checked(
            f"HardwareNode {self.name}",
            peak_flops=self.precision_flops.get(precision, self.peak_flops),
            hbm_capacity=self.memory_capacity,
            hbm_bandwidth=self.memory_bandwidth,
            dispatch_time=self.dispatch_tax,
        )


@dataclass(frozen=True, repr=False)
class ContinuousBatchingResult:
    """What one configuration does; where it is not feasible, what does not exist is NaN.

    `ttft`, `itl` [s]; `throughput_tokens_per_sec` [token/s]; `paged_kv_cache_size` [byte];
    `memory_fragmentation_pct` is a share between 0 and 1, as the reference has it.
    """

    feasible: bool
    constraint_trace: tuple[str, ...]
    throughput_tokens_per_sec: float
    max_active_requests: int
    memory_fragmentation_pct: float
    paged_kv_cache_size: float
    ttft: float
    itl: float
    speedup_vs_static: float

    def rows(self) -> dict[str, str]:
        """Each figure as people read it."""
        units = {
            "throughput_tokens_per_sec": "token/s",
            "max_active_requests": "request",
            "paged_kv_cache_size": "byte",
            "ttft": "s",
            "itl": "s",
        }
        figures = {name: value for name, value in asdict(self).items() if name != "constraint_trace"}
        rows = {name: show.number(value, units.get(name, "1")) for name, value in figures.items()}
        rows["memory_fragmentation_pct"] = f"{self.memory_fragmentation_pct:.2%}"
        rows["speedup_vs_static"] = "-" if isnan(self.speedup_vs_static) else f"{self.speedup_vs_static:.3g} x"
        return rows

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(map(len, rows))
        lines = [f"  {name:<{width}}  {value}" for name, value in rows.items()]
        return "\n".join(["ContinuousBatchingResult", *lines, *(f"  - {reason}" for reason in self.constraint_trace)])

    def _repr_html_(self) -> str:
        cells = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in self.rows().items())
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in self.constraint_trace)
        return f"<table>{cells}</table><ul>{reasons}</ul>"


class ContinuousBatchingModel:
    """Continuous batching with a paged KV cache on one accelerator.

    The equations are those of the solver `continuous_batching`: Kwon et al. 2023, doi:10.1145/3600006.3613165;
    Yu et al. 2022, ORCA (OSDI). The reference is mlsysim 0.1.1.
    """

    def solve(
        self,
        model: TransformerWorkload | str,
        hardware: HardwareNode | str,
        seq_len: int,
        max_batch_size: int = 1,
        page_size: int = 16,
        precision: str = "fp16",
        efficiency: float = 0.5,
    ) -> ContinuousBatchingResult:
        """Solve one point.

        Parameters
        ----------
        model, hardware
            A workload and a node, or names in the catalogue.
        seq_len, page_size
            [token]
        max_batch_size
            [request]
        precision
            A number format of the catalogue, such as fp16, fp8, int4.
        efficiency
            Share of the peak FLOP/s that prefill reaches [1], above 0 and at most 1.

        Raises
        ------
        InputError
            For a name that is not in the catalogue, and for a number out of bounds.
        """
        for given, kind in ((model, TransformerWorkload), (hardware, HardwareNode)):
            if not isinstance(given, str | kind):
                raise InputError(f"solve: got {shown(given)}, expected a {kind.__name__} or a name in the catalogue")
        catalog = Catalog.default()
        form = catalog.precision(precision)
        values = {
            **CONTINUOUS_BATCHING.defaults,
            **(
                of_entries(catalog, {"model": model}, CONTINUOUS_BATCHING.names)
                if isinstance(model, str)
                else model.values()
            ),
            **(
                _hardware_values(catalog, hardware, precision)
                if isinstance(hardware, str)
                else hardware.values(catalog.short_name("precision", precision))
            ),
            "bytes_per_element": form.number_bytes,
            **_checked(
                "solve",
                seq_len=seq_len,
                max_batch_size=max_batch_size,
                page_size=page_size,
                efficiency=efficiency,
            ),
        }
        graph = _graph(frozenset(values))
        return _result(solve_point(CONTINUOUS_BATCHING, graph, values))


def _checked(where: str, **values: float) -> dict[str, float]:
    return {
        name: read_number(value, CONTINUOUS_BATCHING.quantity(name), f"{where}: {_WORDS.get(name, name)}")
        for name, value in values.items()
    }


def _hardware_values(catalog: Catalog, name: str, precision: str) -> dict[str, float]:
    labels = {"hardware": name, "precision": precision}
    return of_entries(catalog, labels, CONTINUOUS_BATCHING.names)


@cache
def _graph(given: frozenset[str]) -> Graph:
    return build(CONTINUOUS_BATCHING, _OUTPUTS, given)


def _result(values: Mapping[str, float]) -> ContinuousBatchingResult:
    fits = values["kv_budget"] > 0
    return ContinuousBatchingResult(
        feasible=bool(values["feasible"]),
        constraint_trace=_trace(values),
        throughput_tokens_per_sec=values["throughput"],
        max_active_requests=int(values["max_active_requests"]),
        # The reference reports none where the weights leave no room for a page.
        memory_fragmentation_pct=values["kv_fragmentation"] if fits else 0.0,
        paged_kv_cache_size=values["kv_cache_bytes"],
        ttft=values["ttft"],
        itl=values["itl"],
        speedup_vs_static=values["speedup_vs_static"],
    )


def _trace(values: Mapping[str, float]) -> tuple[str, ...]:
    """Why this many requests run: the weights, the cache, the batch limit."""
    weights, capacity = (show.number(values[name], "byte") for name in ("weight_bytes", "hbm_capacity"))
    if values["kv_budget"] <= 0:
        return (f"weights: {weights} do not fit the memory of {capacity}",)
    budget, each = (show.number(values[name], "byte") for name in ("kv_budget", "kv_bytes_per_request"))
    room, limit = int(values["kv_capacity_requests"]), int(values["max_batch_size"])
    trace = (f"weights: {weights} of {capacity}, which leaves {budget} for the KV cache",)
    if room == 0:
        return (*trace, f"KV cache: one request needs {each}, more than is left")
    binding = f"the batch limit of {limit:,} binds" if limit <= room else f"fewer than the batch limit of {limit:,}"
    return (*trace, f"KV cache: room for {room:,} requests of {each}; {binding}")
