"""Predictions beside measurements: errors against loops, groups, rivals, refusals, the command, a picture."""

from __future__ import annotations

import csv
import io
import json
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from pictures import axes_of, data_of, legend_of, outside, overlaps, words_of

import servegrid as sg
from servegrid import plot
from servegrid.cli import main
from servegrid.errors import InputError
from servegrid.measured.scores import score
from servegrid.measured.validation import Validation

SOLVER = "continuous_batching"
RUNS = pd.DataFrame(
    {
        "model": ["llama-3.1-8b"] * 4 + ["mistral-7b"] * 4,
        "hardware": ["h100-sxm", "h100-sxm", "a100-80gb", "a100-80gb"] * 2,
        "precision": "fp16",
        "seq_len": [512, 1024, 2048, 4096] * 2,
        "max_batch_size": [1, 8, 16, 64, 2, 4, 32, 128],
        "team": ["red", "red", "blue", "blue", "blue", "red", "red", "blue"],
    }
)
INPUTS = [name for name in RUNS if name != "team"]


@pytest.fixture(scope="module")
def predicted() -> pd.DataFrame:
    """The runs with what the solver says of them."""
    found = sg.sweep(cases={"columns": RUNS, "keep": ["team"]}, outputs=["itl", "ttft"])
    return RUNS.assign(measured_itl=found.itl.values, measured_ttft=found.ttft.values)


def validated(table: Any, **words: Any) -> Validation:
    return sg.validate(table, solver=SOLVER, **words)


# --- errors -------------------------------------------------------------------------------------------------------


def ranks(values: list[float]) -> list[float]:
    """Places from 1; those that are equal share the mean of theirs."""
    return [(2 * sum(other < value for other in values) + values.count(value) + 1) / 2 for value in values]


def correlation(one: list[float], other: list[float]) -> float:
    first, second = np.array(one) - np.mean(one), np.array(other) - np.mean(other)
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


POSITIVE = st.floats(1e-3, 1e3)


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=3, max_size=30, unique_by=(lambda p: p[0], lambda p: p[1])))
def test_a_score_is_what_loops_say(pairs: list[tuple[float, float]]) -> None:
    found = score(*np.array(pairs).T)
    errors = sorted(abs(predicted - measured) / measured for predicted, measured in pairs)
    middle, position = len(errors) // 2, 0.9 * (len(errors) - 1)
    low = int(position)
    high = min(low + 1, len(errors) - 1)
    median = errors[middle] if len(errors) % 2 else (errors[middle - 1] + errors[middle]) / 2
    assert found.rows == len(pairs)
    assert found.median == pytest.approx(median, rel=1e-9, abs=1e-12)
    assert found.mean == pytest.approx(sum(errors) / len(errors), rel=1e-9, abs=1e-12)
    assert found.p90 == pytest.approx(
        errors[low] + (position - low) * (errors[high] - errors[low]), rel=1e-9, abs=1e-12
    )
    one, other = map(list, zip(*pairs, strict=True))
    assert found.rank == pytest.approx(correlation(ranks(one), ranks(other)), abs=1e-9)


def test_what_is_missing_does_not_count() -> None:
    found = score(np.array([1.0, nan, 3.0, 4.0]), np.array([1.0, 2.0, nan, 5.0]))
    assert (found.rows, found.unanswered) == (2, 1)
    assert found.mean == pytest.approx(0.1)
    assert isnan(found.rank)
    empty = score(np.array([nan]), np.array([1.0]))
    assert (empty.rows, empty.unanswered) == (0, 1)
    assert isnan(empty.median)


@pytest.mark.parametrize("same", ["predicted", "measured"])
def test_no_order_where_one_side_is_the_same_in_all(same: str) -> None:
    values = {"predicted": np.arange(1.0, 6), "measured": np.arange(1.0, 6)} | {same: np.ones(5)}
    assert isnan(score(**values).rank)


def test_a_perfect_prediction_has_no_error(predicted: pd.DataFrame) -> None:
    for row in validated(predicted).errors():
        assert row["rows"] == len(RUNS)
        assert (row["median"], row["mean"], row["p90"]) == pytest.approx((0, 0, 0), abs=1e-12)
        assert row["rank"] == pytest.approx(1)


@given(st.floats(0.2, 5))
def test_a_scaled_measurement_shifts_all_errors(predicted: pd.DataFrame, factor: float) -> None:
    table = predicted.assign(measured_itl=factor * predicted.measured_itl)
    row = validated(table).errors()[0]
    expected = abs(1 / factor - 1)
    assert (row["median"], row["mean"], row["p90"]) == pytest.approx([expected] * 3, abs=1e-9)


def test_the_order_of_rows_does_not_matter(predicted: pd.DataFrame) -> None:
    table = predicted.assign(measured_itl=predicted.measured_itl * np.linspace(0.7, 1.6, len(RUNS)))
    one, other = validated(table).errors(), validated(table.iloc[::-1]).errors()
    for row, turned in zip(one, other, strict=True):
        assert row == {**turned, **{k: pytest.approx(turned[k], abs=1e-12) for k in ("median", "mean", "p90", "rank")}}


