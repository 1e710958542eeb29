"""The Pareto frontier of up to 10^8 points, by servegrid and its peers, in one run: `python -m benchmarks.frontier`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
import xarray as xr
from rich.table import Table

import servegrid as sg
from benchmarks.clouds import CLOUDS
from benchmarks.memory import of_size
from benchmarks.rows import markdown, open_console, setting

PACKAGES = ("servegrid", "numpy", "numba", "paretoset", "pymoo", "moocore")

SIZES = (1e6, 1e7, 1e8)
OBJECTIVES = (2, 3, 4)
MOST_NUMBERS = 3e8  # of one case: points times objectives
ENOUGH = 1  # [s] a rival that takes longer sits out where there are more points
MUCH = 20  # [s] the same for servegrid, which has a figure to reach
ROUNDS = 2  # of which the best counts; one where there are more than 10^7 points
MOST_SECONDS = {2: 10, 3: 60}  # by number of objectives: what 10^8 points may take

SWEEP = "sweep of the reference solver"
KINDS = (SWEEP, *CLOUDS)
SERVEGRID = "servegrid, 2 threads"
_SWEPT = {"throughput": 1, "itl": -1, "ttft": -1}  # objective -> its sign
_THREADS = 2

Find = Callable[[], np.ndarray]
"""Finds the points of a frontier, as (points, objectives), higher is better."""


@dataclass(frozen=True)
class Case:
    """Points of a kind, so many or a few more; as a question to servegrid, and as an array for others."""

    kind: str
    objectives: int
    wanted: float

    @property
    def question(self) -> dict[str, Any]:
        """Keywords of `servegrid.pareto`."""
        if self.kind == SWEEP:
            signs = dict(list(_SWEPT.items())[: self.objectives])
            axes = dict(of_size(self.wanted, list(signs)).axes)
            fixed = {"page_size": 16, "efficiency": 0.5}
            values = {name: value for name, value in fixed.items() if name not in axes}
            ways = {way: [name for name, sign in signs.items() if sign == of] for way, of in _WAYS.items()}
            return {"axes": axes, "values": values, "outputs": list(signs), **ways}
        points = self._cloud
        names = [f"objective_{number}" for number in range(1, self.objectives + 1)]
        columns = {name: ("point", np.ascontiguousarray(points[:, place])) for place, name in enumerate(names)}
        return {"grid": xr.Dataset(columns), "outputs": [], "maximize": names}

    @property
    def points(self) -> np.ndarray:
        """The points that count, as (points, objectives), higher is better."""
        if self.kind != SWEEP:
            return self._cloud
        words = {key: value for key, value in self.question.items() if key not in _WAYS}
        dataset = sg.sweep(**words)
        columns = xr.broadcast(dataset.feasible, *(sign * dataset[name] for name, sign in self._signs))
        fits = columns[0].values
        return np.stack([column.values[fits] for column in columns[1:]], axis=1)

    @property
    def _signs(self) -> Sequence[tuple[str, int]]:
        return list(_SWEPT.items())[: self.objectives]

    @property
    def size(self) -> int:
        """How many points there are."""
        return (
            of_size(self.wanted, [name for name, _ in self._signs]).points if self.kind == SWEEP else int(self.wanted)
        )

    @property
    def _cloud(self) -> np.ndarray:
        return CLOUDS[self.kind](int(self.wanted), self.objectives)


_WAYS = {"maximize": 1, "minimize": -1}

# --- contenders ---------------------------------------------------------------------------------------------------


def ask_servegrid(question: Mapping[str, Any]) -> np.ndarray:
    """Streamed where it is a sweep, from memory where it is a cloud."""
    answer = sg.pareto(**question, threads=_THREADS)
    ways = {name: variable.attrs["direction"] for name, variable in answer.items() if "direction" in variable.attrs}
    return np.stack([_WAYS[way] * answer[name].values for name, way in ways.items()], axis=1)


def ask_paretoset(points: np.ndarray) -> np.ndarray:
    """Numba loops over blocks; of equal points it keeps one, as we do."""
    flags = import_module("paretoset").paretoset(points, sense=["max"] * points.shape[1], use_numba=True)
    return np.asarray(points[flags])


def ask_pymoo(points: np.ndarray) -> np.ndarray:
    """What its sorting begins with, compiled; all of equal points are kept, and lower is better: `-` is timed, too."""
    places = import_module("pymoo.util.nds.non_dominated_sorting").find_non_dominated(-points)
    return np.asarray(points[places])


RIVALS = {
    name: function
    for name, function in {"paretoset": ask_paretoset, "pymoo": ask_pymoo}.items()
    if find_spec(name) is not None
}


# --- measuring ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """Seconds of each contender that took part; all of them found the same frontier of so many points."""

    kind: str
    objectives: int
    points: int
    frontier: int
    seconds: Mapping[str, float]

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the fastest rival servegrid is."""
        rivals = [seconds for name, seconds in self.seconds.items() if name != SERVEGRID]
        return min(rivals) / self.seconds[SERVEGRID] if rivals and SERVEGRID in self.seconds else None


