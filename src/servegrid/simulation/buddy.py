"""Contiguous memory, by the buddy system: blocks of a power of two pages, halved and joined.

Knowlton 1965, doi:10.1145/365628.365655; what Kwon et al. 2023, section 6.1, assume of ORCA. A binary tree over the
pages, node i above nodes 2 i and 2 i + 1, holds for each node the largest free block below it.
"""

from __future__ import annotations

import numpy as np


def power_of_two(size: float) -> int:
    """Return the smallest power of two that is no less."""
    power = 1
    while power < size:
        power *= 2
    return power


def all_free(pages: int) -> np.ndarray:
    """Return the tree of a pool: the leaves beyond its pages are never free."""
    leaves = power_of_two(pages)
    largest = np.zeros(2 * leaves, np.int64)
    for leaf in range(pages):
        largest[leaves + leaf] = 1
    size = 1
    first = leaves // 2
    while first > 0:
        size *= 2
        for node in range(first, 2 * first):
            largest[node] = joined(largest, node, size)
        first //= 2
    return largest


def joined(largest: np.ndarray, node: int, size: int) -> int:
    """Return the largest free block below a node of this size: all of it where both halves are free."""
    left, right = largest[2 * node], largest[2 * node + 1]
    return size if left + right == size else max(left, right)


def take(largest: np.ndarray, size: int) -> int:
    """Take a free block of a power of two pages, the smallest that has room; return its node, or 0 if there is none."""
    if largest[1] < size:
        return 0
    node, room = 1, len(largest) // 2
    while room > size:
        left, right = largest[2 * node], largest[2 * node + 1]
        node = 2 * node if right < size or size <= left <= right else 2 * node + 1
        room //= 2
    largest[node] = 0
    renew(largest, node, room)
    return node


def give(largest: np.ndarray, node: int, size: int) -> None:
    """Give a block back."""
    largest[node] = size
    renew(largest, node, size)


def renew(largest: np.ndarray, node: int, size: int) -> None:
    """Renew what the nodes above say."""
    while node > 1:
        node //= 2
        size *= 2
        largest[node] = joined(largest, node, size)
