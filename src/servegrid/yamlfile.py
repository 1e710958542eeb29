"""Reading YAML that people wrote: every fault is one sentence that names the file and the key."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from servegrid.errors import InputError, nearest, shown

Schema = TypeVar("Schema", bound=BaseModel)


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # whichever there is
    """Plain data, fast where PyYAML has libyaml; refuses a key that a mapping has twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        scalars = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        seen: set[str] = set()
        for key in scalars:
            if key.value in seen:
                problem = f"got the key {key.value!r} twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def read_mapping(path: Path) -> Mapping[str, Any]:
    """The mapping that a YAML file holds; InputError where there is none."""
    return parse_mapping(read_bytes(path), str(path), "a mapping of keys such as 'axes:'")


def parse_mapping(content: bytes, label: str, expected: str) -> Mapping[str, Any]:
    """The mapping in the text of a YAML file called `label`; InputError where it is something else."""
    try:
        document = yaml.load(content, Loader=_UniqueKeys)
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in str(error.problem):  # libyaml's own limit, which PyYAML knows from 6.0.4 on
            raise InputError(f"{label}: {_TOO_DEEP}") from None
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = _PROBLEMS.get(str(error.problem), error.problem)
        raise InputError(f"{label}: line {line}: {problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{label}: not a YAML file, expected text") from None
    except RecursionError:
        raise InputError(f"{label}: {_TOO_DEEP}") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{label}: not valid YAML ({' '.join(str(error).split())})") from None
    _check_size(document, label)
    return as_mapping(document, label, expected)


_PROBLEMS = {
    "found character that cannot start any token": "got a tab, or another character that cannot begin a value",
    "but found another document": "got a second document, expected one",
}
_TOO_DEEP = "nested too deeply, expected 20 levels at most"
_MOST_VALUES = 1_000_000


def _check_size(document: object, label: str) -> None:
    """Refuse what a few aliases (*name) blow up without end: everything after this walks through all values."""
    values = 0

    def visit(value: object, depth: int) -> None:
        nonlocal values
        values += 1
        if depth > 20:
            raise InputError(f"{label}: {_TOO_DEEP}")
        if values > _MOST_VALUES:
            raise InputError(f"{label}: got more than {_MOST_VALUES:,} values, expected fewer (aliases count in full)")
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        for part in parts:
            visit(part, depth + 1)

    visit(document, 0)


def as_mapping(value: object, where: str, expected: str = "a mapping") -> Mapping[str, Any]:
    """`value` if it is a mapping whose keys are texts; InputError otherwise."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: got {shown(value)}, expected {expected}")
    for key in value:
        if not isinstance(key, str):
            raise InputError(f"{where}: got the name {key!r}, expected text (write it in quotes)")
    return value


def read_bytes(path: Path) -> bytes:
    """The content of a file; InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file{_near_file(path)}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: got a folder, expected a file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise InputError(f"{str(path)!r}: not the name of a file") from None


def _near_file(path: Path) -> str:
    try:
        return nearest(path.name, [other.name for other in path.parent.iterdir()])
    except OSError:
        return ""


def validate(schema: type[Schema], content: Mapping[str, Any], where: str) -> Schema:
    """`content` as the pydantic model `schema`; InputError with the first fault, placed by `where` and key."""
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{where}{explain(error, schema)}") from None


_WORDS = {
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "text",
    "path_type": "the path of a file",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
}


def explain(error: ValidationError, schema: type[BaseModel]) -> str:
    """The first fault of a validation as one clause: key, got, expected."""
    faults = error.errors(include_url=False)
    # A misspelt key is both unknown and missing: the first says more.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place = [part for part in fault["loc"] if part != "[key]"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if fault["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in schema.model_fields.items()]
        return f"unknown key {key!r}{nearest(str(place[-1]), known)}, expected one of {', '.join(known)}"
    if fault["type"] == "missing":
        return f"{key}: missing, expected a value"
    prefix = f"{key}: " if key else ""
    if fault["type"] == "value_error":
        return f"{prefix}{fault['ctx']['error']}"
    if "[key]" in fault["loc"]:
        return f"{prefix}got the name {shown(place[-1])}, expected text (write it in quotes)"
    expected = _WORDS.get(fault["type"], fault["msg"].removeprefix("Input should be ").removeprefix("a valid "))
    return f"{prefix}got {shown(fault['input'])}, expected {expected}"
