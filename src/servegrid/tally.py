"""What the workers of a run did, added up from their receipts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import nlargest

from servegrid.job import Receipt

SLOWEST = 3  # tasks that a report names


@dataclass
class Tally:
    """What the workers did, from their receipts."""

    receipts: int = 0
    points: Counter[str] = field(default_factory=Counter)
    """of each worker"""
    chunks: int = 0
    slowest: list[Receipt] = field(default_factory=list)

    def add(self, receipt: Receipt) -> None:
        """Take in a receipt."""
        self.receipts += 1
        self.points[receipt.worker] += receipt.points
        self.chunks += receipt.chunks
        self.slowest = nlargest(SLOWEST, [*self.slowest, receipt], key=lambda one: one.seconds)
