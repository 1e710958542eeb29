"""Named solvers: a set of equations, default values and default outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from servegrid.equations import architecture, batching, binding, cost, decode, kv_cache, memory, prefill
from servegrid.equations.inputs import INPUTS
from servegrid.errors import InputError, shown
from servegrid.quantity import Quantity, quantity_of

Equation = Callable[..., float]


@dataclass(frozen=True)
class Solver:
    """Equations, default values and default outputs under one name."""

    name: str
    title: str
    equations: Mapping[str, Equation]
    outputs: tuple[str, ...]
    defaults: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, Quantity] = field(default_factory=lambda: INPUTS)

    def quantity(self, name: str) -> Quantity:
        """What is declared about a quantity, whether an equation gives it or it is an input."""
        return quantity_of(self.equations[name]) if name in self.equations else self.inputs[name]

    @property
    def names(self) -> frozenset[str]:
        """All quantities of the solver."""
        return frozenset(self.equations) | frozenset(self.inputs)

    def extended(self, *equations: Equation, inputs: tuple[Quantity, ...] = ()) -> Solver:
        """Return this solver with more equations (or other ones, for names that it has) and inputs."""
        return replace(
            self,
            equations={**self.equations, **by_name(*equations)},
            inputs={**self.inputs, **{quantity.name: quantity for quantity in inputs}},
        )


def by_name(*equations: Equation) -> dict[str, Equation]:
    """Equations under the names of the quantities that they give."""
    return {quantity_of(equation).name: equation for equation in equations}


CONTINUOUS_BATCHING = Solver(
    name="continuous_batching",
    title="Continuous batching with a paged KV cache on one accelerator (reference: mlsysim 0.1.1)",
    equations=by_name(
        architecture.head_dim,
        architecture.attention_layers,
        architecture.active_parameters,
        memory.weight_bytes,
        memory.kv_budget,
        kv_cache.pages_per_request,
        kv_cache.kv_fragmentation,
        kv_cache.kv_values_per_token,
        kv_cache.kv_bytes_per_request,
        kv_cache.kv_capacity_requests,
        kv_cache.kv_cache_bytes,
        decode.weight_read_time,
        decode.kv_read_time,
        decode.decode_compute_time,
        decode.itl,
        prefill.prefill_flops,
        prefill.ttft,
        batching.max_active_requests,
        batching.feasible,
        batching.throughput,
        batching.static_requests,
        batching.static_itl,
        batching.speedup_vs_static,
        binding.bottleneck,
        cost.cost_per_million_tokens,
    ),
    outputs=(
        "throughput",
        "ttft",
        "itl",
        "max_active_requests",
        "kv_fragmentation",
        "speedup_vs_static",
        "feasible",
    ),
    # The reference's own defaults; 10 us is its dispatch tax.
    defaults={
        "max_batch_size": 1,
        "page_size": 16,
        "efficiency": 0.5,
        "dispatch_time": 1e-5,
        "kv_latent_dim": 0,
    },
)

SOLVERS = {solver.name: solver for solver in (CONTINUOUS_BATCHING,)}


def find_solver(solver: object) -> Solver:
    """The solver of that name; a Solver object is returned as it is."""
    if isinstance(solver, Solver):
        return solver
    if not isinstance(solver, str) or solver not in SOLVERS:
        raise InputError(f"solver: got {shown(solver)}, expected one of {', '.join(SOLVERS)}")
    return SOLVERS[solver]
