"""Blocks of contiguous memory, against a list of their addresses."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from slow_simulation import Buddies

from servegrid.simulation.buddy import all_free, give, power_of_two, take


def address(node: int, size: int, pages: int) -> int:
    """Where the block of a node begins."""
    return (node - power_of_two(pages) // size) * size


@given(st.integers(1, 40), st.lists(st.tuples(st.booleans(), st.integers(0, 100)), max_size=60))
def test_blocks_are_those_of_a_list_of_addresses(pages: int, moves: list[tuple[bool, int]]) -> None:
    tree, listed = all_free(pages), Buddies(pages)
    held: list[tuple[int, int, int]] = []
    for takes, number in moves:
        if takes:
            size = 2 ** (number % 6)
            node, block = take(tree, size), listed.take(size)
            if block is None:
                assert node == 0
            else:
                assert (address(node, size, pages), size) == block
                held.append((node, *block))
        elif held:
            node, start, size = held.pop(number % len(held))
            give(tree, node, size)
            listed.give((start, size))
        assert tree[1] == np.bitwise_or.reduce([0, *(size for _, size in listed.free)])
    taken = sorted((start, start + size) for _, start, size in held)
    assert all(end <= start for (_, end), (start, _) in pairwise(taken)), "blocks overlap"
    assert all(end <= pages for _, end in taken)
    for node, _, size in held:
        give(tree, node, size)
    np.testing.assert_array_equal(tree[1:], all_free(pages)[1:])


def test_the_smallest_free_block_is_split_even_beside_a_large_one() -> None:
    tree = all_free(16)
    nodes = [take(tree, 2) for _ in range(8)]  # 0-1, 2-3, ...
    give(tree, nodes[1], 2)  # 2-3
    for node in nodes[4:]:
        give(tree, node, 2)  # 8-15 joins
    give(tree, nodes[2], 2)
    give(tree, nodes[3], 2)  # 4-7 joins
    assert tree[1] == 2 + 4 + 8
    assert [address(take(tree, 2), 2, 16) for _ in range(4)] == [2, 4, 6, 8]


def test_a_pool_that_is_no_power_of_two_is_free_in_its_binary_digits() -> None:
    for pages in range(1, 70):
        assert all_free(pages)[1] == pages
    tree = all_free(13)
    assert address(take(tree, 4), 4, 13) == 8
    assert take(tree, 8) == 2
    assert take(tree, 2) == 0
    assert address(take(tree, 1), 1, 13) == 12
    assert tree[1] == 0


def test_powers_of_two() -> None:
    assert [power_of_two(size) for size in (0, 1, 2, 3, 4, 5, 1023, 1024, 1025)] == [
        1, 1, 2, 4, 4, 8, 1024, 1024, 2048,
    ]  # fmt: skip
