"""Reads catalogue files: their entries, the sources of these, and what is wrong with a file, in one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from servegrid.catalog.accelerator import Accelerator
from servegrid.catalog.engine import Engine
from servegrid.catalog.entry import Entry, Source
from servegrid.catalog.huggingface import from_huggingface
from servegrid.catalog.length import Length
from servegrid.catalog.link import Link
from servegrid.catalog.model import Model
from servegrid.catalog.precision import Precision
from servegrid.catalog.scheduler import Scheduler
from servegrid.catalog.trace import Trace, with_numbers
from servegrid.errors import InputError, nearest, shown
from servegrid.units import UnitError
from servegrid.yamlfile import as_mapping, parse_mapping

Kind = Literal["model", "accelerator", "precision", "engine", "link", "trace", "scheduler", "length"]
CLASSES: Mapping[Kind, type[Entry]] = {
    "model": Model,
    "accelerator": Accelerator,
    "precision": Precision,
    "engine": Engine,
    "link": Link,
    "trace": Trace,
    "scheduler": Scheduler,
    "length": Length,
}
SECTIONS: Mapping[str, Kind] = {f"{kind}s": kind for kind in CLASSES}
_LAYOUT = "a mapping with models, accelerators, precisions, engines, links, traces, schedulers or lengths"
_WORDS = {
    "missing": "a value",
    "string_type": "text",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
}

_Data = TypeVar("_Data", bound=BaseModel)


class CatalogError(InputError):
    """A name that the catalogue does not know, or a catalogue file that cannot be used."""


class Record(NamedTuple):
    """One entry with the sources of the file that it came from."""

    kind: Kind
    name: str
    entry: Entry
    sources: Mapping[str, Source]

    @property
    def key(self) -> tuple[Kind, str]:
        """What a later entry must share to replace this one."""
        return self.kind, self.name.lower()


def written_out(addition: Path | Mapping[str, Any], folder: Path = Path()) -> dict[str, Any]:
    """The content of a user's file as a mapping that `Catalog.extended` takes in its place, in SI units.

    Of a trace's file its statistics are written out. `folder` is where a mapping's files are.
    """
    content: dict[str, Any] = {"sources": {}}
    for record in read(addition, folder):
        entry = record.entry.model_dump(mode="json", exclude_defaults=True)
        content.setdefault(f"{record.kind}s", {})[record.name] = entry
        content["sources"] |= {key: source.model_dump(mode="json") for key, source in record.sources.items()}
    return content


def label_of(addition: Path | Mapping[str, Any]) -> str:
    """How messages call a user's addition."""
    return addition.name if isinstance(addition, Path) else "catalog"


def read(path: Path | Mapping[str, Any], folder: Path = Path()) -> list[Record]:
    """The entries of a user's file, or of a mapping that stands in its place, whose files are in `folder`."""
    if not isinstance(path, Path):
        return _records_in(as_mapping(path, "catalog", _LAYOUT), "catalog", folder)
    if path.is_dir():
        path = path / "config.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CatalogError(f"{path}: no such file, expected YAML or the config.json of a model") from None
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read ({error.strerror})") from None
    return _read_config(content, path) if path.suffix == ".json" else read_yaml(content, path.name, path.parent)


def _read_config(content: bytes, path: Path) -> list[Record]:
    """The model of a config.json, named after its folder, or after the file if it is called otherwise."""
    config = _json(content, path.name)
    named_after_folder = path.name == "config.json"
    title = path.absolute().parent.name if named_after_folder else path.stem
    beside = path.with_name("hf_quant_config.json")
    try:
        quantization = _json(beside.read_bytes(), beside.name) if named_after_folder and beside.is_file() else None
        model = from_huggingface(as_mapping(config, path.name, "the config.json of a model"), title, quantization)
    except InputError as error:
        raise CatalogError(str(error)) from None
    return [Record("model", title.lower(), model, {})]


