"""The same grid through servegrid and its peers, in one process and one run: `python -m benchmarks.peers`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks.contenders import CONTENDERS, IN_CACHE, REFERENCE, check
from benchmarks.grid import FULL, OUTPUTS, TINY
from benchmarks.rows import Figure, measure, open_console, report, table, verdicts

PACKAGES = ("servegrid", "numpy", "numba", "llvmlite", "jax", "mlsysim")

_NUMPY = ("numpy, tuned", "numpy, tuned, warm")
_NUMPY_TILES = ("numpy, tuned, warm, tiles, 1 thread", "numpy, tuned, warm, tiles, 2 threads")
_VECTORIZE = ("numba.vectorize, tuned, warm", "numba.vectorize, tuned, warm, tiles, 2 threads")

FIGURES = (
    Figure("warm, of ndarray.fill", REFERENCE, ("ndarray.fill, warm, 1 thread",), 0.6),
    Figure("warm, of ndarray.fill on two threads", REFERENCE, ("ndarray.fill, warm, 2 threads",), 0.6),
    Figure("warm, of mlsysim", REFERENCE, ("mlsysim, one call per point",), 1e6),
    Figure("warm, of numpy as written", REFERENCE, ("numpy, as written",), 6),
    Figure("warm, of numpy tuned, fresh or warm", REFERENCE, _NUMPY, 6),
    Figure("warm, of numpy tuned and tiled, 1 or 2 threads", REFERENCE, _NUMPY_TILES, 6),
    Figure("warm, of numba.vectorize as written", REFERENCE, ("numba.vectorize, as written, warm",), 6),
    Figure("warm, of numba.vectorize tuned, whole or tiled", REFERENCE, _VECTORIZE, 6),
    Figure("warm, of JAX", REFERENCE, ("JAX, jit",), 3),
    Figure("in cache, of numpy as written", IN_CACHE, ("numpy, as written",), 10),
    Figure("in cache, of numpy tuned, fresh or warm", IN_CACHE, _NUMPY, 10),
    Figure("in cache, of numpy tuned and tiled, 1 or 2 threads", IN_CACHE, _NUMPY_TILES, 10),
)


@click.command()
@click.option("--tiny", is_flag=True, help="A grid of thousands of points in place of 67 million.")
@click.option("--rounds", default=7, show_default=True, help="Times that each contender runs; the best counts.")
@click.option("--only", multiple=True, metavar="TEXT", help="Contenders with this in their name, and servegrid.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all figures to this file, too.")
def main(tiny: bool, rounds: int, only: tuple[str, ...], file: Path | None) -> None:
    """Compute the same grid in many ways, and compare."""
    problem = TINY if tiny else FULL
    wanted = (*only, REFERENCE) if only else ("",)
    chosen = {name: contender for name, contender in CONTENDERS.items() if any(text in name for text in wanted)}
    console = open_console()
    console.print(f"{problem.points:,} points, {len(OUTPUTS)} outputs, double precision", highlight=False)
    step: Callable[[str], Any] = partial(console.status, spinner="dots")
    with step("do all agree?"):
        check(problem, chosen)
    with step("measuring"):
        rows = measure(problem, rounds, chosen)
    console.print(table(rows, REFERENCE), verdicts(rows, FIGURES))
    if file is not None:
        file.write_text(json.dumps(report(rows, FIGURES, PACKAGES), indent=2))


if __name__ == "__main__":
    main()
