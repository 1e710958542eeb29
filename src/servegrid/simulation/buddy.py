"""Contiguous memory, by the buddy system: blocks of a power of two pages, halved and joined.

Knowlton 1965, doi:10.1145/365628.365655; what Kwon et al. 2023, section 6.1, assume of ORCA. A binary tree over the
pages, node i above nodes 2 i and 2 i + 1, holds for each node the sizes of the free blocks below it: powers of two,
added up once each.
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
    sizes = np.zeros(2 * leaves, np.int64)
    for leaf in range(pages):
        sizes[leaves + leaf] = 1
    size = 1
    first = leaves // 2
    while first > 0:
        size *= 2
        for node in range(first, 2 * first):
            sizes[node] = joined(sizes, node, size)
        first //= 2
    return sizes


def joined(sizes: np.ndarray, node: int, size: int) -> int:
    """Return the sizes of the free blocks below a node of this size: all of it where both halves are free."""
    left, right = sizes[2 * node], sizes[2 * node + 1]
    return size if left + right == size else left | right


def take(sizes: np.ndarray, size: int) -> int:
    """Take a free block of a power of two pages, out of the smallest that has room; return its node, 0 if none has.

    Of blocks alike, that with the lowest address.
    """
    fitting = sizes[1] & -size
    if fitting == 0:
        return 0
    smallest = fitting & -fitting
    node, room = 1, len(sizes) // 2
    while room > smallest:
        node = 2 * node if sizes[2 * node] & smallest else 2 * node + 1
        room //= 2
    while room > size:
        node *= 2
        room //= 2
    sizes[node] = 0
    renew(sizes, node, room)
    return node


def give(sizes: np.ndarray, node: int, size: int) -> None:
    """Give a block back."""
    sizes[node] = size
    renew(sizes, node, size)


def renew(sizes: np.ndarray, node: int, size: int) -> None:
    """Renew what the nodes above say."""
    while node > 1:
        node //= 2
        size *= 2
        sizes[node] = joined(sizes, node, size)
