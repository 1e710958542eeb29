"""What was measured of each contender, and the figures to reach: as tables that people read, and for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import SAMPLE, Contender, alone
from benchmarks.grid import Problem
from benchmarks.measure import best_seconds, in_child


@dataclass(frozen=True)
class Row:
    """What was measured of one contender. Peak and compile time are those of a process of its own."""

    name: str
    points: int
    seconds: float
    written: int
    compile_seconds: float
    peak_bytes: int

    @property
    def rate(self) -> float:
        """Points per second."""
        return self.points / self.seconds


@dataclass(frozen=True)
class Figure:
    """A figure that servegrid is to reach: so many times as fast as something else."""

    what: str
    contender: str
    against: tuple[str, ...]  # the fastest of these
    target: float

    def ratio(self, rows: Mapping[str, Row]) -> float | None:
        """The ratio in this run; None where there is nothing to compare with."""
        rivals = [rows[name].rate for name in self.against if name in rows]
        return rows[self.contender].rate / max(rivals) if rivals and self.contender in rows else None


# --- how fast are they? -------------------------------------------------------------------------------------------


def measure(problem: Problem, rounds: int, contenders: Mapping[str, Contender]) -> dict[str, Row]:
    """Each contender; memory and time to compile first, in a process of its own."""
    costs = {name: in_child(alone, contender, problem) for name, contender in contenders.items()}
    arrays = problem.allocate()
    runs = {name: contender.prepare(problem, arrays) for name, contender in contenders.items()}
    seconds = best_seconds(runs, rounds)
    written = sum(array.nbytes for array in arrays.values())
    return {
        name: Row(
            name,
            SAMPLE if "places" in contender.takes else problem.points,
            seconds[name],
            written if contender.writes else 0,
            *costs[name],
        )
        for name, contender in contenders.items()
    }


# --- show ---------------------------------------------------------------------------------------------------------


def markdown(*columns: str, left: Sequence[str] = ("",)) -> Table:
    """A table for a README; numbers to the right."""
    shown = Table(box=MARKDOWN, header_style="bold")
    for column in columns:
        shown.add_column(column, justify="left" if column in left else "right")
    return shown


def open_console() -> Console:
    """The terminal; where nobody looks at one, rows are not folded."""
    return Console(width=None if Console().is_terminal else 200)


def table(rows: Mapping[str, Row], reference: str) -> Table:
    """The rows as people read them; the last column compares with `reference`."""
    written = ("written, MB", "GB/s") if any(row.written for row in rows.values()) else ()
    shown = markdown("", "Mpoint/s", "s", *written, "compile, s", "peak, MB", "slower, times")
    for row in rows.values():
        stored = [f"{row.written / 1e6:,.0f}", f"{row.written / row.seconds / 1e9:.1f}"] if row.written else ["-", "-"]
        shown.add_row(
            row.name,
            f"{row.rate / 1e6:,.4f}" if row.rate < 1e5 else f"{row.rate / 1e6:,.0f}",
            f"{row.seconds:.4f}",
            *stored[: len(written)],
            f"{row.compile_seconds:.2f}",
            f"{row.peak_bytes / 1e6:,.0f}",
            f"{rows[reference].rate / row.rate:,.2f}",
        )
    return shown


def verdicts(rows: Mapping[str, Row], figures: Sequence[Figure]) -> Table:
    """Each figure, and whether this run reached it."""
    shown = markdown("servegrid", "times", "figure", "", left=("servegrid", ""))
    for figure in figures:
        ratio = figure.ratio(rows)
        if ratio is not None:
            verdict = "[green]met[/green]" if ratio >= figure.target else "[red]not met[/red]"
            shown.add_row(figure.what, f"{ratio:,.2f}", f"{figure.target:,g}", verdict)
    return shown


def report(rows: Mapping[str, Row], figures: Sequence[Figure], packages: Sequence[str]) -> dict[str, Any]:
    """The same, and where it was measured, for other programs."""
    return {
        **setting(packages),
        "rows": [{**asdict(row), "points_per_second": row.rate} for row in rows.values()],
        "figures": [
            {**asdict(figure), "ratio": ratio, "met": ratio >= figure.target}
            for figure in figures
            if (ratio := figure.ratio(rows)) is not None
        ],
    }


def setting(packages: Sequence[str]) -> dict[str, Any]:
    """The machine, what it had to do after the last minute, and the versions of packages."""
    machine = {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
    return {"machine": machine, "load": os.getloadavg()[0], "versions": {name: _version(name) for name in packages}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
