"""The catalogue entry of an inference engine: a set of constants, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from servegrid.catalog.entry import Entry
from servegrid.equations.engine import ENGINE
from servegrid.errors import nearest, shown
from servegrid.units import UnitError, to_number

How = Literal["definition", "documented", "measured", "fitted", "chosen"]
"""`definition`: what an ideal engine is. `documented`: by the engine's makers. `measured`: on kernels or log files.
`fitted`: least squares on runs of whole servers. `chosen`: by hand, after looking at such runs."""


class Constant(BaseModel):
    """One constant: a number in the unit that `equations.engine` declares, and how it was got."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    how: How | None = None
    source: str | None = None
    """Key of the document in the file's `sources`; None: that of the engine."""
    spread: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """How far it may be off: standard deviation of its natural logarithm. None: it is no matter of measurement."""
    note: str | None = None


class Engine(Entry):
    """An inference engine. What `constants` leaves out is as in the engine that `like` names."""

    like: str | None = "common"
    """None for the engine that all others begin with, `common`."""
    constants: Mapping[str, Constant] = Field(default_factory=dict)

    @field_validator("constants", mode="before")
    @classmethod
    def _read(cls, constants: object) -> object:
        """A constant may be written as its value alone, and with a unit: `kernel_time: 3.5 us`."""
        if not isinstance(constants, Mapping):
            return constants
        return {name: _constant(name, written) for name, written in constants.items()}


def _constant(name: str, written: Any) -> Any:
    if name not in ENGINE:
        raise ValueError(f"got an unknown constant {name!r}, expected one of an engine{nearest(name, ENGINE)}")
    if isinstance(written, Constant):
        return written
    parts = dict(written) if isinstance(written, Mapping) else {"value": written}
    if "value" in parts:
        parts["value"] = _number(name, parts["value"])
    return parts


def _number(name: str, value: object) -> float:
    """The value of a constant in its own unit; ValueError where it is none or out of bounds."""
    declared = ENGINE[name]
    try:
        number = to_number(value, declared.unit) if isinstance(value, str) else value
    except UnitError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not declared.accepts(number):
        raise ValueError(f"{name}: got {shown(value)}, expected {declared.expected}")
    return float(number)
