"""What the catalogue says of labels: from names of models, accelerators, engines, ... to inputs of the graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import xarray as xr

from servegrid.catalog import (
    Architecture,
    Catalog,
    Device,
    Kind,
    Precision,
    Scheduler,
    Scheme,
    Source,
    Trace,
    shape_code,
)
from servegrid.equations.engine import ENGINE
from servegrid.quantity import USER
from servegrid.solvers import SIMULATION, Solver

# The axes whose labels are entries of the catalogue, and the kind of entry.
LABELS: Mapping[str, Kind] = {
    "model": "model",
    "hardware": "accelerator",
    "precision": "precision",
    "engine": "engine",
    "kv_precision": "precision",
    "trace": "trace",
    "scheduler": "scheduler",
    "lengths": "length",
}
ALWAYS = ("model", "hardware", "precision")  # labels whatever the solver; the others are where it asks for their facts
PEAK_FLOPS = "peak_flops"
REQUEST = "request"  # the dimension of a series, which is no axis: procedures take it as a whole


@dataclass(frozen=True)
class Fact:
    """An input that labels give: how to read it from their entries, and the field of the first that holds it."""

    labels: tuple[str, ...]
    field: str
    read: Callable[..., float]


@dataclass(frozen=True)
class Series:
    """An input of many numbers that a label gives."""

    labels: tuple[str, ...]
    field: str
    read: Callable[..., np.ndarray]


def _model(field: str, read: Callable[[Architecture], float]) -> Fact:
    path = f"architecture.{field}" if field else "architecture"
    return Fact(("model",), path, lambda entry: read(entry.architecture))


def _count(field: str) -> Fact:
    """A fact that the architecture has under a name of its own."""
    return _model(field, lambda shape: getattr(shape, field))


def _hardware(field: str, read: Callable[[Device], float]) -> Fact:
    return Fact(("hardware",), field, read)


def _precision(field: str, read: Callable[[Scheme], float]) -> Fact:
    return Fact(("precision",), field, read)


def _part(part: str, read: Callable[[Precision], float]) -> Fact:
    return Fact(("precision",), f"parts.{part}", lambda scheme: read(getattr(scheme, part)))


def _computed(part: str, field: str) -> Fact:
    """How a device computes with a part's format: a field of `precision.Rate`."""

    def read(device: Device, scheme: Scheme) -> float:
        return getattr(getattr(scheme, part).rate(device.accelerator), field)  # type: ignore[no-any-return]  # a number

    return Fact(("hardware", "precision"), PEAK_FLOPS, read)


def _head_dim(shape: Architecture) -> float:
    """The width of a head; with latent attention the mean of a key's and a value's, which prefill works through."""
    return shape.head_dim or (shape.qk_nope_head_dim + shape.rope_head_dim + shape.v_head_dim) / 2


def _or_nan(value: float | None) -> float:
    return nan if value is None else value


