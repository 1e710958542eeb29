"""Named solvers: a set of equations, default values and default outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import ModuleType

from servegrid.equations import (
    architecture,
    batching,
    binding,
    cost,
    decode,
    kv_cache,
    memory,
    prefill,
    serving,
    simulated,
)
from servegrid.equations.inputs import INPUTS
from servegrid.equations.serving import open_loop
from servegrid.equations.serving.inputs import SERVING_INPUTS
from servegrid.errors import InputError, shown
from servegrid.procedure import Procedure
from servegrid.quantity import Quantity, quantity_of
from servegrid.simulation.inputs import SIMULATION_INPUTS
from servegrid.simulation.procedures import PROCEDURES
from servegrid.variant import variants

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
    procedures: Mapping[str, Procedure] = field(default_factory=dict)
    """By the quantities that they give, none of which an equation gives."""
    where_given: Mapping[str, Mapping[str, Equation]] = field(default_factory=dict)
    """Equations that take the place of others, or of inputs, where one of `at_most_one_of` is given."""
    at_most_one_of: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    """Inputs of which a sweep must give one, although each has a value without. 0 means none: of those that are
    numbers, no point may have two."""

    def quantity(self, name: str) -> Quantity:
        """What is declared about a quantity, whether an equation or a procedure gives it or it is an input."""
        if name in self.equations:
            return quantity_of(self.equations[name])
        return self.results[name] if name in self.results else self.inputs[name]

    @cached_property
    def results(self) -> dict[str, Quantity]:
        """What procedures give."""
        return {result.name: result for procedure in self.procedures.values() for result in procedure.results}

    @cached_property
    def names(self) -> frozenset[str]:
        """All quantities of the solver."""
        return frozenset({*self.equations, *self.results, *self.inputs})

    def suited(self, given: Collection[str]) -> Solver:
        """Return this solver with the equations for what is given; InputError where one thing is said in two ways."""
        ways = [name for name in self.at_most_one_of if name in given]
        if len(ways) > 1:
            raise InputError(f"got {' and '.join(ways)}, expected one of them")
        instead = {name: equation for way in ways for name, equation in self.where_given.get(way, {}).items()}
        if not instead:
            return self
        inputs = {name: declared for name, declared in self.inputs.items() if name not in instead}
        return replace(self, equations={**self.equations, **instead}, inputs=inputs)

    def extended(self, *equations: Equation, inputs: tuple[Quantity, ...] = ()) -> Solver:
        """Return this solver with more equations (or other ones, for names that it has) and inputs."""
        more = by_name(*equations)
        return replace(
            self,
            equations={**self.equations, **more},
            procedures={name: procedure for name, procedure in self.procedures.items() if name not in more},
            inputs={**self.inputs, **{quantity.name: quantity for quantity in inputs}},
        )


def by_name(*equations: Equation) -> dict[str, Equation]:
    """Equations under the names of the quantities that they give."""
    return {quantity_of(equation).name: equation for equation in equations}


def in_modules(*modules: ModuleType) -> dict[str, Equation]:
    """All equations that these modules define; a helper function that declares no quantity is none."""
    own = (value for module in modules for value in vars(module).values() if hasattr(value, "__quantity__"))
    return by_name(*own)


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

_PHENOMENA = in_modules(*serving.PHENOMENA)
_OPEN_LOOP = in_modules(open_loop)


def _batches(equations: Mapping[str, Equation]) -> dict[str, Equation]:
    """The equations for four more batches, which a rate of requests in place of a number of them needs."""
    return {
        **variants(equations, "rank_requests", "alone", "of a lone request"),
        **variants(equations, "rank_requests", "near", "of a first guess"),
        **variants(equations, "rank_requests", "closer", "of a second guess"),
        **variants(equations, "rank_requests", "full", "of a full batch"),
    }


SERVING = Solver(
    name="serving",
    title="A serving engine on several accelerators, with measured constants",
    equations={**_PHENOMENA, **_batches(_PHENOMENA)},
    where_given={"request_rate": {**_OPEN_LOOP, **_batches({**_PHENOMENA, **_OPEN_LOOP})}},
    at_most_one_of=("request_rate", "concurrency"),
    inputs=SERVING_INPUTS,
    outputs=(
        *("ttft", "tpot", "itl", "request_latency"),
        *("throughput", "throughput_per_gpu", "tokens_per_second_per_user", "requests_per_second"),
        *("max_active_requests", "active_requests", "kv_capacity_tokens", "kv_fragmentation", "speedup_vs_static"),
        *("memory_per_gpu", "weight_memory", "kv_memory", "activation_memory"),
        *("time_weights", "time_kv", "time_experts", "time_collectives", "time_launch", "time_prefill_share"),
        *("bottleneck", "cost_per_million_tokens", "energy_per_token"),
        *("feasible", "infeasible_because", "extrapolated", "validity"),
    ),
    # Each optional feature is off; what an engine does of its own accord are constants of the label `engine`.
    defaults={
        **dict.fromkeys(("tensor_parallel", "pipeline_parallel", "attention_data_parallel", "expert_parallel"), 1),
        "arrival_cv": 1,
        **dict.fromkeys(("output_cv", "prefix_hit_rate", "draft_len", "acceptance", "disaggregated"), 0),
        "page_size": 16,
        "max_batch_size": 1024,
        "chunk_size": 8192,
        "max_batched_tokens": 8192,
        "rounds": 1e6,  # a steady state
        "transfer_bandwidth": 50e9,  # one 400 Gbit/s port per device; only disaggregated prompts use it
        "hidden_bytes": 2,
        "state_value_bytes": 4,
        "index_value_bytes": 132 / 128,  # 8 bits, and a scale of 4 bytes per key of 128 values
        # vLLM measures its peak with 256 rows of logits; the rest lets 17 logged capacities come out.
        "max_sampled_rows": 256,
        "visible_share": 0.99,
        "context_bytes": 0.5e9,
        "graph_bytes": 0,
        "power_share": 0.8,
    },
)

_RESULTS = {result.name: result for procedure in PROCEDURES.values() for result in procedure.results}

SIMULATION = Solver(
    name="simulation",
    title="A scheduler, simulated pass by pass with the step times of `serving`",
    equations={
        **{name: equation for name, equation in _PHENOMENA.items() if name not in (*_RESULTS, *SIMULATION_INPUTS)},
        **in_modules(simulated),
    },
    inputs={**SERVING_INPUTS, **SIMULATION_INPUTS},
    procedures=PROCEDURES,
    one_of=("request_rate", "concurrency", "trace_times"),
    outputs=(
        *("ttft", "ttft_p50", "ttft_p99", "ttft_p99_ci", "tpot", "tpot_p50", "tpot_p99", "tpot_p99_ci"),
        *("request_latency", "request_latency_p99", "request_latency_p99_ci", "normalized_latency"),
        *("requests_per_second", "throughput", "throughput_per_gpu", "goodput", "good_share"),
        *("active_requests", "waiting_requests", "longest_queue", "busy_share"),
        *("kv_states_share", "kv_memory", "kv_fragmentation", "preemptions", "refused_share"),
        *("cost_per_million_tokens", "feasible", "infeasible_because"),
    ),
    defaults={
        **SERVING.defaults,
        **dict.fromkeys(("concurrency", "request_rate", "input_cv", "length_shape"), 0),
        "requests": 2000,
        "seed": 0,
        "warmup": 0.1,
        "percentile": 99,
        # As vLLM does today, where no label `scheduler` says otherwise.
        **dict.fromkeys(("iteration_level", "mixed_passes", "chunked_prompts"), 1),
        **dict.fromkeys(("reservation", "swapping"), 0),
        "watermark": 0.01,
        "swap_bandwidth": 25e9,  # PCIe 4.0 with 16 lanes, 80 % of 31.5 GB/s
        "prefill_servers": 1,
        # MLPerf Inference v4.1, Llama 2 70B, server scenario.
        "ttft_limit": 2,
        "tpot_limit": 0.2,
    },
)

SOLVERS = {solver.name: solver for solver in (CONTINUOUS_BATCHING, SERVING, SIMULATION)}


def find_solver(solver: object) -> Solver:
    """The solver of that name; a Solver object is returned as it is."""
    if isinstance(solver, Solver):
        return solver
    if not isinstance(solver, str) or solver not in SOLVERS:
        raise InputError(f"solver: got {shown(solver)}, expected one of {', '.join(SOLVERS)}")
    return SOLVERS[solver]
