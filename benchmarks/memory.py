"""Peak memory of `servegrid run` on a sweep far larger than its budget: `python -m benchmarks.memory`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import click
import psutil  # type: ignore[import-untyped]  # comes with distributed
import yaml

from benchmarks.grid import FULL, OUTPUT_AXES, OUTPUTS, Problem
from benchmarks.measure import in_child, peak_resident
from servegrid.units import to_number

COMMAND = (sys.executable, "-c", "from servegrid.cli import main; main()")
_PAUSE = 0.05  # [s] between two looks at the worker processes


@dataclass(frozen=True)
class Usage:
    """What a command took: [s], [byte], and the bytes that its store has on disk; of each worker process, its peak."""

    seconds: float
    peak_bytes: int
    disk_bytes: int
    worker_peaks: tuple[int, ...] = ()


def of_size(points: float, outputs: Sequence[str] = OUTPUTS) -> Problem:
    """The benchmark's grid with as many batch limits as it takes: at least `points` points, a million at least.

    Axes that none of the outputs has are left out.
    """
    had = {axis for output in outputs for axis in OUTPUT_AXES[output]}
    others = {axis: values for axis, values in FULL.axes.items() if axis in had - {"max_batch_size"}}
    limits = ceil(points / prod(map(len, others.values())))
    return Problem({**others, "max_batch_size": range(1, limits + 1)})


def run(
    problem: Problem, memory: str, folder: Path, options: Sequence[str] = (), words: Mapping[str, Any] | None = None
) -> Usage:
    """`servegrid run` on the problem under `--memory`, with its files in `folder`; `words`: more of the sweep."""
    file, store = folder / "sweep.yaml", folder / "sweep.zarr"
    axes = {axis: list(values) for axis, values in problem.axes.items()}
    file.write_text(yaml.safe_dump({**problem.words, "axes": axes, **(words or {})}, sort_keys=False))
    started = perf_counter()
    command = [*COMMAND, "run", str(file), "--out", str(store), "--memory", memory, *options]
    peak, workers = in_child(_peaks_of, command)  # a small parent: its own size counts until the command's begins
    seconds = perf_counter() - started
    return Usage(seconds, peak, sum(path.stat().st_size for path in store.rglob("*") if path.is_file()), workers)


def _peaks_of(command: Sequence[str]) -> tuple[int, tuple[int, ...]]:
    """Peak resident sizes [byte] of a command, which has to succeed, and of each of its worker processes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        workers = pool.submit(_watch_workers, process.pid, ended)
        _, status, usage = os.wait4(process.pid, 0)
        ended.set()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), workers.result()


def _watch_workers(client: int, ended: threading.Event) -> tuple[int, ...]:
    """The peak of each process that the client has spawned, asked for again and again until the client has ended."""
    peaks: dict[int, int] = {}
    while not ended.wait(_PAUSE):
        with suppress(psutil.Error):
            for process in psutil.Process(client).children(recursive=True):
                # One that ends at this moment has no status any more, or an empty one.
                with suppress(psutil.Error, OSError, StopIteration):
                    if any("spawn_main" in word for word in process.cmdline()):
                        peaks[process.pid] = max(peaks.get(process.pid, 0), _resident(process))
    return tuple(peaks.values())


def _resident(process: psutil.Process) -> int:
    """The largest resident size so far where the system knows it, the one of this moment elsewhere."""
    if Path("/proc/self/status").exists():
        return peak_resident(process.pid)
    return int(process.memory_info().rss)


def sentence(problem: Problem, memory: str, usage: Usage) -> str:
    """What was measured."""
    budget = to_number(memory, "byte")

    def peak(nbytes: int) -> str:
        return f"{nbytes / 2**30:.2f} GiB ({nbytes / budget:.2f} of the budget)"

    workers = f", of the worker processes {' and '.join(map(peak, usage.worker_peaks))}" if usage.worker_peaks else ""
    return (
        f"{problem.points:,} points under --memory {memory}: peak {peak(usage.peak_bytes)}{workers}, "
        f"{usage.seconds:.0f} s, {problem.points / usage.seconds / 1e6:.0f} Mpoint/s, "
        f"{usage.disk_bytes / 1e9:.2f} GB on disk"
    )


@click.command()
@click.option("--points", default=1e9, show_default=True, help="Size of the sweep.")
@click.option("--memory", default="1GiB", show_default=True, help="Budget given to `servegrid run`.")
@click.option("--workers", type=click.IntRange(1), help="Processes that do the work, each under the budget.")
@click.option("--output", "outputs", multiple=True, type=click.Choice(OUTPUTS), default=OUTPUTS, show_default=True)
@click.option("--dtype", type=click.Choice(["float64", "float32"]), default="float64", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path, exists=True), help="Where the store goes for a while.")
@click.argument("options", nargs=-1)
def main(
    points: float,
    memory: str,
    workers: int | None,
    outputs: tuple[str, ...],
    dtype: str,
    folder: Path | None,
    options: tuple[str, ...],
) -> None:
    """Run a sweep under a memory budget and print its peak resident size; OPTIONS go to `servegrid run`."""
    problem = of_size(points, outputs)
    crew = () if workers is None else ("--workers", str(workers))
    with TemporaryDirectory(dir=folder) as made:
        usage = run(problem, memory, Path(made), (*crew, *options), {"outputs": list(outputs), "dtype": dtype})
    click.echo(sentence(problem, memory, usage))


if __name__ == "__main__":
    main()
