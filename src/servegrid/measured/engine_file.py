"""A calibration as a catalogue file: a named engine that is like another, with the constants that were fitted."""

from __future__ import annotations

from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from servegrid.errors import InputError
from servegrid.measured.calibrated import Calibration, Constant
from servegrid.measured.tables import percent
from servegrid.yamltext import as_yaml

SOURCE = "fit"
DIGITS = 6


def check_name(path: str | Path) -> Path:
    """The path of an engine's file, which names the engine; InputError where it is none."""
    path = Path(path)
    if path.suffix not in (".yaml", ".yml") or not path.stem:
        raise InputError(f"out: got {str(path)!r}, expected a name such as my-engine.yaml")
    return path


def write_engine(found: Calibration, path: str | Path, runs: str = "measured runs") -> None:
    """Write the engine into a file, under the file's name; `runs` says what it was fitted to."""
    path = check_name(path)
    if not found.like:
        raise InputError("the solver has no engines, expected one whose constants an engine gives, such as serving")
    path.write_text(as_text(found, path.stem, runs), encoding="utf-8")


def as_text(found: Calibration, name: str, runs: str) -> str:
    """The file's content."""
    return as_yaml(content(found, name, runs), ("sources", "engines"))


def content(found: Calibration, name: str, runs: str) -> dict[str, Any]:
    """The same as mappings."""
    errors = "; ".join(
        f"{output}: median error {percent(found.before[output].median)} before, "
        f"{percent(found.after[output].median)} in runs that the fit had not seen"
        for output in found.before
    )
    document = (
        f"servegrid {version('servegrid')} calibrate: {len(found.changed)} constants fitted to {found.rows} rows of "
        f"{runs} ({found.folds} folds): {errors}"
    )
    engine = {
        "title": f"{name}: {found.like}, calibrated",
        "like": found.like,
        "source": SOURCE,
        "constants": {constant.name: _written(constant) for constant in found.changed},
    }
    return {"sources": {SOURCE: {"document": document, "read": date.today()}}, "engines": {name: engine}}


def _written(constant: Constant) -> dict[str, Any]:
    return {
        "value": float(f"{constant.after:.{DIGITS}g}"),
        "how": "fitted",
        "spread": constant.width,
        "note": f"{constant.before:.{DIGITS}g} before",
    }
