"""One question of the grid, answered in many ways, in one process and one run: `python -m benchmarks.asking`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click

from benchmarks.contenders import Contender
from benchmarks.grid import FULL, TINY, Problem
from benchmarks.question import LARGE, OBJECTIVE, PER, WHERE, disagreement
from benchmarks.rows import Figure, Row, measure, open_console, report, table, verdicts

PACKAGES = ("servegrid", "numpy", "numba", "jax", "xarray", "dask", "zarr")

REFERENCE = "servegrid, streamed, 2 threads"
WRITTEN = "numpy, as written"
TILES = ("numpy, tuned, tiles, 1 thread", "numpy, tuned, tiles, 2 threads")
BY_HAND = "numpy, tuned, tiles, efficiency last, 2 threads"
JAX = ("JAX, jit", "JAX, jit, maximum without its place")
STORED = ("store first, then xarray", "xarray, of a store", "servegrid.best, of a store, 2 threads")

# Nobody writes the grid's outputs; those who store something store it for themselves.
_add = partial(Contender, writes=False)
_ALL = (
    _add(WRITTEN, "ask_numpy", "written"),
    _add(TILES[0], "ask_numpy", "tiles", ("threads",), 1),
    _add(TILES[1], "ask_numpy", "tiles", ("threads",), 2),
    _add(BY_HAND, "ask_numpy", "by_hand", ("threads",), 2),
    _add(JAX[0], "ask_jax", "best"),
    _add(JAX[1], "ask_jax", "highest"),
    _add(STORED[0], "ask_xarray", "store_first"),
    _add(STORED[1], "ask_xarray", "stored"),
    _add(STORED[2], "ask_servegrid", "stored", ("threads",), 2),
    _add("servegrid, streamed, 1 thread", "ask_servegrid", "streamed", ("threads",), 1),
    _add(REFERENCE, "ask_servegrid", "streamed", ("threads",), 2),
)
CONTENDERS = {contender.name: contender for contender in _ALL if contender.available}

FIGURES = (
    Figure("streamed, of numpy as written", REFERENCE, (WRITTEN,), 8),
    Figure("streamed, of numpy tuned and tiled, 1 or 2 threads", REFERENCE, TILES, 8),
    Figure("streamed, of numpy that leaves out an axis by hand", REFERENCE, (BY_HAND,), 8),
    Figure("streamed, of JAX, maximum and place", REFERENCE, JAX[:1], 5),
    Figure("streamed, of JAX, maximum alone", REFERENCE, JAX[1:], 5),
    Figure("streamed, of storing first and xarray", REFERENCE, STORED[:1], 1),
    Figure("streamed, of xarray, without the time to store", REFERENCE, STORED[1:2], 1),
)


def check(problem: Problem, contenders: Mapping[str, Contender]) -> None:
    """Raise ArithmeticError unless all of them have the same winners."""
    expected = CONTENDERS[REFERENCE].prepare(problem, {})()
    for name, contender in contenders.items():
        if contender.function != "highest":
            found = disagreement(contender.prepare(problem, {})(), expected)
            if found:
                raise ArithmeticError(f"{name}: {found}")


def compared(problem: Problem, rounds: int, names: Mapping[str, Contender]) -> dict[str, Row]:
    """The contenders on one grid, after they agreed."""
    check(problem, names)
    return measure(problem, rounds, names)


@click.command()
@click.option("--tiny", is_flag=True, help="A grid of thousands of points in place of 67 and 268 million.")
@click.option("--rounds", default=5, show_default=True, help="Times that each contender runs; the best counts.")
@click.option("--only", multiple=True, metavar="TEXT", help="Contenders with this in their name, and servegrid.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all figures to this file, too.")
def main(tiny: bool, rounds: int, only: tuple[str, ...], file: Path | None) -> None:
    """Ask for the best configurations in many ways, and compare."""
    wanted = (*only, REFERENCE) if only else ("",)
    chosen = {name: contender for name, contender in CONTENDERS.items() if any(text in name for text in wanted)}
    # Storing four times as much only takes four times as long.
    quick = {name: contender for name, contender in chosen.items() if name not in STORED}
    console, reports = open_console(), []
    for problem, names in ((TINY, chosen),) if tiny else ((FULL, chosen), (LARGE, quick)):
        console.print(f"{problem.points:,} points: best {OBJECTIVE} per {' and '.join(PER)} where {WHERE}")
        with console.status("measuring"):
            rows = compared(problem, rounds, names)
        console.print(table(rows, REFERENCE), verdicts(rows, FIGURES))
        reports.append({"points": problem.points, **report(rows, FIGURES, PACKAGES)})
    if file is not None:
        file.write_text(json.dumps({"grids": reports}, indent=2))


if __name__ == "__main__":
    main()
