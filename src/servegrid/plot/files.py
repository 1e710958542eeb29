"""A figure as a file: whole, or not there at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from matplotlib import rc_context
from matplotlib.figure import Figure

from servegrid.errors import InputError

SUFFIXES = (".png", ".svg", ".pdf")
DPI = 192  # 1,920 x 1,080 for a slide
# Text stays text, to be searched, and edited in a drawing program.
EDITABLE: Any = {"svg.fonttype": "none", "pdf.fonttype": 42}


def check_suffix(path: str | Path) -> Path:
    """The path of a picture; InputError where its suffix names no format."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: got the suffix {path.suffix!r}, expected one of {', '.join(SUFFIXES)}, such as "
            f"{path.with_suffix('.png') if path.name else 'picture.png'}"
        )
    return path


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, SVG or PDF, as the suffix says; a file of that name is replaced when all is written."""
    path = check_suffix(path)
    hidden = path.with_name(f".{path.stem}.{uuid4().hex}{path.suffix}")
    try:
        with rc_context(EDITABLE):
            figure.savefig(hidden, format=path.suffix[1:].lower(), dpi=DPI)
        hidden.replace(path)
    finally:
        with suppress(FileNotFoundError):
            hidden.unlink()
    return path
