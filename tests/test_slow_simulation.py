"""Every request's times against a simulation that is written from the papers alone, and what holds for any run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_simulation import SCHEDULER, Linear, Played, played, traced
from slow_simulation import Policy, Request, Server, Times

MOST = 60  # examples of each scheduler
RESERVATIONS = ("pages", "exact", "power", "longest")

PAGED: dict[str, Any] = {"chunked": False, "mixed": False}
CONTIGUOUS: dict[str, Any] = {"chunked": False, "mixed": True}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "static": {**CONTIGUOUS, "iteration_level": False, "reservation": "longest"},
    "orca-max": {**CONTIGUOUS, "reservation": "longest"},
    "orca-pow2": {**CONTIGUOUS, "reservation": "power"},
    "orca-oracle": {**CONTIGUOUS, "reservation": "exact"},
    "paged": PAGED,
    "paged, swapped": {**PAGED, "swapping": True},
    "mixed": {**PAGED, "mixed": True},
    "mixed, swapped": {**PAGED, "mixed": True, "swapping": True},
    "chunked": {},
    "chunked, swapped": {"swapping": True},
    "disaggregated": {"share": 1.0, "servers": 2},
    "disaggregated, paged, swapped": {**PAGED, "swapping": True, "share": 1.0},
    "disaggregated in part": {"share": 0.5},
}


@dataclass(frozen=True)
class Case:
    """Requests, and how they are served."""

    gaps: tuple[float, ...]
    prompts: tuple[int, ...]
    outputs: tuple[int, ...]
    policy: Policy
    hits: float = 0.0
    swap: float = 0.375


@st.composite
def cases(draw: st.DrawFn, /, **fixed: Any) -> Case:
    """Few requests and little memory: some are preempted, now and then one is refused."""
    count = draw(st.integers(1, 14))
    few = st.integers(1, 20)

    def several(of: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(of, min_size=count, max_size=count)))

    page = draw(st.sampled_from([1, 2, 3, 4, 8]))
    least = -(-40 // page)
    contiguous = fixed.get("reservation", "pages") != "pages"
    pages = draw(st.integers(max(1, least // 2), (8 if contiguous else 3) * least))
    policy = Policy(
        page=page,
        pages=pages,
        spare=draw(st.sampled_from([0, 0, 1, 2])),
        batch=draw(st.integers(1, 8)),
        budget=draw(st.integers(1, 30)),
        own=draw(st.sampled_from([0, 0, 1])),
        longest=40,
        clients=draw(st.sampled_from([0, 0, 1, 3, 6])),
    )
    gaps = several(st.floats(0, 4, allow_subnormal=False))
    hits = draw(st.sampled_from([0.0, 0.0, 0.5, 1.0]))
    return Case(gaps, several(few), several(few), replace(policy, **fixed), hits)


def fast(case: Case) -> Played:
    policy = case.policy
    scheduler = SCHEDULER._replace(
        iteration_level=policy.iteration_level,
        reservation=RESERVATIONS.index(policy.reservation),
        mixed_passes=policy.mixed,
        chunked_prompts=policy.chunked,
        swapping=policy.swapping,
        watermark=(policy.spare + 0.5) / policy.pages,
        max_batch_size=policy.batch,
        chunk_size=policy.budget,
        pool_pages=policy.pages,
        page_size=policy.page,
        state_pages=policy.own,
        swap_page_time=case.swap,
        disaggregated=policy.share,
        prefill_servers=policy.servers,
    )
    workload = traced(
        np.cumsum(case.gaps).tolist(),
        case.prompts,
        case.outputs,
        max_len=policy.longest,
        concurrency=policy.clients,
        prefix_hit_rate=case.hits,
    )
    return played(workload, scheduler)


def slow(case: Case) -> tuple[list[Request], Server]:
    linear = Linear()
    requests = [
        Request(number, float(arrival), prompt, output, cached=min(int(prompt * case.hits), prompt - 1))
        for number, (arrival, prompt, output) in enumerate(
            zip(np.cumsum(case.gaps), case.prompts, case.outputs, strict=True)
        )
    ]
    server = Server(
        requests,
        case.policy,
        Times(linear.decode, linear.attention, linear.prompts, linear.transfer, case.swap),
    )
    server.run()
    return requests, server


def check(case: Case) -> None:
    ours, (requests, server) = fast(case), slow(case)
    np.testing.assert_allclose(ours.requests["arrival"], [request.arrival for request in requests], rtol=1e-9)
    np.testing.assert_allclose(ours.requests["first"], [request.first for request in requests], rtol=1e-9)
    np.testing.assert_allclose(ours.requests["finish"], [request.finish for request in requests], rtol=1e-9)
    assert ours.server["refused"] == sum(request.refused for request in requests)
    assert ours.server["passes"] == server.passes
    assert ours.server["preemptions"] == server.preemptions
    assert ours.server["longest_queue"] == server.longest_queue
    assert ours.server["most_used"] == server.most_used
    check_conserved(ours)


def check_conserved(ours: Played) -> None:
    """Every request ended once or was refused, and all that it had was given back."""
    server, requests = ours.server, ours.requests
    ended = ~np.isnan(requests["finish"])
    assert server["finished"] == server["arrived"] == server["admitted"] == server["released"] == len(requests)
    assert ended.sum() + server["refused"] == len(requests)
    for counter in ("running", "stacked", "entering", "used", "reserved", "final", "context", "prompts"):
        assert server[counter] == 0, counter
    assert not ours.lists.due.any()
    assert server["most_used"] <= ours.rules["pages"]
    assert server["swap_debt"] == 0
    assert (requests["first"][ended] > requests["arrival"][ended]).all()
    assert (requests["finish"][ended] >= requests["first"][ended]).all()
    if ours.rules["reservation"] != 0:
        pages, sizes = int(ours.rules["pages"]), ours.lists.tree
        assert sizes[1] == pages, "a pool that is no power of two is free in blocks, its binary digits"


@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_request_s_times_are_those_of_the_slow_simulation(name: str) -> None:
    @settings(max_examples=MOST)
    @given(cases(**SCHEDULERS[name]))
    def compare(case: Case) -> None:
        check(case)

    compare()


SWITCHES = {
    "iteration_level": st.booleans(),
    "reservation": st.sampled_from(RESERVATIONS),
    "mixed": st.booleans(),
    "chunked": st.booleans(),
    "swapping": st.booleans(),
    "share": st.sampled_from([0.0, 0.0, 0.5, 1.0]),
}


@settings(max_examples=10 * MOST)
@given(st.fixed_dictionaries(SWITCHES).flatmap(lambda switches: cases(**switches)))
def test_nothing_is_lost_whatever_the_switches(case: Case) -> None:
    check_conserved(fast(case))
