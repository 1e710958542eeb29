"""Two papers reproduced: the targets are met, and what the README says is what comes out."""

from __future__ import annotations

import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks import papers, papers_runs
from benchmarks.papers import BATCHED, PARTS, SLOTS, claim


def test_slots_are_those_of_table_1() -> None:
    for row, (model, row_id) in zip(papers.slots(), SLOTS.items(), strict=True):
        assert row.what.endswith(model)
        assert float(row.ours.replace(",", "")) == pytest.approx(claim(row_id), rel=0.01)


def test_memory_is_within_5_points_of_figure_2() -> None:
    found = papers.shares(seeds=(0,))
    for part, (_, row_ids) in PARTS.items():
        published = [claim(row_id) for row_id in row_ids]
        assert 100 * found[part].to_numpy()[: len(row_ids)] == pytest.approx(published, abs=5), part
    assert (100 * found.kv_states_share).tolist() == pytest.approx([19.7, 27.5, 38.1, 96.4], abs=0.1)
    shares = list(PARTS)
    assert found[shares].sum(axis=1).to_numpy() == pytest.approx(1)


def test_batches_are_within_20_percent_of_figure_13() -> None:
    found = papers.batched()
    published = [claim(row_id) for row_id in BATCHED.values()]
    assert published == [7.00, 9.81, 13.62, 30.42]
    assert found.to_numpy() == pytest.approx(published, rel=0.2)
    assert found.tolist() == pytest.approx([7.00, 9.89, 14.06, 30.79], abs=0.01)
    # Over the whole range of published host times; but not with an engine of today.
    *older, newer = (float(row.ours) for row in papers.sensitivity())
    assert older == pytest.approx([30.42] * 3, rel=0.2)
    assert newer == pytest.approx(20.9, abs=0.1)


def test_orca_has_many_times_the_throughput_at_190_ms() -> None:
    found = papers.curves("gpt-3", [papers.FULL], count=12, requests=600)
    at = papers.at_latency(found, papers.LIMIT)
    assert at["orca-oracle"] / at["static"] == pytest.approx(claim("Y00030"), rel=0.3)
    static = found[found.scheduler == "static"]
    peaks = static.groupby("batch").requests_per_second.max()
    assert peaks[8] < 2 * peaks[1]  # prompts and outputs of a batch differ too much


def test_the_rooms_of_fastertransformer() -> None:
    assert [row.ours for row in papers.room()] == [row.published for row in papers.room()] == ["8", "16"]


def test_a_rate_lies_between_two_by_the_logarithm_of_the_latency() -> None:
    found = pd.DataFrame({"request_rate": [2.0, 1.0, 3.0], "latency": [0.1, 0.01, 10.0]})
    rate = {limit: papers.rate_at(found, "latency", limit, "request_rate") for limit in (0.001, 0.01, 1, 100)}
    assert rate == pytest.approx({0.001: 0, 0.01: 1, 1: 2.5, 100: 3})


def test_lengths_are_scaled_to_the_published_means() -> None:
    rows = papers_runs.sharegpt()
    assert len(rows) == 10564
    assert rows.sum(axis=1).max() < 2048
    assert rows.min().min() == 1
    assert rows.mean().to_dict() == pytest.approx(papers_runs.SHAREGPT, rel=0.05)


def test_it_prints_a_table() -> None:
    done = CliRunner().invoke(papers.main, ["--tiny"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "| Fig 13a: batched requests, Orca (Max) | 7.00 | 7.00 | +0.0 % |" in done.output
