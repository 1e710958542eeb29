"""Benchmarks of questions, tiny: everybody finds the same. How fast they are is not tested."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import asking, bench_questions, frontier, trillion
from benchmarks.clouds import CLOUDS
from benchmarks.contenders import Contender
from benchmarks.frontier import SERVEGRID, SWEEP, Case, Outcome
from benchmarks.grid import TINY
from benchmarks.question import MOST_ITL, MOST_TTFT, Answer, disagreement
from benchmarks.with_numpy import served
from servegrid.kernel import CACHE_VARIABLE


@pytest.fixture(autouse=True)
def same_cache(kernel_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks choose a cache of their own; the next test shall find the session's."""
    monkeypatch.setenv(CACHE_VARIABLE, str(kernel_cache))


# --- one best configuration for each group ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected() -> Answer:
    """Point by point."""
    found = {name: np.broadcast_to(values, tuple(TINY.sizes.values())) for name, values in served(**TINY.facts).items()}
    groups = (TINY.sizes["model"], TINY.sizes["hardware"])
    scores, places = np.full(groups, -np.inf), np.zeros(groups, np.int64)
    for index in np.ndindex(*groups):
        each = {name: values[index].reshape(-1) for name, values in found.items()}
        for place in range(TINY.points // prod(groups)):
            fits = each["n"][place] > 0 and each["ttft"][place] <= MOST_TTFT and each["itl"][place] <= MOST_ITL
            if fits and each["throughput"][place] > scores[index]:
                scores[index], places[index] = each["throughput"][place], place
    return Answer(scores, places)


def test_some_groups_have_an_answer_and_some_have_none(expected: Answer) -> None:
    exist = expected.scores > -np.inf
    assert exist.any()
    assert not exist.all()
    assert len(set(expected.places[exist])) > 2


@pytest.mark.parametrize("contender", asking.CONTENDERS.values(), ids=lambda contender: contender.name)
def test_a_contender_finds_the_best_configurations(contender: Contender, expected: Answer) -> None:
    found = contender.prepare(TINY, {})()
    if contender.function == "highest":
        found = Answer.of(TINY, np.asarray(found), expected.places)
    assert disagreement(found, expected) == ""


def test_another_answer_is_noticed(expected: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    exist = expected.scores > -np.inf
    assert disagreement(Answer(expected.scores * (1 + 1e-8), expected.places), expected) == "the scores differ"
    assert "group" in disagreement(Answer(np.zeros_like(expected.scores), expected.places), expected)
    assert "winners" in disagreement(Answer(expected.scores, expected.places + exist), expected)
    monkeypatch.setattr("benchmarks.ask_numpy.MOST_ITL", 2 * MOST_ITL)
    with pytest.raises(ArithmeticError, match="numpy, tuned, tiles, 1 thread: "):
        asking.check(TINY, {asking.TILES[0]: asking.CONTENDERS[asking.TILES[0]]})


def test_asking_reports_figures_as_a_table_and_as_json(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    arguments = ["--tiny", "--rounds", "1", "--json", str(file), "--only", asking.WRITTEN, "--only", asking.STORED[0]]
    done = CliRunner().invoke(asking.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert asking.WRITTEN in done.output
    [grid] = json.loads(file.read_text())["grids"]
    assert {row["name"] for row in grid["rows"]} == {asking.WRITTEN, asking.STORED[0], asking.REFERENCE}
    assert {figure["target"] for figure in grid["figures"]} == {8, 1}


# --- frontiers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_all_find_the_same_frontier_of_a_cloud(kind: str, objectives: int) -> None:
    case = Case(kind, objectives, 300)
    points = case.points
    assert points.shape == (300, objectives)
    reached = (points[:, None] >= points[None]).all(axis=2) & (points[:, None] > points[None]).any(axis=2)
    found = frontier.measure(case, [SERVEGRID, *frontier.RIVALS], 2)
    assert found.frontier == len(np.unique(points[~reached.any(axis=0)], axis=0))
    assert set(found.seconds) == {SERVEGRID, *frontier.RIVALS}


@pytest.mark.parametrize("objectives", [2, 3])
def test_all_find_the_same_frontier_of_a_sweep(objectives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.memory.FULL", TINY)
    case = Case(SWEEP, objectives, 1)
    found = frontier.measure(case, [SERVEGRID, *frontier.RIVALS], 1)
    assert found.points == case.size
    assert 1 <= found.frontier < len(case.points) < case.size


def test_another_frontier_is_noticed() -> None:
    front = np.array([[2.0, 1.0], [1.0, 2.0]])
    assert frontier.same({SERVEGRID: front, "other": np.repeat(front[::-1], 2, axis=0)}) == 2
    with pytest.raises(ArithmeticError, match="other"):
        frontier.same({SERVEGRID: front, "other": front[:1]})
    with pytest.raises(ArithmeticError, match="twice"):
        frontier.same({SERVEGRID: np.repeat(front, 2, axis=0)})


def test_who_is_slow_sits_out_of_what_is_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(case: Case, names: list[str], rounds: int) -> Outcome:
        return Outcome(case.kind, 2, int(case.wanted), 1, {name: 1 if name == SERVEGRID else 9 for name in names})

    monkeypatch.setattr(frontier, "measure", measured)
    monkeypatch.setattr(frontier, "RIVALS", {"slow": None})
    small, large = frontier.outcomes([10, 100], [2], ["ball"])
    assert small.ratio == 9
    assert set(large.seconds) == {SERVEGRID}
    assert large.ratio is None


def test_frontier_reports_a_table_and_json(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    arguments = ["--tiny", "--kind", "ball", "--kind", "ties", "--json", str(file)]
    done = CliRunner().invoke(frontier.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 2 * 3 * 2
    assert all(SERVEGRID in row["seconds"] for row in rows)


# --- a trillion points --------------------------------------------------------------------------------------------


def test_the_sweep_has_a_trillion_points_and_can_be_shortened() -> None:
    assert prod(map(len, trillion.shortened(2e12).axes.values())) == 1_006_632_960_000
    tenth = trillion.shortened(1e11).axes
    assert [len(labels) for labels in tenth.values()] == [6, 40, 8, 64, 8, 16, 6358]
    assert prod(map(len, trillion.shortened(1e5).axes.values())) == 100_000


def test_a_part_of_the_trillion_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "asked.json"
    done = CliRunner().invoke(trillion.main, ["--points", "1e5", "--json", str(file)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "100,000 points, best throughput per model and seq_len" in done.output
    asked = json.loads(file.read_text())
    assert asked["found"] == asked["groups"] == 1
    assert asked["peak_bytes"] > 2**25


# --- asv ----------------------------------------------------------------------------------------------------------


def test_question_benchmarks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_questions, "PROBLEM", TINY)
    monkeypatch.setattr(bench_questions.Frontier, "points", 1000.0)
    for grid in bench_questions.Best.params:
        best = bench_questions.Best()
        best.setup(grid)
        best.time_best(grid)
        best.teardown(grid)
    front = bench_questions.Frontier()
    front.setup("ball", 3)
    front.time_frontier("ball", 3)
    front.teardown("ball", 3)
