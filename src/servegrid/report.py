"""What the command line prints: plans, progress, summaries of runs, catalogue entries."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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
from servegrid.catalog import Catalog, CatalogError, Entry
from servegrid.errors import InputError, nearest
from servegrid.parameters import unknown_facts
from servegrid.planning import Plan
from servegrid.runner import Report
from servegrid.sheet import Sheet
from servegrid.summary import FLAGS, Summary
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
    _print_line(console, sweep.name, f"  {sweep.question}" if sweep.question else "")


def _print_line(console: Console, lead: str, rest: str, style: str = "bold") -> None:
    """A line as it is: what users wrote is no markup."""
    console.print(Text.assemble((lead, style), rest))


def _print_notes(console: Console, plan: Plan) -> None:
    for axis in plan.parameters.idle_axes:
        _print_line(console, "note:", f" no output depends on the axis {axis}", "yellow")
    for name, labels in unknown_facts(plan.parameters).items():
        shown = ", ".join(labels[:6]) + (f" and {len(labels) - 6} more" if len(labels) > 6 else "")
        _print_line(console, "note:", f" the catalogue has no {name} of {shown}: NaN there", "yellow")


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
        self.task = progress.add_task("starting", total=None)
        self._lock = threading.Lock()

    def start(self, points: int, done: int) -> None:
        """The work begins; so many points are stored already."""
        self.progress.reset(self.task, total=points, completed=done, description=self.work)

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


def print_run(console: Console, done: Report) -> None:
    """What a run did and what it found."""
    plan, sweep = done.plan, done.plan.parameters.sweep
    _print_title(console, sweep)
    if done.summary is not None:
        _print_summary(console, done, done.summary)
    _print_notes(console, plan)
    if done.grown:
        _print_line(console, "note:", f" the store was extended: {done.grown}", "yellow")
    for line in _work(done):
        console.print(line, highlight=False)
    size = f"{show.number(done.disk_bytes, 'byte')} on disk for {show.number(plan.stored_bytes, 'byte')} of results"
    if done.missing:
        _print_line(
            console, f"part {done.part.number} of {done.part.of} is done" if done.part else "",
            f"; {done.missing:,} of {done.chunks:,} chunks are missing, which other parts compute",
        )  # fmt: skip
    else:
        _print_line(console, str(done.place), f"  {size}; open it with xarray.open_zarr({str(done.place)!r})")


def _print_summary(console: Console, done: Report, summary: Summary) -> None:
    for flag, meaning in ((FLAGS[0], "fit the memory"), (SELECTED, f"meet {_filter(done)}")):
        share = summary.share(flag)
        if share is not None:
            console.print(f"{share:.1%} of the configurations {meaning}", highlight=False)
    for table in findings.tables(summary):
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
    _print_line(console, answer.attrs.get("sweep_name", ""), f"  {answer.attrs['question']}")
    console.print(rows.sheet(most=most))
    if len(rows.values) > most:
        console.print(f"and {len(rows.values) - most:,} more; --csv and --json print all", highlight=False)
    if len(rows.values) < rows.groups:
        lacking = rows.groups - len(rows.values)
        _print_line(console, "note:", f" in {lacking:,} of {rows.groups:,} places no configuration counts", "yellow")


def print_verdict(console: Console, verdict: Verdict) -> None:
    """What is wrong with a store, and whether it was mended."""
    if verdict.faults:
        rows = [[fault.kind, fault.key, fault.region] for fault in verdict.faults[:MOST_FAULTS]]
        console.print(Sheet("", ["fault", "file", "holds"], rows, folds=True))
    if len(verdict.faults) > MOST_FAULTS:
        console.print(f"and {len(verdict.faults) - MOST_FAULTS:,} more", highlight=False)
    if verdict.changed:
        _print_line(
            console, "stale:", f" made with other values or equations of {', '.join(verdict.changed)}", "yellow"
        )
    kinds = Counter(fault.kind for fault in verdict.faults)
    found = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()) or "nothing missing or damaged"
    mended = "; all mended" if verdict.mended else ""
    again = f"{verdict.recomputed:,} of {show.counted(verdict.blocks, 'block')} computed again"
    _print_line(console, str(verdict.place), f"  {show.counted(verdict.chunks, 'chunk')}, {again}: {found}{mended}")


def _filter(done: Report) -> str:
    filters = done.plan.parameters.sweep.expressions
    return f"'{filters[SELECTED].text}'" if SELECTED in filters else "the filter"


def print_entries(console: Console, catalog: Catalog, text: str, kind: str | None) -> None:
    """The entries whose name, title or aliases contain `text`."""
    found = 0
    for section, entries in _sections(catalog).items():
        if kind is None or kind == section:
            matching = {name: entry for name, entry in entries.items() if _matches(text, name, entry)}
            found += len(matching)
            if matching:
                console.print(_entry_table(section, matching))
    if not found:
        names = [name for entries in _sections(catalog).values() for name in entries]
        raise InputError(f"nothing in the catalogue contains {text!r}{nearest(text, names)}")


def _matches(text: str, name: str, entry: Entry) -> bool:
    return any(text.lower() in candidate.lower() for candidate in (name, entry.title, *entry.aliases))


def _sections(catalog: Catalog) -> Mapping[str, Mapping[str, Any]]:
    return {"models": catalog.models, "accelerators": catalog.accelerators, "precisions": catalog.precisions}


def _entry_table(section: str, entries: Mapping[str, Any]) -> Sheet:
    columns: dict[str, Any] = {
        "models": {
            "parameters": lambda e: show.number(e.architecture.parameters, "parameter"),
            "active": lambda e: show.number(e.architecture.active_parameters, "parameter"),
            "layers": lambda e: str(e.architecture.layers),
            "context": lambda e: show.plain(e.architecture.max_context),
        },
        "accelerators": {
            "memory": lambda e: show.number(e.memory_capacity, "byte"),
            "bandwidth": lambda e: show.number(e.memory_bandwidth, "byte/s"),
            "16-bit peak": lambda e: show.number(e.base_peak_flops, "FLOP/s"),
            "price": lambda e: "-" if e.price_per_hour is None else f"{e.price_per_hour:.2f} USD/h",
            "year": lambda e: str(e.release_year),
        },
        "precisions": {"byte": lambda e: show.plain(e.bytes_per_element)},
    }[section]
    rows = [[name, *(read(entry) for read in columns.values()), entry.title] for name, entry in entries.items()]
    return Sheet(f"{len(entries)} {section}", ["name", *columns, "title"], rows, right=list(columns), folds=True)


def print_entry(console: Console, catalog: Catalog, name: str) -> None:
    """All facts of one entry, each with its source."""
    for kind in ("model", "accelerator", "precision"):
        try:
            short = catalog.short_name(kind, name)
        except CatalogError:
            continue
        entry = _sections(catalog)[f"{kind}s"][short]
        _print_line(console, short, f"  {entry.title}")
        for label, values in (("also known as", entry.aliases), ("note", entry.notes)):
            for value in values:
                _print_line(console, "", f"  {label}: {value}")
        rows = [[fact, value, str(catalog.source(kind, short, fact) or "-")] for fact, value in _facts(entry)]
        console.print(Sheet("", ["fact", "value", "source"], rows, folds=True))
        return
    names = [known for entries in _sections(catalog).values() for known in entries]
    raise InputError(f"unknown entry {name!r}{nearest(name, names)}; 'servegrid catalog list' shows all {len(names)}")


def _facts(entry: Entry) -> Iterator[tuple[str, str]]:
    units = getattr(entry, "UNITS", {})
    content = entry.model_dump(exclude={"title", "aliases", "source", "source_of", "notes"}, exclude_defaults=True)
    for fact, value in content.items():
        parts = value.items() if isinstance(value, Mapping) else [("", value)]
        for part, figure in parts:
            name = f"{fact}.{part}" if part else fact
            yield name, _figure(figure, units.get(fact, "1"))


def _figure(value: object, unit: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return show.number(value, unit) if unit != "1" or value >= 1e6 else f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
