"""Runs against the number of chunks, in one process and one run: `python -m benchmarks.running`.

What does `servegrid run` add to computing the numbers, measured in what the compressor and the disk need alone?
"""

from __future__ import annotations

import json
import os
import platform
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from math import ceil, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import click
import numpy as np
import xarray as xr
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.grid import ACCELERATORS, MODELS, PRECISIONS, Problem
from benchmarks.run_contenders import (
    CONTENDERS,
    EVALUATE,
    FILES,
    FOLDERS,
    MEMORY,
    RUN,
    TO_ZARR,
    Case,
    Hands,
    chunk_path,
)
from servegrid import planning
from servegrid.api import load
from servegrid.blocks import total_bytes
from servegrid.crews import crew
from servegrid.planning import make_plan
from servegrid.sweepfile import Sweep

PACKAGES = ("servegrid", "numpy", "numba", "xarray", "zarr", "numcodecs", "dask", "distributed")
KINDS = ("threads", "workers")  # the words of `servegrid run`

# Each has all axes that are ever cut: as many chunks as blocks. With `feasible`, which belongs to them, they are five.
OUTPUTS = ("throughput", "ttft", "itl", "max_active_requests")
_CUT = {
    "model": MODELS[:10],
    "hardware": ACCELERATORS[:10],
    "precision": PRECISIONS,
    "seq_len": [1000 * count for count in range(1, 51)],
}
_WHOLE = {"page_size": [1, 8, 16, 32, 64, 128, 256, 512]}

MOST_OVERHEAD = 0.25  # of the time of the compressor and the disk
ENOUGH = 60  # [s] a contender that takes longer has one turn


def of_size(points: float) -> Sweep:
    """A sweep of at least so many points: the product of 10, 10, 4, 50, 8 and as many batch limits as it takes."""
    limits = ceil(points / prod(map(len, (*_CUT.values(), *_WHOLE.values()))))
    problem = Problem({**_CUT, **_WHOLE, "max_batch_size": [8 * count for count in range(1, limits + 1)]})
    return load(**{**problem.words, "outputs": list(OUTPUTS)}, values={"efficiency": 0.5})


@contextmanager
def cut(sweep: Sweep, hands: Hands, chunks: int) -> Iterator[Case]:
    """The sweep in about so many chunks, in a context in which every run cuts it so.

    A run chooses blocks of 1 to 64 MiB; here both bounds are the share of one block.
    """
    bounds = planning.SMALLEST_REGION, planning.LARGEST_REGION
    plan = make_plan(sweep)
    total = total_bytes(plan.evaluator.outputs.values(), plan.parameters.sizes)
    planning.SMALLEST_REGION = planning.LARGEST_REGION = total // max(1, round(chunks / len(plan.evaluator.outputs)))
    try:
        yield Case(make_plan(sweep, MEMORY, hands.crew), hands)
    finally:
        planning.SMALLEST_REGION, planning.LARGEST_REGION = bounds


# --- do all keep the same? ----------------------------------------------------------------------------------------


def check(case: Case) -> None:
    """All contenders keep the same bits; which warms them up, too. ArithmeticError where they differ."""
    with TemporaryDirectory() as made:
        kept = {name: Path(made) / str(number) for number, name in enumerate(CONTENDERS)}
        done = {name: CONTENDERS[name](case, folder) for name, folder in kept.items()}
        plan = case.plan
        expected = {name: np.asarray(array) for name, array in plan.evaluator.grid().items()}
        numbers = sum(array.size for array in expected.values())
        if done[EVALUATE] != numbers:
            raise ArithmeticError(f"{EVALUATE}: {done[EVALUATE]} numbers, expected {numbers}")
        for name in (RUN, TO_ZARR):
            _check_store(name, kept[name], expected)
        for name in (FILES, FOLDERS):
            _check_files(case, name, kept[name], kept[RUN])


def _check_store(name: str, folder: Path, expected: Mapping[str, np.ndarray]) -> None:
    with xr.open_zarr(folder) as stored:
        for output, values in expected.items():
            if stored[output].values.tobytes() != values.tobytes():
                raise ArithmeticError(f"{name}: {output} is not what was computed")


def _check_files(case: Case, name: str, folder: Path, store: Path) -> None:
    """Byte for byte the chunks of servegrid's store."""
    blocks, separator = case.plan.blocks, "-" if name == FILES else "/"
    found = sum(path.is_file() for path in folder.rglob("*"))
    if found != case.chunks:
        raise ArithmeticError(f"{name}: {found:,} files, expected {case.chunks:,}")
    for output, variable in case.plan.evaluator.outputs.items():
        for index in range(len(blocks)):
            one = Path(chunk_path(folder, output, blocks, variable, index, separator))
            other = Path(chunk_path(store, output, blocks, variable, index, "/"))
            if one.read_bytes() != other.read_bytes():
                raise ArithmeticError(f"{name}: {one} is not as {other}")


# --- how fast are they? -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What was measured of one contender."""

    contender: str
    hands: str
    points: int
    blocks: int
    chunks: int
    seconds: float
    disk_bytes: int

    @property
    def rate(self) -> float:
        """Points per second."""
        return self.points / self.seconds

    @property
    def figures(self) -> dict[str, Any]:
        """Everything, for other programs."""
        return {
            **asdict(self),
            "points_per_second": self.rate,
            "ms_per_block": 1e3 * self.seconds / self.blocks,
            "ms_per_chunk": 1e3 * self.seconds / self.chunks,
        }


