"""The catalogue as a whole: the package's own files and a user's, and entries found by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from servegrid.catalog.accelerator import Accelerator
from servegrid.catalog.engine import Constant, Engine
from servegrid.catalog.entry import Entry, Source
from servegrid.catalog.length import Length
from servegrid.catalog.link import Device, Link
from servegrid.catalog.model import Model
from servegrid.catalog.precision import Part, Precision, Scheme, scheme_of
from servegrid.catalog.records import CLASSES, CatalogError, Kind, Record, label_of, read, read_yaml
from servegrid.catalog.scheduler import Scheduler
from servegrid.catalog.trace import Trace
from servegrid.equations.engine import ENGINE
from servegrid.errors import nearest

COMMON = "common"  # the engine that all others begin with


@dataclass(frozen=True)
class Catalog:
    """All entries by kind and short name, and the sources of their facts."""

    models: Mapping[str, Model]
    accelerators: Mapping[str, Accelerator]
    precisions: Mapping[str, Precision]
    engines: Mapping[str, Engine]
    links: Mapping[str, Link]
    traces: Mapping[str, Trace]
    schedulers: Mapping[str, Scheduler]
    lengths: Mapping[str, Length]
    sources: Mapping[tuple[Kind, str], Mapping[str, Source]] = field(repr=False)
    """Per kind and short name: the sources of the entry's file by their keys."""
    _names: Mapping[tuple[Kind, str], str] = field(repr=False)
    """The short name by kind and by every name and alias in lower case."""

    @classmethod
    def default(cls) -> Catalog:
        """The catalogue that comes with the package."""
        return _default()

    def extended(self, *additions: Path | Mapping[str, Any], folder: Path = Path()) -> Catalog:
        """This catalogue with the entries of a user's files, which replace entries of the same name.

        A file has the layout of the package's own (`source` and `sources` may be left out), or is the
        config.json of a Hugging Face repository, or the folder that holds one. The content of a file may stand in
        its place, as a mapping, whose own files (of traces) are in `folder`.
        """
        catalog = self
        for addition in additions:
            records = read(addition, folder)
            replaced = {record.key for record in records}
            kept = [record for record in catalog._records() if record.key not in replaced]
            try:
                catalog = _catalog([*kept, *records])
            except CatalogError as error:
                raise CatalogError(f"{label_of(addition)}: {error}") from None
        return catalog

    def model(self, name: str) -> Model:
        """The model of this name or alias, such as its Hugging Face repository, in any case."""
        return self.models[self.short_name("model", name)]

    def accelerator(self, name: str) -> Accelerator:
        """The accelerator of this name or alias, in any case."""
        return self.accelerators[self.short_name("accelerator", name)]

    def precision(self, name: str) -> Precision:
        """The number format or scheme of this name or alias, in any case."""
        return self.precisions[self.short_name("precision", name)]

    def scheme(self, name: str) -> Scheme:
        """The format of each part of a model at the precision of this name."""
        formats = {known: self.precision(known) for known in ("bf16", *self.precision(name).parts.values())}
        return scheme_of(self.precision(name), formats)

    def precision_of(self, parts: Mapping[Part, str]) -> str | None:
        """The first precision whose parts have these formats, as a checkpoint's; None where there is none."""
        wanted = {part: self.precision(form) for part, form in parts.items()}
        for name in self.precisions if wanted else ():
            scheme = self.scheme(name)
            if all(getattr(scheme, part) is form for part, form in wanted.items()):
                return name
        return None

    def device(self, name: str) -> Device:
        """The accelerator of this name with the links that it has, where the catalogue knows them."""
        accelerator = self.accelerator(name)
        return Device(accelerator, self._link(accelerator.link), self._link(accelerator.network))

    def _link(self, name: str | None) -> Link | None:
        short = self._names.get(("link", (name or "").lower()))
        return None if short is None else self.links[short]

    def engine(self, name: str) -> Engine:
        """The inference engine of this name or alias, in any case, with what it states itself."""
        return self.engines[self.short_name("engine", name)]

    def trace(self, name: str) -> Trace:
        """The trace of this name or alias, in any case."""
        return self.traces[self.short_name("trace", name)]

    def scheduler(self, name: str) -> Scheduler:
        """The scheduler of this name or alias, in any case."""
        return self.schedulers[self.short_name("scheduler", name)]

    def length(self, name: str) -> Length:
        """The distribution of lengths of this name or alias, in any case."""
        return self.lengths[self.short_name("length", name)]

    def constants(self, engine: str) -> Mapping[str, Constant]:
        """All constants of an engine, its own and those that it inherits; CatalogError where it lacks one."""
        found = self.constants_found(engine)
        lacking = [name for name in ENGINE if name not in found]
        if lacking:
            raise CatalogError(
                f"the engine {engine} gives no {lacking[0]}, expected it among its constants, "
                "or 'like' with an engine that has it, such as vllm"
            )
        return found

    def constants_found(self, engine: str) -> Mapping[str, Constant]:
        """As `constants`, where some may be lacking: `common` is no engine that runs."""
        stated = [self.engines[short].constants for short in reversed(self._lineage(engine))]
        return {name: constant for constants in stated for name, constant in constants.items()}

    def _lineage(self, engine: str) -> tuple[str, ...]:
        """The short names of an engine, the one that it is like, and so on; CatalogError where there is no end."""
        found: list[str] = []
        name: str | None = engine
        while name is not None:
            short = self.short_name("engine", name)
            if short in found:
                raise CatalogError(f"the engine {short} is like itself, expected 'like' to lead to another")
            found.append(short)
            name = self.engines[short].like
        return tuple(found)

    def short_name(self, kind: Kind, name: str) -> str:
        """The name under which the catalogue lists an entry; CatalogError where there is none."""
        short = self._names.get((kind, name.lower()))
        if short is None:
            known = self.entries(kind)
            raise CatalogError(
                f"unknown {kind} {name!r}{nearest(name, known)}; "
                f"'servegrid catalog list {kind}s' shows all {len(known)}"
            )
        return short

    def source(self, kind: Kind, name: str, fact: str) -> Source | None:
        """Where a fact ("power", "peak_flops.fp8") was read; None where a user's file does not say.

        A fact without a source of its own has that of the fact it is part of, or else the entry's; what an engine
        inherits has the source of the engine that states it.
        """
        short = self.short_name(kind, name)
        entry = self.entries(kind)[short]
        if isinstance(entry, Engine) and fact.startswith("constants."):
            return self._source_of_constant(short, fact.removeprefix("constants."))
        while fact and fact not in entry.source_of:
            fact = fact.rpartition(".")[0]
        key = entry.source_of[fact] if fact else entry.source
        return self.sources[kind, short][key] if key else None

    def _source_of_constant(self, engine: str, constant: str) -> Source | None:
        for short in self._lineage(engine):
            entry = self.engines[short]
            if constant in entry.constants:
                key = entry.constants[constant].source or entry.source
                return self.sources["engine", short][key] if key else None
        return None

    def entries(self, kind: Kind) -> Mapping[str, Entry]:
        """All entries of a kind by short name."""
        by_kind: Mapping[Kind, Mapping[str, Entry]] = {
            "model": self.models,
            "accelerator": self.accelerators,
            "precision": self.precisions,
            "engine": self.engines,
            "link": self.links,
            "trace": self.traces,
            "scheduler": self.schedulers,
            "length": self.lengths,
        }
        return by_kind[kind]

    def _records(self) -> Iterator[Record]:
        for kind in CLASSES:
            for name, entry in self.entries(kind).items():
                yield Record(kind, name, entry, self.sources[kind, name])


