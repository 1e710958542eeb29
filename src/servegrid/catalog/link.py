"""The catalogue entry of a link between devices, and a device together with the links that it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from types import MappingProxyType
from typing import ClassVar

from servegrid.catalog.accelerator import Accelerator, BytesPerSecond
from servegrid.catalog.entry import Count, Entry


class Link(Entry):
    """A link that connects devices: within a server or rack, or between servers."""

    UNITS: ClassVar[Mapping[str, str]] = MappingProxyType({"bandwidth": "byte/s"})

    bandwidth: BytesPerSecond
    """One way, all links of this kind of one device together."""
    connects: Count | None = None
    """Devices that it joins without a network in between; None for a network, which has no such limit."""


@dataclass(frozen=True)
class Device:
    """An accelerator, the link to its neighbours and the network between servers, as far as they are known."""

    accelerator: Accelerator
    link: Link | None
    network: Link | None

    @property
    def link_gpus(self) -> float:
        """How many devices the scale-up link joins; NaN where nothing says so."""
        return _first(self.accelerator.link_gpus, self.link.connects if self.link else None)

    @property
    def network_bandwidth(self) -> float:
        """One-way bandwidth of a device to other servers [byte/s]; NaN where nothing says so."""
        return _first(self.accelerator.network_bandwidth, self.network.bandwidth if self.network else None)


def _first(*values: float | None) -> float:
    return next((value for value in values if value is not None), nan)
