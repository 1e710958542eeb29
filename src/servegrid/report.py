"""What the command line prints: plans, progress, summaries of runs, answers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import xarray as xr
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from servegrid import findings, show
from servegrid.parameters import FEASIBLE, unknown_facts
from servegrid.planning import Plan
from servegrid.runner import Report
from servegrid.sheet import Sheet
from servegrid.summary import Summary
from servegrid.sweepfile import SELECTED, Sweep
from servegrid.tables import Rows
from servegrid.verification import Verdict


def print_plan(console: Console, plan: Plan) -> None:
    """Points, shapes, bytes and chunks."""
    sizes = plan.parameters.sizes
    sweep = plan.parameters.sweep
    _print_title(console, sweep)
    shape = " x ".join(f"{axis} {size:,}" for axis, size in sizes.items())
    rounded = f" ({show.count(plan.points)})" if plan.points >= 10**6 else ""
    console.print(f"{show.counted(plan.points, 'point')}{rounded} = {shape or 'one configuration'}", highlight=False)
    rows = []
    for name, variable in plan.evaluator.outputs.items():
        nbytes = variable.nbytes(sizes)
        chunk = " x ".join(map(str, variable.shape(plan.blocks.block)))
        unit = plan.parameters.graph.quantity(name).unit
        count = f"{nbytes // variable.itemsize:,}"
        axes = " x ".join(variable.axes) or "-"
        rows.append([name, unit, axes, count, show.number(nbytes, "byte"), chunk or "-"])
    columns = ["output", "unit", "axes", "values", "bytes", "chunk"]
    console.print(Sheet("", columns, rows, right=["values", "bytes"]))
    console.print(
        f"{show.number(plan.stored_bytes, 'byte')} before compression, in {show.counted(len(plan.blocks), 'region')} "
        f"of {show.number(plan.region_bytes, 'byte')} at most, on {plan.crew.title}",
        highlight=False,
    )
    _print_notes(console, plan)


def _print_title(console: Console, sweep: Sweep) -> None:
    print_line(console, sweep.name, f"  {sweep.question}" if sweep.question else "")


def print_line(console: Console, lead: str, rest: str, style: str = "bold") -> None:
    """A line as it is: what users wrote is no markup."""
    console.print(Text.assemble((lead, style), rest))


def _print_notes(console: Console, plan: Plan) -> None:
    for axis in plan.parameters.idle_axes:
        print_line(console, "note:", f" no output depends on the axis {axis}", "yellow")
    for name, labels in unknown_facts(plan.parameters).items():
        shown = ", ".join(labels[:6]) + (f" and {len(labels) - 6} more" if len(labels) > 6 else "")
        print_line(console, "note:", f" the catalogue has no {name} of {shown}: NaN there", "yellow")


MOST_FAULTS = 20  # that are shown


class _Rate(ProgressColumn):
    """Points per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{show.count(speed)}/s" if speed else "", style="progress.data.speed")


class _Points(ProgressColumn):
    """Points so far, of all."""

    def render(self, task: Task) -> Text:
        total = f" of {show.count(task.total)}" if task.total else ""
        return Text(f"{show.count(task.completed)}{total} points", style="progress.download")


class ProgressBar:
    """A progress bar that learns of finished points from any thread."""

    def __init__(self, progress: Progress, work: str) -> None:
        self.progress, self.work = progress, work
        self.task = progress.add_task("starting, compiling what is new", total=None)
        self._lock = threading.Lock()

    def start(self, points: int, done: int) -> None:
        """The work begins; so many points are stored already."""
        self.progress.reset(self.task, total=points, completed=done, description=self.work)

    def then(self, work: str) -> ProgressBar:
        """The same bar for the work that comes next."""
        self.work = work
        return self

    def __call__(self, points: int) -> None:
        """So many more points are finished."""
        with self._lock:
            self.progress.advance(self.task, points)


@contextmanager
def progress_bar(console: Console, work: str = "computing") -> Iterator[ProgressBar]:
    """A progress bar on the console, gone when the work is done."""
    bar = BarColumn(bar_width=20)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), bar, _Points(), _Rate(), TimeRemainingColumn())
    # rich prints an empty line where it may not draw
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield ProgressBar(progress, work)


