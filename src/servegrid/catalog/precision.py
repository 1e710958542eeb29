"""The catalogue entry of a precision: a number format, or a scheme that gives each part of a model its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from pydantic import Field, model_validator

from servegrid.catalog.accelerator import Accelerator, Format
from servegrid.catalog.entry import Entry, Positive
from servegrid.errors import InputError

Part = Literal["attention", "ffn", "experts", "head", "kv_cache"]
PARTS: tuple[Part, ...] = get_args(Part)
"""Attention (and linear attention), dense FFN, experts (shared ones too), head and embedding, KV cache."""
_LINEAR: tuple[Part, ...] = ("attention", "ffn", "experts")
_BITS: Mapping[Format, int] = {"fp4": 4, "int4": 4, "fp6": 8, "fp8": 8, "int8": 8}


class Rate(NamedTuple):
    """How a device computes with weights of some format."""

    flops: float
    """Dense peak [FLOP/s]."""
    bits: int
    """Of the numbers that are multiplied: 4, 8, or 16 for all wider ones too."""
    weight_only: bool
    """Weights are expanded to 16 bits before they are multiplied."""


class Precision(Entry):
    """A number format (its bytes are given), or a scheme of formats (`parts` names one for each linear layer)."""

    bytes_per_element: Positive | None = None
    """Of the number itself, without scales."""
    peak_flops_formats: tuple[Format, ...] = ()
    """Keys of `Accelerator.peak_flops`, in order of preference."""
    bytes_with_scales: Positive | None = None
    """Of a weight with its share of the scales of a block; None: scales that do not count."""
    weight_only: bool = False
    """Engines hold weights so, and compute in 16 bits."""
    parts: Mapping[Part, str] = Field(default_factory=dict)
    """The format of each part; what is left out has this format, head and KV cache 16 bits at least."""

    @model_validator(mode="after")
    def _format_or_scheme(self) -> Precision:
        missing = [part for part in _LINEAR if part not in self.parts]
        if self.bytes_per_element is None and missing:
            raise ValueError(f"expected bytes_per_element, or a format for {missing[0]} among parts")
        if (self.bytes_per_element is None) == bool(self.peak_flops_formats):
            raise ValueError("bytes_per_element and peak_flops_formats: expected both or neither")
        return self

    @property
    def held_bytes(self) -> float:
        """Bytes of a weight or cached value, scales included."""
        return self.bytes_with_scales or self.number_bytes

    @property
    def number_bytes(self) -> float:
        """Bytes of the number itself; InputError for a scheme, which has no one format."""
        if self.bytes_per_element is None:
            raise InputError(
                f"precision: got {self.title!r}, which holds its parts in different formats, "
                "expected one format for all of them, such as fp8"
            )
        return self.bytes_per_element

    @property
    def quantised(self) -> bool:
        """Narrower than the 16 bits that models are published in."""
        return self.held_bytes < 2

    def peak_flops(self, accelerator: Accelerator) -> float:
        """The dense peak at this precision, FLOP/s; the base figure where the device lacks the format."""
        assert self.number_bytes
        found = self._computed(accelerator)
        return accelerator.peak_flops[found] if found else accelerator.base_peak_flops

    def rate(self, accelerator: Accelerator) -> Rate:
        """How engines compute with weights of this format on a device."""
        found = None if self.weight_only else self._computed(accelerator)
        if found is None:
            return Rate(accelerator.base_peak_flops, 16, self.quantised)
        return Rate(accelerator.peak_flops[found], _BITS.get(found, 16), weight_only=False)

    def _computed(self, accelerator: Accelerator) -> Format | None:
        """The first of the formats that the device has units for."""
        return next((name for name in self.peak_flops_formats if name in accelerator.peak_flops), None)


@dataclass(frozen=True)
class Scheme:
    """A precision with the formats of its parts looked up."""

    precision: Precision
    attention: Precision
    ffn: Precision
    experts: Precision
    head: Precision
    kv_cache: Precision


def scheme_of(precision: Precision, formats: Mapping[str, Precision]) -> Scheme:
    """The format of each part. Head and KV cache are not quantised unless the precision says so."""
    wide = formats["bf16"] if precision.bytes_per_element is None or precision.quantised else precision
    given = {part: formats[name] for part, name in precision.parts.items()}
    own: Mapping[Part, Precision] = {**dict.fromkeys(_LINEAR, precision), "head": wide, "kv_cache": wide}
    return Scheme(precision, **{part: given.get(part, own[part]) for part in PARTS})
