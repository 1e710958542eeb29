"""A dataset with what it says about its own making: the numbers of its inputs, fingerprints, equations, versions."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xarray as xr

from servegrid.comparison.alignment import labels_of
from servegrid.errors import InputError
from servegrid.evaluate import prepare
from servegrid.growth import written_sweep
from servegrid.parameters import Parameters, gather
from servegrid.place import Folder, place_of
from servegrid.quantity import Quantity
from servegrid.results import FINGERPRINT, fingerprints, lazy, recorded
from servegrid.solvers import SOLVERS
from servegrid.store import STATUS, open_store
from servegrid.sweepfile import read_sweep

MADE_BY = ("solver", "servegrid_version", "numba_version")


@dataclass(frozen=True)
class Origin:
    """A dataset and where it comes from.

    `inputs`: those whose numbers are known for certain, each on its own labels. `digests`: fingerprints of inputs and
    equations. `equations`: what is computed, and the formula where it is known. `quantities`: what is declared.
    """

    name: str
    dataset: xr.Dataset
    inputs: Mapping[str, xr.DataArray]
    digests: Mapping[str, str]
    equations: Mapping[str, str | None]
    quantities: Mapping[str, Quantity]

    @property
    def made_by(self) -> dict[str, str]:
        """Solver and versions."""
        return {key: str(self.dataset.attrs[key]) for key in MADE_BY if key in self.dataset.attrs}

    @property
    def is_unfinished(self) -> bool:
        """Whether results are still missing."""
        return STATUS in self.dataset.attrs

    @property
    def outputs(self) -> list[str]:
        """The variables in the order in which they were asked for: a store has them in that of the alphabet."""
        names = [str(name) for name in self.dataset.data_vars]
        asked = [name for name in self.quantities if name in names]
        return [*asked, *(name for name in names if name not in asked)]

    def fixed(self, name: str) -> Any:
        """The one value of a quantity or label that is no axis here; None where there is none."""
        for arrays in (self.dataset.coords, self.inputs):
            if name in arrays and arrays[name].ndim == 0:
                return arrays[name].values.item()
        return None

    def at(self, axis: str, label: Any) -> Origin:
        """The same at one label of an axis."""
        position = labels_of(self.dataset, axis).index(label)
        inputs = {
            name: array.sel({axis: label}) if axis in array.dims and axis in array.coords else array
            for name, array in self.inputs.items()
        }
        return replace(self, dataset=self.dataset.isel({axis: position}), inputs=inputs)


def origin_of(what: xr.Dataset | str | Path, name: str) -> Origin:
    """A dataset, or what is at a place: a store, or a sweep file, which is evaluated as it is read.

    `name`: what to call a dataset. InputError where there is neither.
    """
    dataset = what if isinstance(what, xr.Dataset) else _open(what)
    parameters = _parameters(dataset)
    digests = recorded(dataset.attrs) if FINGERPRINT in dataset.attrs else {}
    now = {} if parameters is None else fingerprints(parameters)
    sure = {name for name, digest in digests.items() if now.get(name) == digest}
    return Origin(
        name if isinstance(what, xr.Dataset) else str(what),
        dataset,
        _inputs(dataset, parameters, sure),
        digests,
        _equations(dataset, parameters, sure),
        _quantities(dataset, parameters),
    )


def _open(what: str | Path) -> xr.Dataset:
    place = place_of(what)
    if isinstance(place, Folder) and place.path.is_file():
        parameters = gather(read_sweep(place.path))
        return lazy(parameters, prepare(parameters))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated", RuntimeWarning)  # slower
            dataset = open_store(place, as_dask=False)
    except (FileNotFoundError, ValueError):  # what zarr says of a place that has no group is of these kinds
        raise InputError(f"{what}: is no store, expected the folder or URL of a store, or a sweep file") from None
    return dataset


def _parameters(dataset: xr.Dataset) -> Parameters | None:
    """What the dataset's sweep means today; None where it has none, or one that this servegrid cannot read."""
    try:
        return gather(written_sweep(dataset.attrs))
    except (InputError, KeyError):
        return None


def _inputs(dataset: xr.Dataset, parameters: Parameters | None, sure: Collection[str]) -> dict[str, xr.DataArray]:
    """The facts that the dataset holds; and what its sweep gives, if that is still what it was made with."""
    inputs = {str(name): fact for name, fact in dataset.coords.items() if name not in dataset.dims}
    if parameters is not None:
        inputs |= {name: parameters.dataset[name] for name in parameters.graph.inputs if name in sure}
    return {name: array.reset_coords(drop=True) for name, array in inputs.items()}


def _equations(dataset: xr.Dataset, parameters: Parameters | None, sure: Collection[str]) -> dict[str, str | None]:
    if parameters is not None:
        return {name: node.formula if name in sure else None for name, node in parameters.graph.nodes.items()}
    solver = SOLVERS.get(dataset.attrs.get("solver", ""))
    return dict.fromkeys([*map(str, dataset.data_vars), *(solver.equations if solver else ())])


def _quantities(dataset: xr.Dataset, parameters: Parameters | None) -> dict[str, Quantity]:
    """Outputs first, then all else that the sweep and the solver know."""
    solver = SOLVERS.get(dataset.attrs.get("solver", ""))
    known: dict[str, Quantity] = {}
    if parameters is not None:
        graph = parameters.graph
        known = {name: graph.quantity(name) for name in (*graph.outputs, *graph.nodes, *graph.inputs)}
    return (
        known if solver is None else {**known, **{name: solver.quantity(name) for name in solver.names - known.keys()}}
    )