def print_run(console: Console, done: Report, summary: Summary | None) -> None:
    """What a run did, and what its sweep holds; a part is not summed up."""
    plan, sweep = done.plan, done.plan.parameters.sweep
    _print_title(console, sweep)
    if summary is not None:
        _print_summary(console, done, summary)
    _print_notes(console, plan)
    if done.grown:
        print_line(console, "note:", f" the store was extended: {done.grown}", "yellow")
    for line in _work(done):
        console.print(line, highlight=False)
    size = f"{show.number(done.disk_bytes, 'byte')} on disk for {show.number(plan.stored_bytes, 'byte')} of results"
    if done.missing:
        print_line(
            console, f"part {done.part.number} of {done.part.of} is done" if done.part else "",
            f"; {done.missing:,} of {done.chunks:,} chunks are missing, which other parts compute",
        )  # fmt: skip
    else:
        print_line(console, str(done.place), f"  {size}; open it with xarray.open_zarr({str(done.place)!r})")


def _print_summary(console: Console, done: Report, summary: Summary) -> None:
    meanings = {FEASIBLE: "fit the memory", SELECTED: f"meet {_filter(done)}"}
    for flag, share in summary.shares.items():
        console.print(f"{share:.1%} of the configurations {meanings[flag]}", highlight=False)
    if summary.best is not None:
        for table in findings.tables(summary.best, SELECTED in summary.shares):
            console.print()
            console.print(table)
    console.print()


def _work(done: Report) -> Iterator[str]:
    """Who did how much, how fast."""
    tally = done.tally
    points = tally.points.total()
    if done.stored:
        yield f"{done.stored:,} of {show.counted(done.chunks, 'chunk')} were stored already"
    if not points:
        return
    rate = points / max(done.seconds, 1e-9)
    yield (
        f"{show.count(points)} points in {show.number(done.seconds, 's')} ({show.count(rate)} points/s; "
        f"started in {show.number(done.start_seconds, 's')}) on {done.plan.crew.title}"
    )
    if tally.receipts > 1:
        slowest = tally.slowest[0]
        region = done.plan.blocks[slowest.block]
        where = show.region_text(region, done.plan.parameters.sweep.axes)
        again = (
            f", {show.counted(done.retries, 'block')} given to another worker after one was lost"
            if done.retries
            else ""
        )
        yield (
            f"{show.count(rate / len(tally.points))} points/s for each of {show.counted(len(tally.points), 'worker')}"
            f"{again}; slowest block {show.number(slowest.seconds, 's')} ({where})"
        )


def print_answer(console: Console, answer: xr.Dataset, most: int) -> None:
    """The points that answer a question; the first `most` of them."""
    rows = Rows(answer)
    print_line(console, answer.attrs.get("sweep_name", ""), f"  {answer.attrs['question']}")
    console.print(rows.sheet(most=most))
    if len(rows.values) > most:
        console.print(f"and {len(rows.values) - most:,} more; --csv and --json print all", highlight=False)
    if len(rows.values) < rows.groups:
        lacking = rows.groups - len(rows.values)
        print_line(console, "note:", f" in {lacking:,} of {rows.groups:,} places no configuration counts", "yellow")


def print_verdict(console: Console, verdict: Verdict) -> None:
    """What is wrong with a store, and whether it was mended."""
    if verdict.faults:
        rows = [[fault.kind, fault.key, fault.region] for fault in verdict.faults[:MOST_FAULTS]]
        console.print(Sheet("", ["fault", "file", "holds"], rows, folds=True))
    if len(verdict.faults) > MOST_FAULTS:
        console.print(f"and {len(verdict.faults) - MOST_FAULTS:,} more", highlight=False)
    if verdict.changed:
        print_line(console, "stale:", f" made with other values or equations of {', '.join(verdict.changed)}", "yellow")
    kinds = Counter(fault.kind for fault in verdict.faults)
    found = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()) or "nothing missing or damaged"
    mended = "; all mended" if verdict.mended else ""
    again = f"{verdict.recomputed:,} of {show.counted(verdict.blocks, 'block')} computed again"
    print_line(console, str(verdict.place), f"  {show.counted(verdict.chunks, 'chunk')}, {again}: {found}{mended}")


def _filter(done: Report) -> str:
    filters = done.plan.parameters.sweep.expressions
    return f"'{filters[SELECTED].text}'" if SELECTED in filters else "the filter"
