"""Does a store hold this sweep, or a part of it that can grow? What differs, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import yaml

from servegrid import show
from servegrid.errors import InputError, shown
from servegrid.parameters import Parameters, gather
from servegrid.quantity import Quantity
from servegrid.results import changed, fingerprints
from servegrid.solvers import Solver
from servegrid.store import Root
from servegrid.sweepfile import CASE, Sweep, make_sweep
from servegrid.yamltext import from_yaml

MOST_NAMED = 3  # differences that a message tells


def stored_sweep(root: Root, solver: Solver | None = None) -> Sweep:
    """The sweep that a store says it holds; see `written_sweep`."""
    return written_sweep(root.attributes, solver)


def written_sweep(attributes: Mapping[str, Any], solver: Solver | None = None) -> Sweep:
    """The sweep in the attributes of a dataset, its axes in the order of the dataset.

    `solver`: the one to use instead of the one of that name, which may be the user's own. InputError where the text
    cannot be read, or not any more.
    """
    try:
        content = from_yaml(attributes["sweep"])
        if solver is not None:
            content["solver"] = solver
    except (yaml.YAMLError, TypeError, AttributeError):
        raise InputError("the attribute 'sweep' in its zarr.json is damaged, expected the text of a sweep") from None
    # Without a name of its own it is called as its file was, which only the title tells.
    return make_sweep(content, default_name=str(attributes.get("title", "")))


def in_stored_order(sweep: Sweep, stored: Sweep) -> Sweep:
    """The sweep with the labels that the store has first, in its order; new ones after them.

    So whatever is stored stays where it is. Axes that differ in more than labels are left to `differences`.
    """
    orders = {}
    for axis, labels in sweep.axes.items():
        if axis in stored.axes and axis != CASE:
            old, new = stored.axes[axis].tolist(), labels.tolist()
            known = set(old)
            order = [*old, *(label for label in new if label not in known)]
            if order != new and known <= set(new):
                orders[axis] = order
    if not orders:
        return sweep
    content = from_yaml(sweep.text)
    again = make_sweep({**content, "solver": sweep.solver, "axes": {**content["axes"], **orders}})
    return replace(again, where=sweep.where, name=sweep.name)


def differences(parameters: Parameters, root: Root, stored: Sweep) -> list[str]:
    """What stands between the store and the (grown) sweep, in words; nothing where the store can hold it."""
    sweep = parameters.sweep
    if list(sweep.axes) != list(stored.axes):
        return [f"its axes are {', '.join(stored.axes)}, those of the sweep {', '.join(sweep.axes)}"]
    if sweep.dtype != stored.dtype:
        return [f"its numbers are {stored.dtype}, those of the sweep {sweep.dtype}"]
    found = []
    for axis, labels in stored.axes.items():
        wanted = set(sweep.axes[axis].tolist())
        missing = [label for label in labels.tolist() if label not in wanted]
        if missing:
            others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            found.append(f"{axis} has {shown(missing[0])}{others} there, which the sweep lacks")
    lacking = [name for name in stored.outputs if name not in parameters.graph.outputs]
    if lacking:
        found.append(f"it has the output {lacking[0]}, which the sweep lacks")
    if found:
        return found
    old_sizes = {axis: len(labels) for axis, labels in stored.axes.items()}
    other = changed(root.fingerprint, fingerprints(parameters, old_sizes))
    return list(_explained(other, parameters, stored)) if other else []


def _explained(other: list[str], parameters: Parameters, stored: Sweep) -> Iterator[str]:
    """What has changed about each of these quantities."""
    before = _numbers(stored)
    for name in other:
        if name in parameters.graph.nodes:
            yield f"the equation of {name} differs"
        elif name not in parameters.inputs:
            yield f"{name} is not used by the sweep"
        else:
            old, new = before.get(name), parameters.inputs[name]
            if old is not None and old.ndim == 0 and new.ndim == 0 and old != new:
                quantity = parameters.graph.quantity(name)
                yield f"{name} is {_number(old, quantity)} there, {_number(new, quantity)} in the sweep"
            else:
                yield f"the values of {name} differ"


def _number(value: np.ndarray, quantity: Quantity) -> str:
    """A number with all of its digits; what is counted is clear from its name."""
    return show.exact(value.item(), "1" if quantity.kind == "int" else quantity.unit)


def _numbers(stored: Sweep) -> Mapping[str, Any]:
    try:
        return gather(stored).inputs
    except InputError:  # made by a version of servegrid that knew other names
        return {}


def refusal(place: object, found: list[str]) -> InputError:
    """The message of a store that holds something else."""
    more = [f"{len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    told = "; ".join([*found[:MOST_NAMED], *more])
    return InputError(
        f"{place}: holds another sweep ({told}); give another name, or --overwrite to throw that store away"
    )


def grown_by(sweep: Sweep, stored: Sweep) -> str:
    """By what the sweep is larger than the one that is stored: "model by 2, output ttft"; "" where it is not."""
    axes = {axis: len(labels) - len(stored.axes[axis]) for axis, labels in sweep.axes.items()}
    outputs = [name for name in sweep.outputs if name not in stored.outputs]
    return ", ".join([*(f"{axis} by {more}" for axis, more in axes.items() if more), *(f"output {n}" for n in outputs)])