def measure(case: Case, names: Sequence[str], rounds: int) -> Outcome:
    """Everybody once to warm up and to be compared, then in turn; where there is one round, the first call counts."""
    runs: dict[str, Find] = {}
    if SERVEGRID in names:
        runs[SERVEGRID] = partial(ask_servegrid, case.question)
    rivals = [name for name in names if name in RIVALS]
    points = case.points if rivals else np.empty((0, case.objectives))
    runs |= {name: partial(RIVALS[name], points) for name in rivals}
    best, fronts = {}, {}
    for name, run in runs.items():
        best[name], fronts[name] = _timed(run)
    for _ in range(rounds - 1):
        best |= {name: min(best[name], _timed(run)[0]) for name, run in runs.items()}
    return Outcome(case.kind, case.objectives, case.size, same(fronts), best)


def _timed(run: Find) -> tuple[float, np.ndarray]:
    started = perf_counter()
    found = run()
    return perf_counter() - started, found


def same(fronts: Mapping[str, np.ndarray]) -> int:
    """The size of the frontier; ArithmeticError unless all are the same set of points, and ours has none twice."""
    sets = {name: np.unique(front, axis=0) for name, front in fronts.items()}
    first, expected = next(iter(sets.items()))
    for name, found in sets.items():
        if not np.array_equal(found, expected):
            raise ArithmeticError(f"{name}: {len(found)} distinct points, but {first}: {len(expected)}, or others")
    if SERVEGRID in fronts and len(fronts[SERVEGRID]) > len(expected):
        raise ArithmeticError(f"{SERVEGRID}: equal points are kept twice")
    return len(expected)


def outcomes(sizes: Sequence[float], objectives: Sequence[int], kinds: Sequence[str]) -> Iterator[Outcome]:
    """Case after case, small ones first; whoever was too slow sits out of what is larger."""
    for kind in kinds:
        for number in objectives:
            names = [SERVEGRID, *RIVALS]
            for size in sizes:
                if (kind == SWEEP and number > len(_SWEPT)) or size * number > MOST_NUMBERS or not names:
                    continue
                found = measure(Case(kind, number, size), names, ROUNDS if size <= 1e7 else 1)
                names = [
                    name for name, seconds in found.seconds.items() if seconds < (MUCH if name == SERVEGRID else ENOUGH)
                ]
                yield found


# --- show ---------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Outcome]) -> Table:
    """Seconds of each; the last column compares with the fastest rival."""
    names = [SERVEGRID, *RIVALS]
    shown = markdown("points", "objectives", "of them", "frontier", *(f"{name}, s" for name in names), "times as fast",
                     left=("points",))  # fmt: skip
    for row in rows:
        seconds = [f"{row.seconds[name]:.3f}" if name in row.seconds else "-" for name in names]
        ratio = "-" if row.ratio is None else f"{row.ratio:.1f}"
        shown.add_row(row.kind, str(row.objectives), f"{row.points:,}", f"{row.frontier:,}", *seconds, ratio)
    return shown


def verdicts(rows: Sequence[Outcome]) -> Table:
    """The slowest kind of 10^8 points, by number of objectives."""
    shown = markdown("10^8 points", "slowest, s", "figure", "", left=("10^8 points", ""))
    for objectives, most in MOST_SECONDS.items():
        large = [row for row in rows if row.objectives == objectives and row.points >= 1e8]
        taken = [row.seconds[SERVEGRID] for row in large if SERVEGRID in row.seconds]
        if taken:
            verdict = "[green]met[/green]" if max(taken) <= most else "[red]not met[/red]"
            shown.add_row(f"{objectives} objectives", f"{max(taken):.1f}", str(most), verdict)
    return shown


@click.command()
@click.option("--tiny", is_flag=True, help="Thousands of points in place of up to 10^8.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), default=KINDS, help="Which points.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all figures to this file, too.")
def main(tiny: bool, kinds: tuple[str, ...], file: Path | None) -> None:
    """Find frontiers in several ways, and compare: the points first, then the time."""
    console, rows = open_console(), []
    list(outcomes([1000], OBJECTIVES, kinds))  # compiles
    for row in outcomes([1000, 3000] if tiny else SIZES, OBJECTIVES, kinds):
        console.print(
            f"{row.kind}, {row.objectives} objectives, {row.points:,}: {row.frontier:,}, {row.seconds}", style="dim"
        )
        rows.append(row)
    console.print(table(rows), verdicts(rows))
    if file is not None:
        file.write_text(
            json.dumps({**setting(PACKAGES), "rows": [{**asdict(row), "ratio": row.ratio} for row in rows]})
        )


if __name__ == "__main__":
    main()
