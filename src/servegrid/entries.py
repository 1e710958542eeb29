"""What the command line prints of the catalogue: lists of entries, and all that it says of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console

from servegrid import show
from servegrid.catalog import SECTIONS, Catalog, CatalogError, Engine, Entry, Model
from servegrid.equations.engine import ENGINE
from servegrid.errors import InputError, nearest
from servegrid.report import print_line
from servegrid.sheet import Sheet


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
    return {section: catalog.entries(kind) for section, kind in SECTIONS.items()}


_COLUMNS: Mapping[str, Mapping[str, Callable[[Any], str]]] = {
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
    "precisions": {
        "byte": lambda e: "by part" if e.bytes_per_element is None else show.plain(e.bytes_per_element),
        "with scales": lambda e: "by part" if e.bytes_per_element is None else f"{e.held_bytes:g}",
    },
    "engines": {"like": lambda e: e.like or "-", "constants": lambda e: str(len(e.constants))},
    "links": {
        "bandwidth": lambda e: show.number(e.bandwidth, "byte/s"),
        "connects": lambda e: "-" if e.connects is None else show.plain(e.connects),
    },
    "traces": {
        "requests": lambda e: "-" if e.requests is None else show.plain(e.requests),
        "input": lambda e: show.number(e.input_len, "token"),
        "output": lambda e: show.number(e.output_len, "token"),
        "variation": lambda e: f"{e.output_cv:.2f}",
        "longest": lambda e: show.number(e.longest_output, "token"),
    },
    "schedulers": {
        "memory": lambda e: e.reservation,
        "iteration level": lambda e: _figure(e.iteration_level, "1"),
        "mixed passes": lambda e: _figure(e.mixed_passes, "1"),
        "chunked prompts": lambda e: _figure(e.chunked_prompts, "1"),
    },
    "lengths": {"shape": lambda e: e.shape},
}


def _entry_table(section: str, entries: Mapping[str, Any]) -> Sheet:
    columns = _COLUMNS[section]
    rows = [[name, *(read(entry) for read in columns.values()), entry.title] for name, entry in entries.items()]
    return Sheet(f"{len(entries)} {section}", ["name", *columns, "title"], rows, right=list(columns), folds=True)


def print_entry(console: Console, catalog: Catalog, name: str) -> None:
    """All facts of one entry, each with its source."""
    for section, kind in SECTIONS.items():
        try:
            short = catalog.short_name(kind, name)
        except CatalogError:
            continue
        entry = _sections(catalog)[section][short]
        print_line(console, short, f"  {entry.title}")
        named = catalog.precision_of(entry.checkpoint_precision) if isinstance(entry, Model) else None
        lines = {
            "also known as": entry.aliases,
            "note": entry.notes,
            "precision of the checkpoint": [named] * bool(named),
        }
        for label, values in lines.items():
            for value in values:
                print_line(console, "", f"  {label}: {value}")
        facts = _constants(catalog, short) if isinstance(entry, Engine) else _facts(entry)
        rows = [[fact, value, str(catalog.source(kind, short, fact) or "-")] for fact, value in facts]
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


def _constants(catalog: Catalog, engine: str) -> Iterator[tuple[str, str]]:
    """All constants of an engine, the inherited ones too, each with how it was got."""
    for name, constant in catalog.constants_found(engine).items():
        how = ": ".join(part for part in (constant.how, constant.note) if part)
        value = show.number(constant.value, ENGINE[name].unit)
        yield f"constants.{name}", f"{value} ({how})" if how else value


def _figure(value: object, unit: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return show.number(value, unit) if unit != "1" or value >= 1e6 else f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
