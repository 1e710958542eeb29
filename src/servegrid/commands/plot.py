"""`servegrid plot`: a picture of a sweep or of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from servegrid.commands.options import read_pairs
from servegrid.errors import InputError, nearest

if TYPE_CHECKING:
    import xarray as xr

MOST_LABELS = 16  # that a message lists


@dataclass(frozen=True)
class Kind:
    """A kind of picture: the function that draws a dataset, where the dataset is from, and the options for both.

    `takes`: option -> argument of the function that draws; `asks`: option -> argument of the one that gives the data.
    `needs`: those that must be given.
    """

    draw: Callable[..., Any]
    takes: Mapping[str, str]
    needs: Sequence[str] = ()
    data: Callable[..., xr.Dataset] | None = None
    """Of the source and --at; without one, the results themselves."""
    asks: Mapping[str, str] = field(default_factory=dict)


def _draw(name: str, ds: xr.Dataset, **words: Any) -> Any:
    """The picture of that name; matplotlib is loaded no earlier than here."""
    from servegrid import plot

    return getattr(plot, name)(ds, **words)


def _draw_frontier(ds: xr.Dataset) -> Any:
    """The first two objectives, a line for each label of the first axis that the frontier is asked for each of."""
    x, y, *_ = [str(name) for name, variable in ds.data_vars.items() if "direction" in variable.attrs]
    return _draw("frontier", ds, x=x, y=y, hue=ds.attrs.get("per", "").split(", ")[0] or None)


def _pareto(source: str, at: Sequence[str], **words: Any) -> xr.Dataset:
    """The frontier of a sweep or a store."""
    from servegrid.questions import pareto

    if at:
        raise InputError("--at: a frontier has none, expected --where, or --per for a line for each label")
    return pareto(source, **words)


def _tornado(source: str, at: Sequence[str], **words: Any) -> xr.Dataset:
    """One output of a sweep at one point, each input in turn at both ends of its range."""
    from servegrid.influence.tornado import tornado

    return tornado(source, at=read_pairs("--at", at, "AXIS=LABEL such as model=llama-3.1-8b"), **words)


KINDS: Mapping[str, Kind] = {
    "heatmap": Kind(partial(_draw, "heatmap"), {"of": "variable", "x": "x", "y": "y"}, ["of"]),
    "lines": Kind(partial(_draw, "lines"), {"of": "variable", "x": "x", "hue": "hue", "over": "over"}, ["of", "x"]),
    "roofline": Kind(partial(_draw, "roofline"), {"hue": "hue"}),
    "breakdown": Kind(partial(_draw, "breakdown"), {"x": "x", "term": "terms"}),
    "frontier": Kind(
        _draw_frontier, {}, [], _pareto, {name: name for name in ("maximize", "minimize", "where", "per")}
    ),
    "tornado": Kind(partial(_draw, "tornado"), {}, ["of"], _tornado, {"of": "output"}),
}


@click.command()
@click.argument("source", metavar="SWEEP-OR-STORE")
@click.option(
    "--kind", type=click.Choice(list(KINDS)), help="Kind of picture  [default: heatmap with --y, lines with --x]"
)
@click.option("--of", metavar="NAME", help="What to show, such as throughput.")
@click.option("--x", metavar="AXIS", help="Axis from left to right.")
@click.option("--y", metavar="AXIS", help="Axis upwards.")
@click.option("--hue", metavar="AXIS", help="Axis with a colour for each label.")
@click.option("--over", multiple=True, metavar="AXIS", help="Axis that lines sum up  [default: all others]")
@click.option("--maximize", "-M", multiple=True, metavar="EXPR", help="Objective of a frontier.")
@click.option("--minimize", "-m", multiple=True, metavar="EXPR", help="Objective of a frontier.")
@click.option("--where", metavar="EXPR", help="Filter of a frontier.")
@click.option("--per", multiple=True, metavar="AXIS", help="Axis with a frontier for each label.")
@click.option("--term", multiple=True, metavar="NAME", help="Term of a breakdown  [default: those of the solver]")
@click.option(
    "--at", multiple=True, metavar="AXIS=LABEL", help="Only this label of an axis; several times: these labels."
)
@click.option("--out", required=True, metavar="FILE", help="The picture: .png, .svg or .pdf.")
def plot(source: str, kind: str | None, at: tuple[str, ...], out: str, **options: Any) -> None:
    """Draw a sweep, or what a store holds.

    A sweep file is evaluated in memory. What the picture has no axis for must be selected by --at.
    """
    given = {name: value for name, value in options.items() if value}
    chosen = kind or _default_kind(given)
    _check(chosen, given)
    from servegrid.plot.files import check_suffix, save

    path = check_suffix(out)
    way = KINDS[chosen]
    asked = {way.asks[option]: value for option, value in given.items() if option in way.asks}
    ds = _selected(_opened(source), at) if way.data is None else way.data(source, at, **asked)
    figure = way.draw(ds, **{way.takes[option]: value for option, value in given.items() if option in way.takes})
    click.echo(f"{save(figure, path)}")


def _default_kind(given: Mapping[str, Any]) -> str:
    for option, kind in (("y", "heatmap"), ("x", "lines"), ("maximize", "frontier"), ("minimize", "frontier")):
        if option in given:
            return kind
    raise InputError(f"--kind: got nothing, expected one of {', '.join(KINDS)}, or --x or --y, which tell it")


def _check(kind: str, given: Mapping[str, Any]) -> None:
    """Raise InputError for options that the kind of picture does not take, or lacks."""
    takes = {**KINDS[kind].takes, **KINDS[kind].asks}
    for option in given:
        if option not in takes:
            expected = ", ".join(f"--{name}" for name in takes)
            raise InputError(f"--{option}: a picture of the kind {kind} has none, expected some of {expected}")
    for option in KINDS[kind].needs:
        if option not in given:
            raise InputError(f"--{option}: got nothing, expected a name: a picture of the kind {kind} needs it")


def _opened(source: str) -> xr.Dataset:
    """The results of a sweep file, or those in a store."""
    from servegrid.api import sweep
    from servegrid.questions import open_dataset
    from servegrid.store import is_store

    return open_dataset(source) if is_store(source) else sweep(source)


def _selected(ds: xr.Dataset, at: Sequence[str]) -> xr.Dataset:
    """Only the labels that --at names; an axis with one of them is one no more."""
    wanted: dict[str, list[int]] = {}
    for text in at:
        axis, equals, label = (part.strip() for part in text.partition("="))
        if not (axis and equals and label):
            raise InputError(f"--at: got {text!r}, expected AXIS=LABEL such as model=llama-3.1-8b")
        if axis not in ds.dims:
            axes = [str(dim) for dim in ds.dims]
            raise InputError(f"--at: unknown axis {axis!r}{nearest(axis, axes)}, expected one of {', '.join(axes)}")
        wanted.setdefault(axis, []).append(_position(ds[axis], label))
    return ds.isel({axis: found[0] if len(found) == 1 else found for axis, found in wanted.items()})


def _position(coordinate: xr.DataArray, label: str) -> int:
    """The place of a label; a number may have a unit."""
    import numpy as np

    from servegrid.units import UnitError, to_number

    values, names = coordinate.values, [_name(value) for value in coordinate.values]
    if label in names:
        return names.index(label)
    if values.dtype.kind in "iuf":
        try:
            number = to_number(label, str(coordinate.attrs.get("display_units", "1")))
        except UnitError as error:
            raise InputError(f"--at: {coordinate.name}: {error}") from None
        if (found := np.flatnonzero(np.isclose(values, number, rtol=1e-9, atol=0))).size:
            return int(found[0])
    known = ", ".join(names if len(names) <= MOST_LABELS else [*names[:MOST_LABELS], "..."])
    hint = nearest(label, names)
    raise InputError(f"--at: unknown label {label!r} of {coordinate.name}{hint}, expected one of {known}")


def _name(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
