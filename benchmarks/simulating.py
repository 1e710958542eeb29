"""How fast simulations are: `python -m benchmarks.simulating`.

The Azure conversation trace on one server under each scheduler, a server that is short of memory, a lone client; then
the same in plain Python and by Vidur, in the same run. Vidur needs a Python of its own (`pip install vidur==0.0.26`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.table import Table

from benchmarks.ask_vidur import SCHEDULERS as VIDUR_SCHEDULERS
from benchmarks.ask_vidur import ask
from benchmarks.measure import best_seconds, in_child
from benchmarks.rows import markdown, open_console, setting
from benchmarks.simulations import CASES, Case, Ran, best, run, seconds_to_compile
from benchmarks.with_python import in_lists, in_python
from servegrid.evaluate import Evaluator

PACKAGES = ("servegrid", "numpy", "numba")
VIDUR_VARIABLE = "VIDUR_PYTHON"
FRONTEND = 0.021  # s: in our time to first token, which Vidur's begins behind
PASS_RATE = 2e6  # passes per second and core
TIMES_REAL = 1e4
SAME = 1e-12  # compiled code adds a mean up one by one, numpy in pairs
TINY = 20  # requests

SERVEGRID, LISTS, RECORDS = "servegrid", "plain Python, lists and dictionaries", "plain Python, numpy's records"
VIDUR, NATIVE = "Vidur 0.0.26", "Vidur 0.0.26, predictor in C++"


@dataclass(frozen=True)
class Row:
    """What was measured of one simulation."""

    name: str
    case: Case
    ran: Ran

    @property
    def requests(self) -> int:
        return int(self.case.workload["requests"])

    @property
    def figures(self) -> dict[str, Any]:
        """Everything, for other programs."""
        return {
            "name": self.name,
            "scheduler": self.case.scheduler,
            "requests": self.requests,
            "seconds": self.ran.seconds,
            "passes_per_second": self.ran.pass_rate,
            "times_real": self.ran.times_real,
            "requests_per_second": self.requests / self.ran.seconds,
            **self.ran.found,
        }


def of_cases(rounds: int, requests: int | None) -> list[Row]:
    """Each case on one thread, the best of some rounds; `requests`: so many of each at most."""
    cases = [case.few(min(requests, case.workload["requests"])) if requests else case for case in CASES]
    return [Row(case.name, case, best(case.evaluator(), rounds)) for case in cases]


def of_rivals(scheduler: str, rounds: int, plain: int, simulated: int, vidur: str | None) -> list[Row]:
    """The first requests of the trace by us, in plain Python, and by Vidur; ArithmeticError where Python differs."""
    few, more = (Case("trace", scheduler).few(requests) for requests in (plain, simulated))
    evaluator = few.evaluator()
    rows = [Row(SERVEGRID, few, best(evaluator, rounds))]
    for name, kernel in ((LISTS, in_lists), (RECORDS, in_python)):
        rows.append(Row(name, few, run(evaluator, kernel)))
        check(rows[0].ran.found, rows[-1])
    if vidur is not None:
        evaluator = more.evaluator()
        rows.append(Row(SERVEGRID, more, best(evaluator, rounds)))
        for name, native in ((VIDUR, False), (NATIVE, True)):
            rows.append(Row(name, more, ask(vidur, evaluator, scheduler, native)))
    return rows


def check(expected: Mapping[str, float], row: Row) -> None:
    """Whether plain Python simulated the same."""
    for name, value in expected.items():
        if abs(row.ran.found[name] - value) > SAME * abs(value):
            raise ArithmeticError(f"{row.name}: {name} is {row.ran.found[name]!r}, expected {value!r}")


def scaling(evaluator: Evaluator, rounds: int) -> float:
    """How many times as fast two threads are as one."""
    runs = {str(threads): lambda threads=threads: evaluator.grid(threads) for threads in (1, 2)}
    seconds = best_seconds(runs, rounds)
    return seconds["1"] / seconds["2"]


def compile_times(case: Case) -> dict[str, float]:
    """Seconds to compile, each in a process of its own."""
    with TemporaryDirectory() as folder:
        return {
            "cold": in_child(seconds_to_compile, folder, case),
            "another sweep, the simulation in the cache": in_child(seconds_to_compile, folder, case, 2),
            "all in the cache": in_child(seconds_to_compile, folder, case),
        }


# --- show ---------------------------------------------------------------------------------------------------------


def table_of_cases(rows: list[Row]) -> Table:
    """One row for each case."""
    shown = markdown(
        *("", "scheduler", "requests", "run at once", "preempted, times", "passes", "s", "Mpasses/s"),
        *("times real time", "requests/s"),
        left=("", "scheduler"),
    )
    for row in rows:
        found = row.ran.found
        shown.add_row(
            *(row.name, row.case.scheduler, f"{row.requests:,}", f"{found['active_requests']:,.1f}"),
            *(f"{found['preemptions']:.2f}", f"{found['passes']:,.0f}", f"{row.ran.seconds:.4f}"),
            *(f"{row.ran.pass_rate / 1e6:,.2f}", f"{row.ran.times_real:,.0f}"),
            f"{row.requests / row.ran.seconds:,.0f}",
        )
    return shown


def table_of_rivals(rows: list[Row]) -> Table:
    """Each beside ours of as many requests."""
    shown = markdown(
        *("", "scheduler", "requests", "passes", "s", "passes/s", "times real time", "slower, times"),
        *("TTFT, ms", "TPOT, ms"),
        left=("", "scheduler"),
    )
    ours: dict[tuple[str, int], Ran] = {}
    for row in rows:
        own = ours.setdefault((row.case.scheduler, row.requests), row.ran)
        ttft = row.ran.found["ttft"] - (0 if row.name in (VIDUR, NATIVE) else FRONTEND)
        shown.add_row(
            *(row.name, row.case.scheduler, f"{row.requests:,}", f"{row.ran.found['passes']:,.0f}"),
            *(f"{row.ran.seconds:.4f}", f"{row.ran.pass_rate:,.0f}", f"{row.ran.times_real:,.0f}"),
            f"{own.pass_rate / row.ran.pass_rate:,.0f}",
            *(f"{1e3 * ttft:.1f}", f"{1e3 * row.ran.found['tpot']:.2f}"),
        )
    return shown


def verdicts(rows: list[Row]) -> Table:
    """The slowest scheduler on the trace, and all of them together, beside the figures to reach."""
    traced = [row.ran for row in rows if row.name == "trace"]
    seconds = sum(ran.seconds for ran in traced)
    shown = markdown("the trace", "slowest", "all schedulers", "figure", "", left=("the trace", ""))
    for what, rate, amount, figure in (
        ("passes per second and core", "pass_rate", "passes", PASS_RATE),
        ("times real time", "times_real", "simulated_time", TIMES_REAL),
    ):
        slowest = min(getattr(ran, rate) for ran in traced)
        mean = sum(ran.found[amount] for ran in traced) / seconds
        verdict = "[green]met[/green]" if slowest >= figure else "[red]not met[/red]"
        shown.add_row(what, f"{slowest:,.0f}", f"{mean:,.0f}", f"{figure:,.0f}", verdict)
    return shown


@click.command()
@click.option("--tiny", is_flag=True, help=f"{TINY} requests of each.")
@click.option("--rounds", default=5, show_default=True, help="Times that each of ours runs; the best counts.")
@click.option("--plain", default=500, show_default=True, help="Requests in plain Python.")
@click.option("--simulated", default=3000, show_default=True, help="Requests in Vidur.")
@click.option("--vidur-python", envvar=VIDUR_VARIABLE, help=f"A Python with vidur 0.0.26; or ${VIDUR_VARIABLE}.")
@click.option("--compile/--no-compile", "compiled", default=True, help="Time the compilation, too (a minute).")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all figures to this file, too.")
def main(
    tiny: bool, rounds: int, plain: int, simulated: int, vidur_python: str | None, compiled: bool, file: Path | None
) -> None:
    """Time simulations, and compare."""
    console = open_console()
    if vidur_python is None:
        console.print(f"Vidur: not installed (--vidur-python, or ${VIDUR_VARIABLE})")
    elif not os.access(vidur_python, os.X_OK):
        raise click.BadParameter(f"{vidur_python} is no program", param_hint="--vidur-python")
    cases = of_cases(rounds, TINY if tiny else None)
    console.print(f"One thread, load {setting(())['load']:.1f}", table_of_cases(cases), verdicts(cases))
    sizes = (TINY, TINY) if tiny else (plain, simulated)
    rivals = [row for name in VIDUR_SCHEDULERS for row in of_rivals(name, rounds, *sizes, vidur_python)]
    console.print(f"Load {setting(())['load']:.1f}", table_of_rivals(rivals))
    example = Case("trace", "chunked").few(TINY) if tiny else Case("trace", "chunked")
    twice = scaling(example.evaluator(seeds=16), rounds)
    console.print(f"Two threads are {twice:.2f} times as fast as one (16 simulations of the trace).")
    seconds = compile_times(example) if compiled else {}
    for name, value in seconds.items():
        console.print(f"Compiling, {name}: {value:.2f} s")
    if file is not None:
        figures = {"cases": cases, "rivals": rivals}
        found = {name: [row.figures for row in rows] for name, rows in figures.items()}
        file.write_text(json.dumps({**setting(PACKAGES), **found, "two_threads": twice, "compile": seconds}, indent=2))


if __name__ == "__main__":
    main()
