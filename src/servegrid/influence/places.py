"""Which part of a sweep is looked at, and which of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from servegrid.errors import InputError, nearest, shown
from servegrid.facts import labels_of
from servegrid.graph import Graph
from servegrid.parameters import Parameters, gather
from servegrid.quantity import COMPUTED, SERIES
from servegrid.show import number
from servegrid.sweepfile import CASE, Sweep
from servegrid.written import read_number

MOST_SHOWN = 8  # labels in a message


def with_outputs(sweep: Sweep, outputs: Sequence[str] | None, where: str = "outputs") -> Parameters:
    """The sweep's parameters with these outputs, in double precision; without them, its own that are numbers."""
    sweep = replace(sweep, dtype="float64")  # differences of rounded numbers would be noise
    if outputs is None:
        graph = gather(sweep).graph
        outputs = [name for name in sweep.outputs if name in graph.nodes and _is_number(name, graph)]
    if not outputs:
        raise InputError(f"{where}: none is a number that is computed, expected one such as throughput")
    parameters = gather(replace(sweep, outputs=tuple(dict.fromkeys(outputs))))
    for name in outputs:
        if name not in parameters.graph.nodes:
            raise InputError(f"{where}: {name} is an input of this sweep, expected a quantity that is computed")
        if not _is_number(name, parameters.graph):
            raise InputError(f"{where}: {name} is {parameters.graph.quantity(name).expected}, expected a number")
    return parameters


def _is_number(name: str, graph: Graph) -> bool:
    return graph.quantity(name).kind not in COMPUTED


def narrowed(parameters: Parameters, at: Mapping[str, Any] | None) -> Parameters:
    """The parameters at one label of each of these axes (axis -> label), which keep the length 1."""
    sweep = parameters.sweep
    places = {axis: [_position(sweep, axis, label)] for axis, label in (at or {}).items()}
    axes = {axis: labels[places[axis]] if axis in places else labels for axis, labels in sweep.axes.items()}
    return replace(parameters, sweep=replace(sweep, axes=axes), dataset=parameters.dataset.isel(places))


def place_of(parameters: Parameters, axes: Iterable[str]) -> dict[str, str]:
    """The attribute that says at which label of these axes the parameters are."""
    labels = [f"{axis}={_written(parameters.sweep, axis)}" for axis in axes]
    return {"at": ", ".join(labels)} if labels else {}


def _written(sweep: Sweep, axis: str) -> str:
    """The one label of an axis as people write it: 80 GiB, 8192, h100-sxm."""
    label = sweep.axes[axis][0].item()
    if not isinstance(label, float):
        return f"{label}"
    return number(label, sweep.solver.quantity(axis).unit if axis in sweep.solver.names else "1")


def _position(sweep: Sweep, axis: str, label: Any) -> int:
    """Where a label stands along its axis."""
    if axis not in sweep.axes:
        known = f"one of {', '.join(sweep.axes)}" if sweep.axes else "none, as this sweep is one point"
        raise InputError(f"at: {axis!r} is no axis of this sweep{nearest(axis, sweep.axes)}, expected {known}")
    labels = sweep.axes[axis]
    if labels.dtype.kind == "U":
        found = np.flatnonzero(labels == _name(sweep, axis, label))
    else:
        found = np.flatnonzero(np.isclose(labels, _number(sweep, axis, label), rtol=1e-9, atol=0))
    if len(found) == 0:
        more = f" and {len(labels) - MOST_SHOWN} more" if len(labels) > MOST_SHOWN else ""
        known = ", ".join(f"{known}" for known in labels[:MOST_SHOWN].tolist())
        raise InputError(f"at.{axis}: got {shown(label)}, expected a label of the axis: {known}{more}")
    return int(found[0])


def _name(sweep: Sweep, axis: str, label: Any) -> str:
    kinds = labels_of(sweep.solver)
    if axis not in kinds:
        return str(label)
    try:
        return sweep.catalog.short_name(kinds[axis], str(label))
    except InputError as error:
        raise InputError(f"at.{axis}: {error}") from None


def _number(sweep: Sweep, axis: str, label: Any) -> float:
    if axis in sweep.solver.names:
        return read_number(label, sweep.solver.quantity(axis), f"at.{axis}")
    try:
        return float(label)
    except (TypeError, ValueError):
        raise InputError(f"at.{axis}: got {shown(label)}, expected a number") from None


def refuse_axes(parameters: Parameters) -> None:
    """Raise InputError unless the sweep is one point."""
    long = {axis: labels for axis, labels in parameters.sweep.axes.items() if len(labels) > 1}
    if long:
        axis, labels = next(iter(long.items()))
        example = f"at={{{axis!r}: {labels[0].item()!r}{', ...' if len(long) > 1 else ''}}}"
        raise InputError(
            f"{parameters.sweep.where}got a sweep along {', '.join(long)}, expected one point: "
            f"choose a label of each axis ({example}; --at {axis}={labels[0]})"
        )


def refuse_axis(parameters: Parameters, *names: str) -> None:
    """Raise InputError where an axis has a name that the result needs."""
    for name in names:
        if name in parameters.sweep.axes and name != CASE:
            raise InputError(f"axes.{name}: the result has an axis of that name, expected another one")


def chosen_inputs(parameters: Parameters, names: Iterable[str] | None, where: str) -> tuple[str, ...]:
    """These inputs of the graph; without names, all that are numbers, other than 0 somewhere."""
    if names is None:
        numbers = {n: v for n, v in parameters.inputs.items() if parameters.graph.quantity(n).kind != SERIES}
        return tuple(name for name, values in numbers.items() if np.any(np.isfinite(values) & (values != 0)))
    return tuple(dict.fromkeys(check_input(parameters, name, where) for name in names))


def check_input(parameters: Parameters, name: str, where: str) -> str:
    """The name; InputError unless it is an input on which the outputs depend."""
    graph, solver = parameters.graph, parameters.sweep.solver
    if name in graph.inputs:
        if graph.quantity(name).kind == SERIES:
            raise InputError(f"{where}: {name} is a number for each request, expected an input that is one number")
        return name
    if name in graph.nodes:
        raise InputError(f"{where}: {name} is computed; give it a value (under values) to make it an input")
    if name in solver.names:
        raise InputError(f"{where}: nothing that is asked for depends on {name}")
    raise InputError(f"{where}: unknown input {name!r}{nearest(name, graph.inputs)}, expected an input of the sweep")
