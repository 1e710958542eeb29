"""What changed between two sweeps: every variable on the labels that both have, and what may have caused it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from servegrid.comparison.alignment import Aligned, Pairing, UnlikeError, align, labels_of, pair
from servegrid.comparison.causes import Causes, change_of
from servegrid.comparison.changes import AxisChange, Comparison
from servegrid.comparison.difference import Difference
from servegrid.comparison.provenance import Origin, origin_of
from servegrid.errors import InputError, MachineError, shown
from servegrid.job import Memory, Task
from servegrid.runner import Progress
from servegrid.threads import Threads

MOST_NAMED = 6  # variables in a message


def compare(
    one: xr.Dataset | str | Path,
    other: xr.Dataset | str | Path,
    *,
    tolerance: float = 0.0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Align two sweeps by their labels, and find what changed from one to the other.

    Parameters
    ----------
    one, other
        A dataset, the folder or URL of a store, or a sweep file (computed as it is read). What is not in memory is
        read block by block.
    tolerance
        Numbers that are as near to each other as this, relative to the larger, count as equal [1]; 0 means that
        numbers must be the same, and NaN where there was NaN.
    threads
        Threads that read [1]; one for each core without it.
    progress
        Is told how it gets on; see `servegrid.runner.Progress`.

    Returns
    -------
    Comparison
        `changed`, `variables` and more; `to_dict()`.

    Raises
    ------
    InputError
        Where there is nothing to compare: no store, no variable or no label that both have.
    MachineError
        Where a store cannot be read.
    """
    if isinstance(tolerance, bool) or not 0 <= tolerance < 1:
        raise InputError(f"tolerance: got {shown(tolerance)}, expected a relative difference, at least 0 and below 1")
    crew = Threads.of(threads)
    return _Pair.of(origin_of(one, "one"), origin_of(other, "other")).compared(tolerance, crew, progress)


@dataclass(frozen=True)
class _Pair:
    """Two datasets, each at the value that the other has fixed where only one has an axis."""

    one: Origin
    other: Origin
    axes: tuple[AxisChange, ...]

    @classmethod
    def of(cls, one: Origin, other: Origin) -> _Pair:
        axes = []
        for axis in dict.fromkeys(map(str, (*one.dataset.dims, *other.dataset.dims))):
            change = _axis(axis, one, other)
            axes.append(change)
            if change.fixed is not None and change.shared:
                one = one.at(axis, change.fixed) if change.axis_of == "one" else one
                other = other.at(axis, change.fixed) if change.axis_of == "other" else other
        return cls(one, other, tuple(axes))

    def compared(self, tolerance: float, crew: Threads, progress: Progress | None) -> Comparison:
        """Look at all that both have."""
        one, other = self.one, self.other
        aligned, reasons = self.aligned()
        if any(variable.chunks for both in aligned.values() for variable in (both.one, both.other)):
            crew = crew.limited(1)  # dask has threads of its own
        found = _Look(aligned, tolerance, f"{one.name} or {other.name}").all(crew, progress)
        causes = Causes(one, other, tolerance)
        return Comparison(
            one=one.name,
            other=other.name,
            tolerance=tolerance,
            axes=self.axes,
            inputs=causes.inputs,
            equations=causes.equations,
            variables=tuple(change_of(name, one, other, aligned[name], found[name]) for name in aligned),
            only_one=tuple(name for name in one.outputs if name not in other.dataset.data_vars),
            only_other=tuple(name for name in other.outputs if name not in one.dataset.data_vars),
            differing=(*reasons, *causes.unlike),
            notes=(*self.notes(), *causes.notes),
            versions=causes.versions,
        )

    def aligned(self) -> tuple[dict[str, Aligned], list[str]]:
        """The variables that both have, and why some of them cannot be compared."""
        one, other = self.one, self.other
        common = [name for name in one.outputs if name in other.dataset.data_vars]
        if not common:
            raise InputError(
                f"{one.name} and {other.name}: have no variable in common (got {_some(one.outputs)}; and "
                f"{_some(other.outputs)}), expected sweeps with the same outputs"
            )
        found, reasons, pairings = dict[str, Aligned](), list[str](), dict[str, Pairing]()
        for name in common:
            try:
                found[name] = align(one.dataset[name], other.dataset[name], (one.name, other.name), pairings)
            except UnlikeError as error:
                reasons.append(f"{name} is not compared: {error}")
        if not found:
            raise InputError(f"{one.name} and {other.name}: nothing can be compared ({reasons[0]})")
        return found, reasons

    def notes(self) -> Iterable[str]:
        """What is to be known, but is no difference."""
        for origin in (self.one, self.other):
            if origin.is_unfinished:
                yield f"{origin.name} is unfinished: what is missing reads as NaN, 0 and false"
        for name in self.one.outputs:
            if name in self.other.dataset.data_vars:
                types = [origin.dataset[name].dtype for origin in (self.one, self.other)]
                if types[0] != types[1]:
                    yield f"{name} is {types[0]} in {self.one.name}, {types[1]} in {self.other.name}"


def _axis(axis: str, one: Origin, other: Origin) -> AxisChange:
    """What the two have of an axis."""
    if axis in one.dataset.dims and axis in other.dataset.dims:
        found = pair(axis, labels_of(one.dataset, axis), labels_of(other.dataset, axis))
        return AxisChange(axis, len(found.labels), found.only_one, found.only_other)
    owner, lacking = (one, other) if axis in one.dataset.dims else (other, one)
    labels, fixed = labels_of(owner.dataset, axis), lacking.fixed(axis)
    rest = tuple(label for label in labels if label != fixed)
    shared = len(labels) - len(rest)
    if owner is one:
        return AxisChange(axis, shared, only_one=rest, axis_of="one", fixed=fixed)
    return AxisChange(axis, shared, only_other=rest, axis_of="other", fixed=fixed)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more if names else "none"


@dataclass(frozen=True)
class _Look:
    """The work of reading blocks of both, and comparing them."""

    aligned: Mapping[str, Aligned]
    tolerance: float
    names: str

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def do(self, task: Task, worker: str, memory: Memory) -> tuple[str, Difference]:
        """Compare one variable in one block."""
        (name,) = task.outputs
        aligned = self.aligned[name]
        region = aligned.blocks[task.block]
        try:
            one, other = aligned.read(region)
        except OSError as error:
            raise MachineError(f"{self.names}: {name} could not be read ({error.strerror or error})") from error
        except (InputError, MachineError):
            raise
        except Exception as error:  # whatever a decoder makes of wrong bytes; the checksum first
            raise MachineError(f"{self.names}: {name} is damaged; 'servegrid verify' tells what and where") from error
        return name, aligned.difference(region, one, other, self.tolerance)

    def all(self, crew: Threads, progress: Progress | None) -> dict[str, Difference]:
        """The difference of each variable."""
        found = dict.fromkeys(self.aligned, Difference())
        if progress is not None:
            progress.start(sum(aligned.points for aligned in self.aligned.values()), 0)
        tasks = (Task(block, (name,)) for name, aligned in self.aligned.items() for block in range(len(aligned.blocks)))
        for name, difference in crew.do(self, tasks):
            found[name] = found[name].merged(difference)
            if progress is not None:
                progress(difference.points)
        return found