def test_groups_are_the_rows_with_a_label(predicted: pd.DataFrame) -> None:
    table = predicted.assign(measured_itl=predicted.measured_itl * np.linspace(0.7, 1.6, len(RUNS)))
    found = validated(table, by=["team", "model"]).errors()
    assert found[0]["team"] == found[0]["model"] == "all"
    assert {(row["team"], row["model"]) for row in found} == {
        ("all", "all"), *((team, model) for team in ("red", "blue") for model in ("llama-3.1-8b", "mistral-7b"))
    }  # fmt: skip
    for row in (row for row in found if row["team"] != "all"):
        part = table[(table.team == row["team"]) & (table.model == row["model"])]
        alone = next(other for other in validated(part).errors() if other["output"] == row["output"])
        for key, value in alone.items():
            assert row[key] == pytest.approx(value, nan_ok=True) if isinstance(value, float) else row[key] == value


def test_rivals_are_compared_on_the_rows_that_both_answer(predicted: pd.DataFrame) -> None:
    theirs = predicted.measured_itl * 1.3
    theirs.iloc[[0, 5]] = nan
    table = predicted.assign(mine_itl=theirs, measured_itl=predicted.measured_itl * np.linspace(1, 2, len(RUNS)))
    ours, rival, ttft = validated(table, rivals="mine").errors()
    assert (ours["predictor"], rival["predictor"], ttft["predictor"]) == ("servegrid", "mine", "servegrid")
    assert ours["rows"] == rival["rows"] == len(RUNS) - 2
    assert ttft["rows"] == len(RUNS)
    kept = np.isfinite(theirs.to_numpy())
    expected = np.abs(predicted.measured_itl / table.measured_itl - 1).to_numpy()[kept]
    assert ours["median"] == pytest.approx(np.median(expected))
    assert rival["mean"] == pytest.approx(np.mean(np.abs(theirs / table.measured_itl - 1).to_numpy()[kept]))


def test_what_does_not_fit_is_not_answered(predicted: pd.DataFrame) -> None:
    table = predicted.assign(model=["llama-3.1-70b", *predicted.model[1:]])
    for row in validated(table).errors():
        assert (row["rows"], row["unanswered"]) == (len(RUNS) - 1, 1)


def test_units_gaps_and_plain_names(predicted: pd.DataFrame, tmp_path: Path) -> None:
    texts = [f"{1e3 * value:.12g} ms" for value in predicted.measured_itl]
    table = RUNS.assign(itl=["", *texts[1:]], seq_len=[f"{length} tokens" for length in RUNS.seq_len])
    table = table.assign(seq_len=RUNS.seq_len).drop(columns="precision")
    path = tmp_path / "runs.csv"
    path.write_text("# of ours\n" + table.to_csv(index=False))
    (row,) = validated(path, values={"precision": "fp16"}).errors()
    assert (row["output"], row["rows"], row["unanswered"]) == ("itl", len(RUNS) - 1, 0)
    assert row["p90"] == pytest.approx(0, abs=1e-9)


def test_points_hold_all_that_a_picture_needs(predicted: pd.DataFrame) -> None:
    points = validated(predicted, rivals=()).points
    assert points.measured_itl.attrs["units"] == "s"
    assert points.measured_itl.attrs["long_name"].endswith(", measured")
    assert points.team.values.tolist() == RUNS.team.tolist()
    np.testing.assert_array_equal(points.itl, predicted.measured_itl)


def test_a_column_whose_name_is_nearly_an_input_is_noticed(predicted: pd.DataFrame) -> None:
    found = validated(predicted.assign(pagesize=32))
    assert found.notes == ("the column 'pagesize' is no input (did you mean page_size?)",)


