"""What a store lacks, as tasks: never what is there, everything else once, whoever shares the work."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servegrid.blocks import Blocks, Variable, owns, region_sizes
from servegrid.errors import InputError
from servegrid.job import Task
from servegrid.missing import Missing, Part
from servegrid.place import Folder
from servegrid.store import Store, chunk_key

AXES = ("a", "b", "c")
NAMES = ("itl", "feasible", "selected", "ttft", "kv_fragmentation")
NOWHERE = Path("/nonexistent/o.zarr")


@st.composite
def grids(draw: st.DrawFn) -> Blocks:
    """A grid cut into blocks."""
    sizes = {axis: draw(st.integers(1, 4), label=axis) for axis in AXES[: draw(st.integers(0, 3))]}
    return Blocks(sizes, {axis: draw(st.integers(1, size)) for axis, size in sizes.items()})


@st.composite
def states(draw: st.DrawFn) -> Missing:
    """A store of which anything may be there: variables along some axes."""
    blocks = draw(grids())
    subsets = st.sets(st.sampled_from(list(blocks.sizes) or [""])).map(
        lambda chosen: tuple(axis for axis in blocks.sizes if axis in chosen)
    )
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    variables = {name: Variable(draw(subsets), 8) for name in names}
    store = Store(Folder(str(NOWHERE), NOWHERE), variables, blocks)
    present = {
        name: np.array(draw(st.lists(st.booleans(), min_size=prod(grid), max_size=prod(grid))), dtype=bool).reshape(
            grid
        )
        for name, grid in ((name, store.grid(name)) for name in names)
    }
    return Missing(store, present)


def shared(state: Missing, of: int) -> list[Missing]:
    """The same for each part."""
    return [Missing(state.store, state.present, Part(number, of)) for number in range(1, of + 1)]


def keys(state: Missing, tasks: list[Task]) -> list[str]:
    """The chunks that these tasks compute."""
    blocks = state.store.blocks
    return [state.store.key(blocks[task.block], name) for task in tasks for name in task.outputs]


def absent(state: Missing) -> set[str]:
    """The chunks that are not there."""
    return {
        chunk_key(name, map(int, position)) for name, flags in state.present.items() for position in np.argwhere(~flags)
    }


# Tasks.


@given(states())
def test_every_chunk_that_is_absent_is_computed_once_and_no_other(state: Missing) -> None:
    named = keys(state, list(state.tasks()))
    assert len(named) == len(set(named)) == state.absent
    assert set(named) == absent(state)


@given(states(), st.integers(1, 9))
def test_parts_share_the_absent_chunks_among_them(state: Missing, of: int) -> None:
    named = [keys(state, list(part.tasks())) for part in shared(state, of)]
    assert Counter(chain(*named)) == Counter(absent(state))


@given(states(), st.integers(1, 9), st.data())
def test_parts_are_the_same_whatever_is_there_already(state: Missing, of: int, data: st.DataObject) -> None:
    """So parts that begin at different times do not get in each other's way."""
    later = {
        name: flags
        | np.array(data.draw(st.lists(st.booleans(), min_size=flags.size, max_size=flags.size))).reshape(flags.shape)
        for name, flags in state.present.items()
    }
    for part in shared(state, of):
        begun_later = Missing(state.store, later, part.part)
        assert set(keys(state, list(begun_later.tasks()))) <= set(keys(state, list(part.tasks())))


@given(states())
def test_tasks_are_blocks_in_the_order_of_the_grid_with_something_to_do(state: Missing) -> None:
    tasks = list(state.tasks())
    assert [task.block for task in tasks] == sorted({task.block for task in tasks})
    for task in tasks:
        assert task.outputs
        region = state.store.blocks[task.block]
        assert all(owns(region, state.store.variables[name]) for name in task.outputs)


@given(grids(), st.integers(1, 9))
def test_parts_differ_by_one_block_at_most(blocks: Blocks, of: int) -> None:
    everywhere = {"ttft": Variable(tuple(blocks.sizes), 8)}  # of which every block has a chunk
    store = Store(Folder(str(NOWHERE), NOWHERE), everywhere, blocks)
    nothing = {"ttft": np.zeros(store.grid("ttft"), dtype=bool)}
    shares = [len(list(part.tasks())) for part in shared(Missing(store, nothing), of)]
    assert sum(shares) == len(blocks)
    assert max(shares) - min(shares) <= 1