def measure(case: Case, rounds: int, names: Sequence[str], folder: Path | None = None) -> list[Row]:
    """The best of some rounds; in each, everybody has a turn, in another order."""
    if {FILES, FOLDERS}.intersection(names):
        _ = case.held
    best = dict.fromkeys(names, float("inf"))
    nbytes = dict.fromkeys(names, 0)
    order = random.Random(20230917)
    for turn in range(rounds):
        for name in order.sample(names, len(names)):
            if turn == 0 or best[name] < ENOUGH:
                seconds, nbytes[name] = _once(case, name, folder)
                best[name] = min(best[name], seconds)
    plan = case.plan
    cut = plan.points, len(plan.blocks), case.chunks
    return [Row(name, case.hands.crew.title, *cut, best[name], nbytes[name]) for name in names]


def _once(case: Case, name: str, folder: Path | None) -> tuple[float, int]:
    """Seconds of one turn, and what it left on the disk [byte]."""
    with TemporaryDirectory(dir=folder) as made:
        if hasattr(os, "sync"):
            os.sync()  # what others left to be written is none of this one's business
        started = perf_counter()
        CONTENDERS[name](case, Path(made) / "kept")
        seconds = perf_counter() - started
        return seconds, sum(path.stat().st_size for path in Path(made).rglob("*") if path.is_file())


@dataclass(frozen=True)
class Figure:
    """What a run adds to computing, beyond what the compressor and the disk need, in parts of that."""

    hands: str
    chunks: int
    overhead: float

    @property
    def is_met(self) -> bool:
        return self.overhead <= MOST_OVERHEAD


def figures(rows: Sequence[Row]) -> list[Figure]:
    """One for each case that has all that it takes."""
    cases: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        cases.setdefault((row.hands, row.chunks), {})[row.contender] = row.seconds
    return [
        Figure(*key, (seconds[RUN] - seconds[EVALUATE]) / seconds[FILES] - 1)
        for key, seconds in cases.items()
        if {RUN, EVALUATE, FILES} <= seconds.keys()
    ]


# --- show ---------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> Table:
    """The rows as people read them."""
    shown = Table(box=MARKDOWN, header_style="bold")
    for column in ("chunks", "blocks", "hands", "", "s", "Mpoint/s", "ms per block", "ms per chunk", "disk, MB"):
        shown.add_column(column, justify="left" if column in ("hands", "") else "right")
    for row in rows:
        shown.add_row(
            f"{row.chunks:,}",
            f"{row.blocks:,}",
            row.hands,
            row.contender,
            f"{row.seconds:.3f}",
            f"{row.rate / 1e6:,.2f}",
            f"{1e3 * row.seconds / row.blocks:,.2f}",
            f"{1e3 * row.seconds / row.chunks:,.3f}",
            f"{row.disk_bytes / 1e6:,.1f}" if row.disk_bytes else "-",
        )
    return shown


def verdicts(found: Sequence[Figure]) -> Table:
    """Each figure, and whether this run reached it."""
    shown = Table(box=MARKDOWN, header_style="bold")
    for column in ("chunks", "hands", f"({RUN} - {EVALUATE}) / {FILES} - 1", "figure", ""):
        shown.add_column(column, justify="left" if column in ("hands", "") else "right")
    for figure in found:
        verdict = "[green]met[/green]" if figure.is_met else "[red]not met[/red]"
        shown.add_row(
            f"{figure.chunks:,}", figure.hands, f"{figure.overhead:+,.0%}", f"{MOST_OVERHEAD:.0%} at most", verdict
        )
    return shown


def report(rows: Sequence[Row]) -> dict[str, Any]:
    """The same, and where it was measured, for other programs."""
    return {
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {package: version(package) for package in PACKAGES},
        "rows": [row.figures for row in rows],
        "figures": [{**asdict(figure), "met": figure.is_met} for figure in figures(rows)],
    }


@click.command()
@click.option("--points", default=8e6, show_default=True, help="Size of the sweep.")
@click.option("--chunks", multiple=True, type=click.IntRange(1), default=(10, 1000, 10_000), show_default=True)
@click.option("--workers", multiple=True, type=click.IntRange(1), default=(1, 2), show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), default=KINDS, show_default=True)
@click.option("--rounds", default=2, show_default=True, help=f"Turns of each; one where it takes {ENOUGH} s.")
@click.option("--skip", multiple=True, metavar="TEXT", help="No rows such as 'to_zarr, 2 processes, 10,000 chunks'.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True), help="Where stores go for a while.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all figures to this file, too.")
def main(
    points: float,
    chunks: tuple[int, ...],
    workers: tuple[int, ...],
    kinds: tuple[str, ...],
    rounds: int,
    skip: tuple[str, ...],
    folder: Path | None,
    file: Path | None,
) -> None:
    """Keep the same sweep in few chunks and in many, by threads and by processes, and compare."""
    sweep, small = of_size(points), of_size(1)
    console = Console(width=None if Console().is_terminal else 200)
    rows: list[Row] = []
    for kind, count in product(kinds, workers):
        with crew(threads=count) if kind == "threads" else crew(workers=count) as team:
            hands = Hands(team)
            with cut(small, hands, 10) as case:
                check(case)
            for number in chunks:
                with cut(sweep, hands, number) as case:
                    label = f"{team.title}, {number:,} chunks"
                    names = [name for name in CONTENDERS if not any(text in f"{name}, {label}" for text in skip)]
                    with console.status(label, spinner="dots"):
                        found = measure(case, rounds, names, folder)
                console.print(f"{label}:", ", ".join(f"{row.contender} {row.seconds:.2f} s" for row in found))
                rows += found
    rows.sort(key=lambda row: row.chunks)  # stable: the rest stays in order
    console.print(table(rows), verdicts(figures(rows)))
    if file is not None:
        file.write_text(json.dumps(report(rows), indent=2))


if __name__ == "__main__":
    main()