_LAYERS: Mapping[str, Fact] = {
    "full_layers": _model("layers", lambda shape: shape.full_attention_layers),
    "windowed_layers": _count("windowed_layers"),
    "linear_layers": _count("linear_layers"),
    "index_layers": _count("index_layers"),
    "dense_layers": _model("layers", lambda shape: shape.dense_ffn_layers),
    "expert_layers": _count("expert_layers"),
}
_ATTENTION: Mapping[str, Fact] = {
    # A latent vector is one head that all queries share.
    "kv_cache_heads": _model("kv_heads", lambda shape: 1 if shape.kv_latent_rank else shape.kv_heads),
    # Values cached per token, layer and such head.
    "kv_head_values": _model("head_dim", lambda shape: shape.kv_latent_dim or 2 * shape.head_dim),
    # Multiply-adds per query head and pair of tokens, a key's and a value's width: in prefill; and in decode, where
    # latent attention is computed in the latent space.
    "prefill_head_dims": _model("head_dim", lambda shape: 2 * _head_dim(shape)),
    "decode_head_dims": _model(
        "head_dim", lambda shape: shape.kv_latent_dim + shape.kv_latent_rank or 2 * shape.head_dim
    ),
    "latent": _model("kv_latent_rank", lambda shape: shape.kv_latent_rank > 0),
    "window": _count("sliding_window"),
    "index_top_k": _count("index_top_k"),
    "index_heads": _count("index_heads"),
    "index_head_dim": _count("index_head_dim"),
    "qk_norm": _count("qk_norm"),
    # Values that one sequence keeps in one linear layer.
    "state_values": _model("linear_layers", lambda shape: shape.linear_state_size),
    "conv_state_values": _model("linear_layers", lambda shape: shape.linear_conv_state_size),
}
_PARAMETERS: Mapping[str, Fact] = {  # of one layer where the part is in layers
    "attention_parameters": _model("", lambda shape: shape.attention_parameters),
    "linear_parameters": _model("", lambda shape: shape.linear_parameters),
    "indexer_parameters": _model("", lambda shape: shape.indexer_parameters if shape.index_layers else 0),
    "ffn_parameters": _model("", lambda shape: shape.ffn_parameters),
    "shared_parameters": _model("", lambda shape: shape.shared_expert_parameters),
    "expert_parameters": _model("", lambda shape: shape.expert_parameters),  # one expert
    "router_parameters": _model("", lambda shape: shape.router_parameters),
    "embedding_parameters": _model("vocab_size", lambda shape: shape.embedding_parameters),
    # Read at every step, even where it is the embedding's.
    "head_parameters": _model("vocab_size", lambda shape: shape.vocab_size * shape.hidden_size),
    "tied": _model("tied_embeddings", lambda shape: shape.tied_embeddings),
    "gated_ffn": _count("gated_ffn"),
    # A dense model is one expert that every token uses: no case of its own in the equations.
    "experts": _model("experts", lambda shape: max(shape.experts, 1)),
    "experts_per_token": _model("experts_per_token", lambda shape: max(shape.experts_per_token, 1)),
    "shared": _model("shared_experts", lambda shape: shape.shared_experts > 0),
    # A bias on the router's scores that keeps experts evenly used; where FFNs have biases too it is a plain one.
    "balanced_router": _model("router_bias", lambda shape: shape.router_bias and not shape.ffn_bias),
}
_FORMATS: Mapping[str, Fact] = {
    "attention_bytes": _part("attention", lambda form: form.held_bytes),
    "ffn_bytes": _part("ffn", lambda form: form.held_bytes),
    "expert_bytes": _part("experts", lambda form: form.held_bytes),
    "head_bytes": _part("head", lambda form: form.held_bytes),
    "kv_bytes": _part("kv_cache", lambda form: form.held_bytes),
    "attention_quantised": _part("attention", lambda form: form.quantised),
    "ffn_quantised": _part("ffn", lambda form: form.quantised),
    "expert_quantised": _part("experts", lambda form: form.quantised),
    "attention_flops": _computed("attention", "flops"),
    "ffn_flops": _computed("ffn", "flops"),
    "expert_flops": _computed("experts", "flops"),
    "head_flops": _computed("head", "flops"),
    "attention_compute_bits": _computed("attention", "bits"),
    "ffn_compute_bits": _computed("ffn", "bits"),
    "expert_compute_bits": _computed("experts", "bits"),
    "expert_weight_only": _computed("experts", "weight_only"),
}


def _constant(name: str) -> Fact:
    return Fact(("engine",), f"constants.{name}", lambda constants: constants[name].value)


def _trace(field: str, read: Callable[[Trace], float]) -> Fact:
    return Fact(("trace",), field, read)


def _scheduler(field: str, read: Callable[[Scheduler], float]) -> Fact:
    return Fact(("scheduler",), field, read)


def _times(trace: Trace) -> np.ndarray:
    """The arrivals, one for each row: NaN where they are not known."""
    rows = trace.requests_in_order
    return rows.times if len(rows.times) else np.full(len(rows.inputs), nan)


def _longest_input(trace: Trace) -> float:
    """The longest prompt, as it is written, or of the rows; the mean where none varies."""
    return trace.longest_input or float(trace.requests_in_order.inputs.max(initial=trace.input_len))


