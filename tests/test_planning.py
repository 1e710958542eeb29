"""Plans: integers only, whatever the size; memory that is not exceeded, and work for everybody."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import islice
from math import prod
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import servegrid as sg
from servegrid import planning
from servegrid.api import load
from servegrid.blocks import Blocks, region_sizes
from servegrid.planning import BASE_MEMORY, DEFAULT_MEMORY, LEAST_MEMORY, Plan, make_plan, read_memory
from servegrid.results import template
from servegrid.solvers import Solver
from servegrid.store import Root, documents
from servegrid.sweepfile import Sweep
from servegrid.threads import Threads
from servegrid.units import to_number

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

MiB, GiB = 2**20, 2**30
LLAMA: dict[str, Any] = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "precision": "fp16"}

BUDGETS = st.integers(LEAST_MEMORY, 2**40)
LENGTHS = st.lists(st.integers(1, 4000), min_size=3, max_size=3)


def huge(pages: int, batches: int, efficiencies: int) -> Sweep:
    """A sweep whose axes have these lengths."""
    return load(
        axes={
            "page_size": {"from": 1, "to": 10**6, "num": pages} if pages > 1 else [16],
            "max_batch_size": {"from": 1, "to": 10**6, "num": batches} if batches > 1 else [16],
            "efficiency": {"from": 0.1, "to": 1, "num": efficiencies} if efficiencies > 1 else [0.5],
        },
        values={**LLAMA, "seq_len": 1000},
        outputs=["throughput", "ttft"],
    )


def without(name: str) -> Solver:
    """The solver without one of its equations."""
    laws = {known: law for known, law in sg.CONTINUOUS_BATCHING.equations.items() if known != name}
    return replace(sg.CONTINUOUS_BATCHING, equations=laws)


def laid_out(plan: Plan, **block: int) -> Root:
    """The metadata of the store that the plan makes; or of one with other blocks."""
    blocks = Blocks(plan.blocks.sizes, {**plan.blocks.block, **block})
    made = documents(template(plan.parameters, plan.evaluator), blocks, plan.evaluator.outputs)
    return Root(json.loads(made["zarr.json"]), "x.zarr")


# A new store.


@settings(max_examples=40)
@given(BUDGETS, st.integers(1, 400), LENGTHS)
def test_blocks_of_all_threads_fit_the_memory_together(memory: int, threads: int, lengths: list[int]) -> None:
    plan = make_plan(huge(*lengths), memory, Threads.of(threads))
    # Each is there as numbers, compressed, and in pages that wait to be used again.
    assert BASE_MEMORY + 3 * plan.region_bytes * plan.crew.threads <= memory
    assert plan.region_bytes <= planning.LARGEST_REGION


@settings(max_examples=40)
@given(BUDGETS, st.integers(1, 400), LENGTHS)
def test_blocks_hold_every_point_once(memory: int, threads: int, lengths: list[int]) -> None:
    plan = make_plan(huge(*lengths), memory, Threads.of(threads))
    counts, block, sizes = plan.blocks.counts, plan.blocks.block, plan.parameters.sizes
    assert all(0 <= counts[axis] * block[axis] - sizes[axis] < block[axis] for axis in sizes)
    assert plan.points == prod(lengths) == prod(sizes.values())
    assert all(prod(region_sizes(region).values()) <= prod(block.values()) for region in islice(plan.blocks, 20))


@settings(max_examples=40)
@given(st.integers(1, 400), st.integers(1, 64), LENGTHS)
def test_there_are_blocks_for_everybody_unless_they_would_be_small(
    threads: int, parts: int, lengths: list[int]
) -> None:
    plan = make_plan(huge(*lengths), 2**40, Threads.of(threads), parts=parts)
    wanted = planning.SHARES * threads * parts
    assert len(plan.blocks) >= min(wanted, plan.stored_bytes // planning.SMALLEST_REGION)


@settings(max_examples=40)
@given(BUDGETS, st.integers(1, 400), LENGTHS)
def test_nobody_is_without_a_block(memory: int, threads: int, lengths: list[int]) -> None:
    plan = make_plan(huge(*lengths), memory, Threads.of(threads))
    assert plan.crew.threads == min(threads, len(plan.blocks))


def test_a_small_sweep_is_one_block() -> None:
    plan = make_plan(huge(10, 20, 30), crew=Threads.of(8), parts=64)
    assert plan.points == 6000
    assert len(plan.blocks) == 1
    assert plan.crew == Threads(1)


def test_blocks_grow_to_64_mib_where_there_is_room() -> None:
    sweep = huge(20_000, 4000, 40)
    assert 0.9 * 64 * MiB < make_plan(sweep, crew=Threads.of(2)).region_bytes <= 64 * MiB
    # 84 MiB are left for seven threads, three times 4 MiB for each.
    assert 0.9 * 4 * MiB < make_plan(sweep, "384 MiB", Threads.of(7)).region_bytes <= 4 * MiB


def test_the_memory_that_a_crew_has_counts_where_it_is_less() -> None:
    sweep = huge(4000, 4000, 40)
    cramped = make_plan(sweep, "64 GiB", Threads(2, memory=500 * MiB))
    assert cramped.blocks == make_plan(sweep, "500 MiB", Threads(2)).blocks
    assert BASE_MEMORY + 3 * 2 * cramped.region_bytes <= 500 * MiB
    ample = make_plan(sweep, "500 MiB", Threads(2, memory=64 * GiB))
    assert ample.blocks == cramped.blocks


def test_a_plan_of_more_points_than_any_disk_holds_is_made_without_computing_them() -> None:
    plan = make_plan(
        load(
            axes={name: {"from": 1, "to": 10**6, "num": 10**5} for name in ("seq_len", "page_size", "max_batch_size")},
            values=LLAMA,
            outputs=["throughput"],
        )
    )
    assert plan.points == 10**15
    # 8 bytes for each throughput, 1 for the flag whether it fits, both on all three axes.
    assert plan.stored_bytes == 9 * 10**15
    assert plan.region_bytes <= 64 * MiB
    assert sum(variable.nbytes(plan.parameters.sizes) for variable in plan.evaluator.outputs.values()) == 9 * 10**15


def test_a_plan_tells_itself_in_one_line() -> None:
    plan = sg.plan(axes={"page_size": [1, 16, 64], "max_batch_size": [1, 2]}, values={**LLAMA, "seq_len": 8}, threads=3)
    # Four numbers and a flag of 6 points each, one number of 3, one of 2.
    assert repr(plan) == (
        "Plan: 6 points (page_size 3 x max_batch_size 2), 238 byte before compression, "
        "1 region of at most 238 byte, 1 thread"
    )


# A store that is there.


@settings(max_examples=40)
@given(BUDGETS, st.integers(1, 64), BUDGETS, st.integers(1, 64), LENGTHS)
def test_a_run_that_goes_on_has_the_blocks_of_the_store(
    first: int, threads: int, later: int, others: int, lengths: list[int]
) -> None:
    sweep = huge(*lengths)
    made = make_plan(sweep, first, Threads.of(threads))
    assume(BASE_MEMORY + 3 * made.region_bytes <= later)
    plan = make_plan(sweep, later, Threads.of(others), laid_out(made), parts=7)
    assert plan.blocks == made.blocks
    assert 1 <= plan.crew.threads <= others
    # With less memory, fewer threads work at once; no fewer than fit.
    assert BASE_MEMORY + 3 * plan.region_bytes * plan.crew.threads <= later
    fit = (later - BASE_MEMORY) // (3 * plan.region_bytes)
    assert plan.crew.threads == min(others, fit, len(plan.blocks))


@settings(max_examples=40)
@given(st.integers(3000, 4000), st.integers(1000, 4000))
def test_a_store_whose_blocks_do_not_fit_the_memory_is_refused_with_what_would_do(
    pages: int, efficiencies: int
) -> None:
    sweep = huge(4000, 1000, efficiencies)
    root = laid_out(make_plan(sweep), page_size=pages, max_batch_size=1000, efficiency=efficiencies)
    # Throughput and a flag along pages and batches, the time to the first token along the others.
    block = 1000 * pages * (8 + 1) + 1000 * efficiencies * 8
    with pytest.raises(sg.InputError) as refusal:
        make_plan(sweep, LEAST_MEMORY, Threads.of(2), root)
    said = re.fullmatch(
        r"memory: got 384 MiB, expected (.+) or more: the store is cut into blocks of (.+)", str(refusal.value)
    )
    assert said is not None, refusal.value
    assert to_number(said[2], "byte") == pytest.approx(block, rel=1e-3)
    # What the message asks for is enough, though it is rounded.
    assert make_plan(sweep, said[1], Threads.of(2), root).crew.threads == 1
    assert BASE_MEMORY + 3 * block <= to_number(said[1], "byte") < 1.01 * (BASE_MEMORY + 3 * block)


def test_a_store_whose_blocks_do_not_fit_the_memory_of_a_crew_is_refused_in_words_that_fit() -> None:
    sweep = huge(4000, 1000, 1000)
    root = laid_out(make_plan(sweep), page_size=4000, max_batch_size=1000, efficiency=1000)
    with pytest.raises(sg.InputError, match="400 MiB"):
        make_plan(sweep, "64 GiB", Threads(2, memory=400 * MiB), root)


def test_a_store_grows_in_the_blocks_that_it_has() -> None:
    made = make_plan(huge(200, 100, 30), crew=Threads.of(2))
    root = laid_out(made, page_size=7, max_batch_size=100, efficiency=30)
    plan = make_plan(huge(500, 200, 31), crew=Threads.of(2), root=root)
    assert plan.blocks.block == {"page_size": 7, "max_batch_size": 100, "efficiency": 30}
    assert plan.blocks.counts == {"page_size": 72, "max_batch_size": 2, "efficiency": 2}


def test_an_axis_along_which_nothing_is_stored_yet_is_whole() -> None:
    only_ttft = replace(huge(200, 100, 30), outputs=("ttft",), solver=without("feasible"))
    root = laid_out(make_plan(only_ttft), max_batch_size=9, efficiency=30)
    plan = make_plan(huge(200, 100, 30), root=root)
    assert plan.blocks.block == {"page_size": 200, "max_batch_size": 9, "efficiency": 30}


def test_a_store_of_which_nothing_is_computed_needs_no_memory() -> None:
    """Its outputs are inputs."""
    sweep = load(axes={"hardware": ["h100-sxm", "l4"]}, values={"seq_len": 8}, outputs=["hbm_bandwidth", "seq_len"])
    made = make_plan(sweep)
    assert (made.points, made.stored_bytes, len(made.blocks)) == (2, 0, 1)
    assert make_plan(sweep, LEAST_MEMORY, Threads.of(3), laid_out(made)).blocks == made.blocks


# What is given.


@pytest.mark.parametrize(
    ("memory", "budget"),
    [
        ("2 GiB", 2 * GiB),
        ("384MiB", LEAST_MEMORY),
        ("1e9", 10**9),
        ("1 GB", 10**9),
        ("403 MB", 403_000_000),
        (LEAST_MEMORY, LEAST_MEMORY),
        (1e9 + 0.5, 10**9),
        (DEFAULT_MEMORY, 2 * GiB),
    ],
)
def test_a_budget_is_a_number_of_bytes_or_a_text_with_a_unit(memory: float | str, budget: int) -> None:
    assert read_memory(memory) == budget


@pytest.mark.parametrize("memory", [0, -1, LEAST_MEMORY - 1, True, "383 MiB", 2**63, float("inf"), "1 s", "many", ""])
def test_a_budget_that_is_none_is_refused(memory: float | str) -> None:
    with pytest.raises(sg.InputError, match=r"^memory: .*, expected 384 MiB or more, such as 2GiB$"):
        read_memory(memory)
