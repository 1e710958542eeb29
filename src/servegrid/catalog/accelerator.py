"""The catalogue entry of an accelerator."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, field_validator

from servegrid.catalog.entry import Count, Entry, Positive, in_unit

Format = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "fp6", "fp4", "int8", "int4"]
FORMATS: tuple[Format, ...] = get_args(Format)

# A bare number counts bytes, byte/s or FLOP/s. Nothing that serves a language model has less than a million
# of any of them, so a smaller one is a number whose unit was forgotten ("memory_capacity: 80").
_LEAST = 1e6


Bytes = Annotated[Positive, in_unit("byte"), Field(ge=_LEAST)]
BytesPerSecond = Annotated[Positive, in_unit("byte/s"), Field(ge=_LEAST)]
FlopsPerSecond = Annotated[Positive, in_unit("FLOP/s"), Field(ge=_LEAST)]
Watts = Annotated[Positive, in_unit("W")]
DollarsPerHour = Annotated[float, in_unit("USD/h"), Field(ge=0, allow_inf_nan=False)]


class Accelerator(Entry):
    """A device that models run on: one GPU, one TPU chip, one Trainium chip.

    Peak rates are dense, those of the tensor or matrix units; a format that the device has no units for is
    left out of `peak_flops`.
    """

    UNITS: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "memory_capacity": "byte",
            "memory_bandwidth": "byte/s",
            "peak_flops": "FLOP/s",
            "link_bandwidth": "byte/s",
            "network_bandwidth": "byte/s",
            "power": "W",
            "price_per_hour": "USD/h",
        }
    )

    vendor: str
    release_year: Annotated[int, Field(ge=1990, le=2100)]
    """The year in which the maker announced it, or in which it could first be rented (AWS)."""
    memory_capacity: Bytes
    memory_bandwidth: BytesPerSecond
    memory_type: str
    peak_flops: Mapping[Format, FlopsPerSecond]
    """Dense peak per number format; operations count as FLOPs for the integer formats."""
    link: str
    """The scale-up link, or PCIe where there is none; a link of the catalogue says how many devices it joins."""
    link_bandwidth: BytesPerSecond
    """One-way bandwidth of all scale-up links of one device together."""
    link_gpus: Count | None = None
    """Devices that the link joins; None: as the catalogue says of the link."""
    network: str | None = None
    """The network between servers that this device is sold with, a link of the catalogue."""
    network_bandwidth: BytesPerSecond | None = None
    """One-way bandwidth of one device to other servers; None: that of the network."""
    power: Watts | None = None
    """Board power; None where the maker does not publish it."""
    price_per_hour: DollarsPerHour | None = None
    """Public list price of one device on demand; None where none was found."""

    @field_validator("peak_flops")
    @classmethod
    def _has_base(cls, peak_flops: Mapping[Format, float]) -> Mapping[Format, float]:
        if not {"fp16", "bf16"} & peak_flops.keys():
            got = ", ".join(peak_flops) or "no format"
            raise ValueError(f"got {got}, expected fp16 or bf16 among them")
        return peak_flops

    @property
    def base_peak_flops(self) -> float:
        """What a format without units of its own computes at: it is cast up to 16 bits."""
        return self.peak_flops["fp16" if "fp16" in self.peak_flops else "bf16"]