FACTS: Mapping[str, Fact] = {
    "parameters": _model("", lambda shape: shape.parameters),
    "active_parameters": _model("", lambda shape: shape.active_parameters),
    "layers": _count("layers"),
    "attention_layers": _model("layers", lambda shape: shape.attention_layers),
    "hidden_size": _count("hidden_size"),
    "heads": _count("heads"),
    "kv_heads": _count("kv_heads"),
    "head_dim": _model("head_dim", _head_dim),
    "kv_latent_dim": _model("kv_latent_rank", lambda shape: shape.kv_latent_dim),
    "hbm_capacity": _hardware("memory_capacity", lambda device: device.accelerator.memory_capacity),
    "hbm_bandwidth": _hardware("memory_bandwidth", lambda device: device.accelerator.memory_bandwidth),
    "price_per_hour": _hardware("price_per_hour", lambda device: _or_nan(device.accelerator.price_per_hour)),
    "power": _hardware("power", lambda device: _or_nan(device.accelerator.power)),
    "bytes_per_element": _precision("bytes_per_element", lambda scheme: scheme.precision.number_bytes),
    PEAK_FLOPS: Fact(
        ("hardware", "precision"),
        PEAK_FLOPS,
        lambda device, scheme: scheme.precision.peak_flops(device.accelerator),
    ),
    # Scores of attention are computed in 16 bits, those of an indexer in 8 where the device can.
    "bf16_flops": _hardware(PEAK_FLOPS, lambda device: device.accelerator.base_peak_flops),
    "fp8_flops": _hardware(
        PEAK_FLOPS, lambda device: device.accelerator.peak_flops.get("fp8", device.accelerator.base_peak_flops)
    ),
    "link_bandwidth": _hardware("link_bandwidth", lambda device: device.accelerator.link_bandwidth),
    "link_gpus": _hardware("link_gpus", lambda device: device.link_gpus),
    "network_bandwidth": _hardware("network_bandwidth", lambda device: device.network_bandwidth),
    **_LAYERS,
    **_ATTENTION,
    **_PARAMETERS,
    **_FORMATS,
    **{name: _constant(name) for name in ENGINE},
    "input_len": _trace("input_len", lambda trace: trace.input_len),
    "output_len": _trace("output_len", lambda trace: trace.output_len),
    "output_cv": _trace("output_cv", lambda trace: trace.output_cv),
    "longest_output": _trace("longest_output", lambda trace: trace.longest_output),
    "input_cv": _trace("input_cv", lambda trace: trace.input_cv),
    "longest_input": _trace("longest_input", _longest_input),
    "requests": _trace("requests", lambda trace: trace.requests or SIMULATION.defaults["requests"]),
    "length_shape": _trace("lengths", lambda trace: shape_code(trace.shape)),
    "iteration_level": _scheduler("iteration_level", lambda scheduler: scheduler.iteration_level),
    "reservation": _scheduler("reservation", lambda scheduler: scheduler.reservation_code),
    "mixed_passes": _scheduler("mixed_passes", lambda scheduler: scheduler.mixed_passes),
    "chunked_prompts": _scheduler("chunked_prompts", lambda scheduler: scheduler.chunked_prompts),
    "swapping": _scheduler("preemption", lambda scheduler: scheduler.preemption == "swap"),
    "watermark": _scheduler("watermark", lambda scheduler: scheduler.watermark),
}
# Facts that are a number for each request.
SERIES: Mapping[str, Series] = {
    "trace_times": Series(("trace",), "rows", _times),
    "trace_inputs": Series(("trace",), "rows", lambda trace: trace.requests_in_order.inputs),
    "trace_outputs": Series(("trace",), "rows", lambda trace: trace.requests_in_order.outputs),
}
# Facts that another label gives in place of the usual one, where it is there.
INSTEAD: Mapping[str, Fact] = {
    "kv_bytes": Fact(("kv_precision",), "bytes_per_element", lambda scheme: scheme.precision.held_bytes),
    "length_shape": Fact(("lengths",), "shape", lambda entry: shape_code(entry.shape)),
}
# What an entry may lack; whatever needs it is NaN there.
OPTIONAL = frozenset({"price_per_hour", "power", "link_gpus", "network_bandwidth"})


def givers(name: str) -> tuple[str, ...]:
    """The labels that together give an input; none where the catalogue says nothing of it."""
    known = FACTS.get(name) or SERIES.get(name)
    return known.labels if known else ()


