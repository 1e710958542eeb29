"""A question of 10^12 points, in a process that does nothing else: `python -m benchmarks.trillion`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from math import ceil, prod
from pathlib import Path
from time import perf_counter, process_time

import click
import numpy as np

from benchmarks.measure import ROOT, peak_resident
from servegrid.api import load
from servegrid.questions import best
from servegrid.sweepfile import Sweep

FILE = ROOT / "sweeps" / "trillion.yaml"
OBJECTIVE = "throughput"
PER = ("model", "seq_len")  # without the length, the shortest context would always win


@dataclass(frozen=True)
class Asked:
    """What one question took, the imports and the compiler included; of `groups` answers, `found` exist."""

    points: int
    seconds: float
    core_seconds: float  # of all cores; what neighbours on the machine took is not in it
    peak_bytes: int
    groups: int
    found: int
    load: float  # how many threads wanted a core at the end, those of this question among them

    @property
    def rate(self) -> float:
        """Points per second."""
        return self.points / self.seconds


class Percent:
    """Writes to stderr how far a question is: it may take a quarter of an hour."""

    def start(self, points: int, done: int) -> None:
        self.points, self.done = points, done

    def __call__(self, points: int) -> None:
        before = 100 * self.done // self.points
        self.done += points
        if 100 * self.done // self.points > before:
            print(f"\r{100 * self.done // self.points:3} %", end="", file=sys.stderr, flush=True)


def shortened(points: float) -> Sweep:
    """The sweep with about so many of its points: labels are left out evenly, those of outer axes first."""
    sweep = load(FILE)
    axes = dict(sweep.axes)
    for axis, labels in sweep.axes.items():
        share = min(1, points / prod(map(len, axes.values())))
        axes[axis] = labels[_spread(len(labels), ceil(len(labels) * share))]
    return replace(sweep, axes=axes)


def _spread(length: int, kept: int) -> np.ndarray:
    """So many places of an axis, as far from each other and from its ends as can be."""
    return (2 * np.arange(kept) + 1) * length // (2 * kept)


def ask(points: float, threads: int | None = None) -> Asked:
    """Which configuration is best for each model at each length of context?"""
    started, worked = perf_counter(), process_time()
    sweep = shortened(points)
    answer = best(sweep, maximize=OBJECTIVE, per=PER, threads=threads, progress=Percent())
    seconds, core_seconds = perf_counter() - started, process_time() - worked
    print("\r", end="", file=sys.stderr)
    size = prod(map(len, sweep.axes.values()))
    found = int(answer.found.sum())
    return Asked(size, seconds, core_seconds, peak_resident(), answer.found.size, found, os.getloadavg()[0])


def sentence(asked: Asked) -> str:
    """What was measured."""
    minutes = 1e12 / asked.rate / 60
    return (
        f"{asked.points:,} points, best {OBJECTIVE} per {' and '.join(PER)}: {asked.seconds:.1f} s "
        f"({asked.core_seconds:.1f} s of a core), {asked.rate / 1e6:,.0f} Mpoint/s (10^12 in {minutes:.1f} minutes), "
        f"peak {asked.peak_bytes / 2**30:.2f} GiB; {asked.found:,} of {asked.groups:,} have an answer; "
        f"load of the machine {asked.load:.1f}"
    )


@click.command()
@click.option("--points", default=2e12, help="About how many points of the sweep  [default: all, 10^12]")
@click.option("--threads", type=click.IntRange(1), help="Threads  [default: all cores]")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write what was measured to this file, too.")
def main(points: float, threads: int | None, file: Path | None) -> None:
    """Ask sweeps/trillion.yaml, and print time, rate and peak memory."""
    asked = ask(points, threads)
    click.echo(sentence(asked))
    if file is not None:
        file.write_text(json.dumps(asdict(asked), indent=2))


if __name__ == "__main__":
    main()
