"""What a picture is made of: variables and axes by name, what fits, and what has to be selected beforehand."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr

from servegrid.errors import InputError, nearest
from servegrid.plot.scales import exact, is_numeric, unit_of

FEASIBLE = "feasible"  # the flag of a dataset that says what fits


def variable_of(ds: xr.Dataset, name: str, where: str) -> xr.DataArray:
    """A variable of the dataset; InputError with the nearest name where there is none."""
    if name not in ds.variables:
        known = [str(known) for known in ds.data_vars]
        raise InputError(
            f"{where}: the dataset has no {name!r}{nearest(name, known)}, expected one of {', '.join(known)}; "
            "what else the solver knows can be added to `outputs` of the sweep"
        )
    return ds[name]


def numbers_of(ds: xr.Dataset, name: str, where: str) -> xr.DataArray:
    """A variable that holds numbers or flags; InputError for one that holds names."""
    found = variable_of(ds, name, where)
    if found.dtype.kind not in "biuf":
        raise InputError(f"{where}: {name} holds names, expected a variable of numbers")
    return found


def axis_of(array: xr.DataArray, name: str, where: str) -> str:
    """An axis of the array; InputError with the nearest name where it is none."""
    known = [str(dim) for dim in array.dims]
    if name not in known:
        raise InputError(
            f"{where}: {name!r} is not an axis of {array.name}{nearest(name, known)}, "
            f"expected one of {', '.join(known) or 'none: it is one number'}"
        )
    return name


def refuse_rest(array: xr.DataArray, used: Iterable[str], picture: str) -> None:
    """InputError where the array has axes that a picture does not show: which label is wanted is not ours to guess."""
    rest = [str(dim) for dim in array.dims if dim not in set(used)]
    if rest:
        example = rest[0]
        label = array[example].values[0].item()
        raise InputError(
            f"{picture} of {array.name}: got {len(rest)} more axes than it shows ({', '.join(rest)}), select one label "
            f"of each, as with .sel({example}={label!r}) or --at {example}={label}"
        )


def fits(ds: xr.Dataset, array: xr.DataArray) -> xr.DataArray:
    """Where something fits, along the axes of the array: at least one of the points that share this value."""
    if FEASIBLE not in ds.variables:
        return xr.ones_like(array, dtype=bool)
    flag = ds[FEASIBLE]
    flag = flag.any([dim for dim in flag.dims if dim not in array.dims])
    return xr.broadcast(flag.astype(bool), array)[0].transpose(*array.dims)


def where_it_fits(ds: xr.Dataset, array: xr.DataArray) -> xr.DataArray:
    """The array in double precision, NaN where nothing fits; read into memory, in ascending order of its axes."""
    return ascending(array.astype(float).where(fits(ds, array)).compute().assign_attrs(array.attrs).rename(array.name))


def ascending(array: xr.DataArray) -> xr.DataArray:
    """The array with its numeric axes in order: a store that has grown has new labels at the end."""
    numeric = [dim for dim in array.dims if dim in array.coords and is_numeric(array[dim].values)]
    return array.sortby(numeric)


def names_of(array: xr.DataArray, axis: str) -> list[str]:
    """The labels of an axis, for people."""
    return [exact(value, unit_of(array[axis])) for value in array[axis].values]