def labels_of(solver: Solver) -> dict[str, Kind]:
    """The labels that mean something to a solver; numbers of the user's own that go with it do not count."""
    own = {name for name, quantity in solver.inputs.items() if quantity.source == USER}
    names = solver.names - own
    asked = {
        label for facts in (FACTS, SERIES, INSTEAD) for name in facts if name in names for label in facts[name].labels
    }
    return {label: kind for label, kind in LABELS.items() if label in ALWAYS or label in asked}


def of_entries(catalog: Catalog, labels: Mapping[str, str], names: Collection[str]) -> dict[str, float]:
    """The facts among `names` that these labels (label -> name of the entry) give."""
    entries = {label: _entry(catalog, label, name) for label, name in labels.items()}
    facts = {name: _fact(name, labels) for name in FACTS if name in names}
    return {
        name: float(fact.read(*(entries[label] for label in fact.labels)))
        for name, fact in facts.items()
        if all(label in labels for label in fact.labels)
    }


def along(catalog: Catalog, labels: Mapping[str, xr.DataArray], names: Collection[str]) -> dict[str, xr.DataArray]:
    """The facts among `names` of labels (label -> array of names), each along the axes of its labels.

    A series has one more dimension, the last, along which shorter ones end with NaN.
    """
    entries = {}  # of each label: every entry once, and the places of the entries along the label's axes
    for label, array in labels.items():
        unique, position = np.unique(array.values, return_inverse=True)
        places = array.copy(data=position.reshape(array.shape))
        entries[label] = [_entry(catalog, label, str(name)) for name in unique], places
    facts = {name: _fact(name, labels) for name in FACTS if name in names}
    found = {
        name: _look_up(fact.read, *(entries[label] for label in fact.labels))
        for name, fact in facts.items()
        if all(label in labels for label in fact.labels)
    }
    series = {
        name: _look_up_series(series.read, *entries[series.labels[0]])
        for name, series in SERIES.items()
        if name in names and series.labels[0] in labels
    }
    return found | series


def sources(catalog: Catalog, name: str, labels: Mapping[str, xr.DataArray]) -> dict[str, Source]:
    """Where the catalogue has a fact from, for each name of the first label that gives it."""
    fact = SERIES[name] if name in SERIES else _fact(name, labels)
    label = fact.labels[0]
    entries = dict.fromkeys(str(entry) for entry in labels[label].values.flat)
    found = {entry: catalog.source(LABELS[label], entry, fact.field) for entry in entries}
    return {entry: source for entry, source in found.items() if source is not None}


def _fact(name: str, labels: Collection[str]) -> Fact:
    instead = INSTEAD.get(name)
    return instead if instead and all(label in labels for label in instead.labels) else FACTS[name]


def _entry(catalog: Catalog, label: str, name: str) -> Any:
    find: Mapping[Kind, Callable[[str], Any]] = {
        "model": catalog.model,
        "accelerator": catalog.device,
        "precision": catalog.scheme,
        "engine": catalog.constants,
        "trace": catalog.trace,
        "scheduler": catalog.scheduler,
        "length": catalog.length,
    }
    return find[LABELS[label]](name)


def _look_up_series(read: Callable[..., np.ndarray], entries: list[Any], places: xr.DataArray) -> xr.DataArray:
    """The series of every entry, along the axes of the label and one of its own."""
    rows = [read(entry) for entry in entries]
    values = np.full((len(rows), max(len(row) for row in rows)), nan)
    for index, row in enumerate(rows):
        values[index, : len(row)] = row
    return xr.DataArray(values[places.values], dims=(*places.dims, REQUEST))


def _look_up(read: Callable[..., float], *labels: tuple[list[Any], xr.DataArray]) -> xr.DataArray:
    """The fact of every combination of entries, along the axes of all their labels; each is read once."""
    places = xr.broadcast(*(places for _, places in labels))
    sizes = tuple(len(entries) for entries, _ in labels)
    at = np.ravel_multi_index([place.values for place in places], sizes)
    wanted, position = np.unique(at, return_inverse=True)
    picked = zip(*np.unravel_index(wanted, sizes), strict=True)
    chosen = [[entries[index] for (entries, _), index in zip(labels, pick, strict=True)] for pick in picked]
    values = np.array([read(*entries) for entries in chosen], dtype=float)
    return places[0].copy(data=values[position].reshape(at.shape))
