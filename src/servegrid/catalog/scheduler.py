"""The catalogue entry of a scheduler: who enters a pass, and how memory is handed out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from servegrid.catalog.entry import Entry
from servegrid.simulation.state import RESERVATIONS


class Scheduler(Entry):
    """A set of switches; requests come first come, first served under all of them."""

    iteration_level: bool
    """Whether the batch is formed anew before each pass, or runs until its longest output ends."""
    reservation: Literal["pages", "exact", "power_of_two", "longest"]
    """Page by page, or a contiguous block: for what the request will need, for its output rounded up to a power of
    two, or for the longest request that there may be."""
    mixed_passes: bool
    """Whether prompts share passes with requests that decode."""
    chunked_prompts: bool
    """Whether prompts are cut to the tokens that a pass takes."""
    preemption: Literal["recompute", "swap"] = "recompute"
    """What becomes of the cache of a request that must make room."""
    watermark: Annotated[float, Field(ge=0, lt=1)] = 0
    """Share of the pages that admission leaves free."""

    @model_validator(mode="after")
    def _check_together(self) -> Scheduler:
        if self.mixed_passes and not self.iteration_level:
            raise ValueError("got mixed_passes without iteration_level: a batch formed as a whole starts as one")
        if self.reservation != "pages" and (self.preemption == "swap" or self.watermark > 0):
            raise ValueError(
                f"got the reservation {self.reservation!r} with a swap or a watermark, expected pages: "
                "a contiguous block is never taken back"
            )
        return self

    @property
    def reservation_code(self) -> int:
        """The number that stands for the reservation."""
        return RESERVATIONS.index(self.reservation)