def test_a_table_is_a_mapping_a_frame_or_a_file(predicted: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    predicted.to_csv(path, index=False)
    columns = {name: predicted[name].tolist() for name in predicted}
    assert validated(path).errors() == validated(columns).errors() == validated(predicted).errors()


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words", "sentence"),
    [
        ({"measured_itl": "fast"}, {}, "row 0, measured_itl: 'fast' is not a number, expected a number in s, above 0"),
        ({"measured_itl": "2 GiB"}, {}, "has a unit that cannot be converted to s"),
        ({"measured_itl": -1.0}, {}, "row 0, measured_itl: got -1.0, expected a number in s, above 0"),
        ({"measured_speed": 1.0}, {}, "the column 'measured_speed' is of no output of the solver continuous_batching"),
        ({"measured_ttfft": 1.0}, {}, "did you mean measured_ttft"),
        ({"itl": 1.0}, {}, "itl was measured twice"),
        ({"model": "lama-3.1-8b"}, {}, "row 0, model: unknown model 'lama-3.1-8b' (did you mean"),
        ({"seq_len": 0}, {}, "row 0, seq_len: got 0, expected a whole number in token, at least 1"),
        ({}, {"by": "tem"}, "by: no column is called 'tem' (did you mean team?)"),
        ({}, {"rivals": ["nobody"]}, "the rival 'nobody' has no column, expected nobody_itl or nobody_ttft"),
        ({}, {"values": {"seq_len": 5}}, "seq_len is given twice"),
    ],
)  # fmt: skip
def test_refusals(predicted: pd.DataFrame, change: dict[str, Any], words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        validated(predicted.assign(**change), **words)
    assert sentence in str(refused.value)


def test_a_table_without_measurements_is_refused() -> None:
    with pytest.raises(InputError, match="no column holds what was measured, expected one such as measured_"):
        validated(RUNS)


def test_a_line_of_a_file_is_named(predicted: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    predicted.assign(hardware=["h100-sxm"] * 3 + ["h1000"] + ["h100-sxm"] * 4).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"runs\.csv, line 5, hardware: unknown accelerator 'h1000'"):
        validated(path)


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def file(predicted: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    predicted.assign(measured_itl=predicted.measured_itl * 1.25, mine_itl=0.01).to_csv(path, index=False)
    return path


def called(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["validate", str(file), "--solver", SOLVER, *arguments])


def test_the_command_prints_a_table(file: Path) -> None:
    result = called(file, "--by", "team,model", "--rival", "mine")
    assert result.exit_code == 0, result.output
    head, first, *_ = result.output.splitlines()
    assert head.split() == [
        *("output", "team", "model", "predictor", "rows"),
        *("median", "error", "mean", "error", "p90", "error", "rank"),
    ]
    assert first.split() == ["itl", "all", "all", "servegrid", "8", *("20.0", "%") * 3, "1.000"]


def test_the_command_prints_json_and_csv(file: Path) -> None:
    told = json.loads(called(file, "--json").output)["rows"]
    assert [row["output"] for row in told] == ["itl", "ttft"]
    assert told[0]["median"] == pytest.approx(0.2)
    rows = list(csv.DictReader(io.StringIO(called(file, "--csv").output)))
    assert [float(row["mean"]) for row in rows] == pytest.approx([row["mean"] for row in told])


def test_the_command_draws(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "scatter.png"
    result = called(file, "--by", "team", "--out", str(picture))
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in result.output


def test_a_setting_is_an_input_of_all_rows(file: Path) -> None:
    slower = json.loads(called(file, "--json", "--set", "hbm_bandwidth=1 TB/s").output)["rows"]
    assert slower[0]["median"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "page_size"], "--set: got 'page_size', expected NAME=VALUE such as page_size=32"),
        (["--out", "scatter.jpg"], "scatter.jpg"),
        (["--by", "nothing"], "by: no column is called 'nothing'"),
        (["--solver", "nobody"], "solver: got 'nobody'"),
    ],
)
def test_the_command_refuses_in_one_sentence(file: Path, arguments: list[str], sentence: str) -> None:
    result = called(file, *arguments)
    assert result.exit_code == 2
    assert sentence in result.output
    assert len(result.output.splitlines()) == 1


# --- the picture --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture(predicted: pd.DataFrame) -> Figure:
    table = predicted.assign(measured_itl=predicted.measured_itl * np.linspace(0.7, 1.6, len(RUNS)))
    return plot.scatter(validated(table).points, "itl", hue="team")


def test_markers_stand_where_the_runs_are(picture: Figure, predicted: pd.DataFrame) -> None:
    lines = {line.get_label(): line for line in axes_of(picture).lines}
    for team in ("red", "blue"):
        mine = (RUNS.team == team).to_numpy()
        measured = (predicted.measured_itl * np.linspace(0.7, 1.6, len(RUNS))).to_numpy()[mine]
        expected = np.column_stack([predicted.measured_itl.to_numpy()[mine], measured])
        np.testing.assert_allclose(data_of(lines[team]), 1e3 * expected)
    assert len({lines[team].get_marker() for team in ("red", "blue")}) == 2
    assert legend_of(picture) == ["red", "blue"]


def test_the_band_is_an_error_of_a_quarter_to_both_sides(picture: Figure) -> None:
    (band,) = (item for item in axes_of(picture).collections if isinstance(item, PolyCollection))
    corners = np.asarray(band.get_paths()[0].vertices)
    ratios = corners[:, 1] / corners[:, 0]
    assert ratios.max() == pytest.approx(1 / 0.75)
    assert ratios.min() == pytest.approx(1 / 1.25)


def test_both_axes_are_alike(picture: Figure) -> None:
    axes = axes_of(picture)
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.get_xlim() == axes.get_ylim()
    assert {"predicted inter-token latency [ms]", "measured inter-token latency [ms]"} <= set(words_of(picture))


def test_words_lie_within_and_apart(picture: Figure, predicted: pd.DataFrame) -> None:
    both = plot.scatters(validated(predicted).points, ["itl", "ttft"], "model")
    for figure in (picture, both):
        assert outside(figure) == []
        assert overlaps(figure) == []


def test_a_picture_needs_a_run(predicted: pd.DataFrame) -> None:
    points = validated(predicted).points
    with pytest.raises(InputError, match="no run has both itl and measured_itl"):
        plot.scatter(points.assign(measured_itl=points.measured_itl * nan), "itl")