def _json(content: bytes, name: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise CatalogError(f"{name}: not a JSON file ({error})") from None


def read_yaml(content: bytes, label: str, folder: Path = Path()) -> list[Record]:
    """The entries of a catalogue file; the files that it names are in `folder`."""
    try:
        return _records_in(parse_mapping(content, label, _LAYOUT), label, folder)
    except CatalogError:
        raise
    except InputError as error:
        raise CatalogError(str(error)) from None


def _records_in(document: Mapping[str, Any], label: str, folder: Path) -> list[Record]:
    for section in document:
        if section not in ("sources", *SECTIONS):
            known = ("sources", *SECTIONS)
            raise CatalogError(f"{label}: got an unknown key {section!r}, expected {_LAYOUT}{nearest(section, known)}")
    sources = {
        key: _parse(Source, value, f"{label}: sources.{key}")
        for key, value in as_mapping(document.get("sources") or {}, f"{label}: sources").items()
    }
    return [
        _record(kind, name, value, sources, folder, f"{label}: {section}.{name}")
        for section, kind in SECTIONS.items()
        for name, value in as_mapping(document.get(section) or {}, f"{label}: {section}").items()
    ]


def _record(kind: Kind, name: str, value: object, sources: Mapping[str, Source], folder: Path, where: str) -> Record:
    """One entry of a file, whose sources must be among the file's."""
    if kind == "trace":
        value = _with_numbers(value, folder, where)
    entry = _parse(CLASSES[kind], value, where)
    for fact, key in _named_sources(entry):
        if key is not None and key not in sources:
            expected = f"expected a key of the file's sources{nearest(key, sources)}"
            raise CatalogError(f"{where}.{fact}: got {key!r}, {expected}")
    return Record(kind, name, entry, sources)


def _with_numbers(value: object, folder: Path, where: str) -> Mapping[str, Any]:
    try:
        return with_numbers(as_mapping(value, where), folder, where)
    except InputError as error:
        raise CatalogError(str(error)) from None


def _named_sources(entry: Entry) -> Iterator[tuple[str, str | None]]:
    """The sources that an entry names, and where in the entry."""
    yield "source", entry.source
    yield from ((f"source_of.{fact}", key) for fact, key in entry.source_of.items())
    if isinstance(entry, Engine):
        yield from ((f"constants.{name}.source", constant.source) for name, constant in entry.constants.items())


def _parse(cls: type[_Data], value: object, where: str) -> _Data:
    """The entry or source that `value` describes."""
    try:
        return cls.model_validate(as_mapping(value, where))
    except ValidationError as error:
        # A misspelt key is the cause of the missing one, so it goes first.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise CatalogError(f"{where}{_sentence(cls, first)}") from None


def _sentence(cls: type[BaseModel], error: ErrorDetails) -> str:
    """What is wrong, as the end of a sentence that starts with the entry's place in the file."""
    place = [str(part) for part in error["loc"] if part != "[key]"]
    path = "".join(f".{part}" for part in place)
    if error["type"] == "extra_forbidden":
        return f"{path}: got an unknown key, expected a fact{nearest(place[-1], cls.model_fields)}"
    cause = error.get("ctx", {}).get("error")
    if error["type"] == "value_error" and not isinstance(cause, UnitError):
        return f"{path}: {cause}"
    got = "nothing" if error["type"] == "missing" else shown(error["input"])
    return f"{path}: got {got}, expected {_expected(cls, error, place)}"


def _expected(cls: type[BaseModel], error: ErrorDetails, place: list[str]) -> str:
    """What the schema expects at `place`, in words."""
    unit = getattr(cls, "UNITS", {}).get(place[0]) if "[key]" not in error["loc"] else None
    bound = re.fullmatch("Input should be ((?:greater|less) than .*)", error["msg"])
    if unit and error["type"] not in ("dict_type", "mapping_type"):
        return f"a value in {unit}" + (f" that is {bound[1]}" if bound else "")
    if bound:
        return f"a value {bound[1]}"
    return _WORDS.get(error["type"], error["msg"].removeprefix("Input should be "))