# Counts.


@given(states())
def test_chunks_are_those_of_all_variables(state: Missing) -> None:
    assert state.chunks == sum(flags.size for flags in state.present.values())
    assert state.stored == sum(int(flags.sum()) for flags in state.present.values())
    assert state.absent == state.chunks - state.stored == len(absent(state))


@given(states(), st.integers(1, 9))
def test_points_add_up(state: Missing, of: int) -> None:
    blocks = state.store.blocks
    total = prod(blocks.sizes.values())
    assert state.points == total
    assert sum(part.points for part in shared(state, of)) == total
    assert sum(part.done_points for part in shared(state, of)) == state.done_points
    for some in (state, *shared(state, of)):
        to_do = sum(prod(region_sizes(blocks[task.block]).values()) for task in some.tasks())
        assert some.done_points + to_do == some.points


def test_a_finished_store_lacks_nothing_and_a_gap_is_one_task() -> None:
    variables = {"itl": Variable(("a", "b"), 8), "feasible": Variable(("a",), 1), "ttft": Variable(("b",), 8)}
    blocks = Blocks({"a": 4, "b": 6}, {"a": 2, "b": 6})
    store = Store(Folder(str(NOWHERE), NOWHERE), variables, blocks)
    present = {name: np.ones(store.grid(name), dtype=bool) for name in variables}
    state = Missing(store, present)
    assert list(state.tasks()) == []
    assert (state.chunks, state.stored, state.points, state.done_points) == (5, 5, 24, 24)
    present["itl"][1, 0] = False
    gap = Missing(store, present)
    assert list(gap.tasks()) == [Task(1, ("itl",))]
    assert (gap.absent, gap.done_points) == (1, 12)


# What is there, as the store sees it.


@given(state=states())
def test_the_store_sees_which_chunks_are_there(state: Missing, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("store")
    place = Folder(str(folder), folder)
    for name, flags in state.present.items():
        for position in np.argwhere(flags):
            place.write(chunk_key(name, map(int, position)), b"")
    found = Missing.of(Store(place, state.store.variables, state.store.blocks))
    assert found.present.keys() == state.present.keys()
    for name, flags in state.present.items():
        np.testing.assert_array_equal(found.present[name], flags, err_msg=name)


def test_what_is_no_chunk_of_the_grid_is_overlooked(tmp_path: Path) -> None:
    place = Folder(str(tmp_path), tmp_path)
    store = Store(place, {"itl": Variable(("a", "b"), 8)}, Blocks({"a": 4, "b": 4}, {"a": 2, "b": 2}))
    place.write("itl/c/1/0", b"")
    for strange in ("itl/c/2/0", "itl/c/0/2", "itl/c/0/0/0", "itl/zarr.json", "itl/c/.0.5.partial", "ttft/c/0/0"):
        place.write(strange, b"")
    np.testing.assert_array_equal(store.present("itl"), [[False, False], [True, False]])


# Shares, as they are written.


@pytest.mark.parametrize(("text", "part"), [("1/1", (1, 1)), ("3/64", (3, 64)), ("64/64", (64, 64)), ("007/9", (7, 9))])
def test_a_share_is_read(text: str, part: tuple[int, int]) -> None:
    assert Part.read(text) == part


@pytest.mark.parametrize(
    "text", ["", "/", "3", "3/", "/3", "0/3", "4/3", "-1/3", "1/-3", "1.0/3", "1/3/3", "a/b", "²/3"]
)
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        Part.read(text)
    assert str(refusal.value) == f"part: got {text!r}, expected a share such as 3/64, from 1/64 to 64/64"


@given(st.text(max_size=8) | st.from_regex(r"[0-9]{1,3}/[0-9]{1,3}", fullmatch=True))
def test_any_text_is_a_share_or_refused(text: str) -> None:
    try:
        part: Any = Part.read(text)
    except InputError:
        return
    assert 1 <= part.number <= part.of
