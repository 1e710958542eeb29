"""What may have caused a change: inputs and equations that differ, and versions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import nan

import xarray as xr

from servegrid import show
from servegrid.comparison.alignment import Aligned, UnlikeError, align, unit_of
from servegrid.comparison.changes import Change, EquationChange
from servegrid.comparison.difference import Difference
from servegrid.comparison.provenance import Origin
from servegrid.results import changed


def change_of(name: str, one: Origin, other: Origin, aligned: Aligned, found: Difference) -> Change:
    """What was found about a quantity, with its labels and unit."""
    quantity = one.quantities.get(name) or other.quantities.get(name)
    point = found.largest or found.first
    is_flag = aligned.one.dtype.kind == aligned.other.dtype.kind == "b"
    before, after = (None, None) if point is None else (point.before, point.after)
    return Change(
        name=name,
        unit=unit_of(aligned.one),
        better=None if quantity is None else quantity.better,
        axes=aligned.axes,
        points=found.points,
        changed=found.changed,
        appeared=found.appeared,
        vanished=found.vanished,
        higher=found.higher,
        lower=found.lower,
        median=found.spread.median,
        largest=nan if point is None else point.change,
        before=bool(before) if is_flag and point else before,
        after=bool(after) if is_flag and point else after,
        where={} if point is None else aligned.where(point.place),
    )


def _said(values: xr.DataArray) -> str:
    """One value, or that there are several."""
    if values.ndim:
        return f"a table over {' and '.join(map(str, values.dims))}"
    value = values.values.item()
    return value if isinstance(value, str) else show.number(value, unit_of(values) or "1")


@dataclass(frozen=True)
class Causes:
    """What two datasets say about their making, where that differs."""

    one: Origin
    other: Origin
    tolerance: float

    @property
    def inputs(self) -> tuple[Change, ...]:
        """Inputs whose numbers differ where both have labels."""
        return tuple(found for found in self._looked.values() if isinstance(found, Change) and found.is_changed)

    @property
    def equations(self) -> tuple[EquationChange, ...]:
        """What both compute, by different equations."""
        before, after = self.one.equations, self.other.equations
        names = [name for name in self._differing if name in before and name in after]
        return tuple(EquationChange(name, before[name], after[name]) for name in names)

    @property
    def unlike(self) -> tuple[str, ...]:
        """Inputs that differ in more than numbers, in words."""
        return tuple(self._unlike())

    @property
    def notes(self) -> tuple[str, ...]:
        """Inputs that only one of them has."""
        found = []
        for mine, theirs in ((self.one, self.other), (self.other, self.one)):
            lacking = [name for name in mine.digests if name not in {**theirs.digests, **mine.equations}]
            if theirs.digests and lacking:
                found.append(f"only {mine.name} depends on {', '.join(lacking)}")
        return tuple(found)

    @property
    def versions(self) -> dict[str, tuple[str, str]]:
        """Solver and versions, where they differ."""
        before, after = self.one.made_by, self.other.made_by
        return {
            key: (before.get(key, "-"), after.get(key, "-"))
            for key in dict.fromkeys((*before, *after))
            if before.get(key) != after.get(key)
        }

    @cached_property
    def _differing(self) -> list[str]:
        """Quantities of both that have other fingerprints."""
        both = {name: digest for name, digest in self.one.digests.items() if name in self.other.digests}
        return changed(both, self.other.digests)

    @cached_property
    def _looked(self) -> dict[str, Change | str]:
        """The inputs whose numbers are known of both: what changed, or why they are not alike.

        Their fingerprints may differ by labels alone, so the numbers decide.
        """
        found: dict[str, Change | str] = {}
        for name in [name for name in self.one.inputs if name in self.other.inputs]:
            digests = self.one.digests.get(name), self.other.digests.get(name)
            is_axis = name in (*self.one.dataset.dims, *self.other.dataset.dims)
            if not is_axis and (None in digests or digests[0] != digests[1]) and self._counts(name):
                found[name] = self._look(name)
        return found

    def _counts(self, name: str) -> bool:
        """Whether anything depends on it, as far as is known: not every fact about a model is an input."""
        fixed = self.one.inputs[name].ndim == 0 and self.one.inputs[name].dtype.kind in "OU"
        recorded = bool(self.one.digests and self.other.digests)
        return fixed or not recorded or (name in self.one.digests and name in self.other.digests)

    def _look(self, name: str) -> Change | str:
        one, other = self.one.inputs[name], self.other.inputs[name]
        try:
            aligned = align(one, other, (self.one.name, self.other.name))
        except UnlikeError:
            return f"{name} is {_said(one)} in {self.one.name}, {_said(other)} in {self.other.name}"
        region = {axis: slice(0, size) for axis, size in zip(aligned.axes, aligned.shape, strict=True)}
        difference = aligned.difference(region, *aligned.read(region), self.tolerance)
        return change_of(name, self.one, self.other, aligned, difference)

    def _unlike(self) -> Iterator[str]:
        for found in self._looked.values():
            if isinstance(found, str):
                yield found
        for name in self._differing:
            origins = (self.one, self.other)
            computing = [origin.name for origin in origins if name in origin.equations]
            if len(computing) == 1:
                yield f"{name} is computed in {computing[0]} only, given in the other"
            elif not computing and name not in self._looked and not any(name in o.dataset.dims for o in origins):
                yield f"the values of {name} differ, or the labels that they are for"