def _catalog(records: Iterable[Record]) -> Catalog:
    """The catalogue of these entries; CatalogError where two share a name, or one refers to what is not there."""
    records = list(records)
    owners: dict[tuple[Kind, str], Record] = {}
    for record in records:
        for name in (record.name, *record.entry.aliases):
            other = owners.setdefault((record.kind, name.lower()), record)
            if other is not record:
                raise CatalogError(
                    f"got the name {name!r} for two {record.kind}s, {other.name} and {record.name}, "
                    "expected names and aliases to be unique"
                )
    catalog = Catalog(
        models={r.name: r.entry for r in records if isinstance(r.entry, Model)},
        accelerators={r.name: r.entry for r in records if isinstance(r.entry, Accelerator)},
        precisions={r.name: r.entry for r in records if isinstance(r.entry, Precision)},
        engines={r.name: r.entry for r in records if isinstance(r.entry, Engine)},
        links={r.name: r.entry for r in records if isinstance(r.entry, Link)},
        traces={r.name: r.entry for r in records if isinstance(r.entry, Trace)},
        schedulers={r.name: r.entry for r in records if isinstance(r.entry, Scheduler)},
        lengths={r.name: r.entry for r in records if isinstance(r.entry, Length)},
        sources={(r.kind, r.name): r.sources for r in records},
        _names={name: record.name for name, record in owners.items()},
    )
    _check_references(catalog)
    return catalog


def _check_references(catalog: Catalog) -> None:
    """Refuse engines that lack constants and schemes whose parts have no format."""
    for name in catalog.engines:
        if name != COMMON:
            catalog.constants(name)
    for name, precision in catalog.precisions.items():
        for part, form in precision.parts.items():
            if catalog.precision(form).bytes_per_element is None:
                raise CatalogError(f"the {part} of the precision {name}: got {form!r}, expected one number format")


@cache
def _default() -> Catalog:
    """The package's own catalogue, read once."""
    here = files("servegrid.catalog")
    found = [file for folder in ("models", "accelerators") for file in (here / folder).iterdir()]
    yamls = [file for file in (*found, *here.iterdir()) if file.name.endswith(".yaml")]
    yamls.sort(key=lambda file: file.name)
    return _catalog(record for file in yamls for record in read_yaml(file.read_bytes(), file.name))
