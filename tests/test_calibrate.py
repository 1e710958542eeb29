"""Constants fitted to measured runs: they are found again, judged by runs not seen, and written as an engine."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import servegrid as sg
from servegrid import kernel
from servegrid.cli import main
from servegrid.errors import InputError
from servegrid.measured.calibrated import Calibration
from servegrid.measured.engine_file import write_engine
from servegrid.measured.fit import Problem, random_folds, softened
from servegrid.measured.knobs import knobs_of, turned
from servegrid.measured.predictions import Predictor
from servegrid.measured.table import read_measurements
from servegrid.solvers import CONTINUOUS_BATCHING

SOLVER = "continuous_batching"
COUNT = 24
RUNS = pd.DataFrame(
    {
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm",
        "precision": "fp16",
        "seq_len": (64 * 1.2 ** np.arange(COUNT)).astype(int),
        "max_batch_size": 4,
    }
)
CONSTANTS = ["efficiency", "dispatch_time"]


def measured(**values: float) -> pd.DataFrame:
    """Runs of a machine whose constants are these."""
    found = sg.sweep(cases=RUNS, values=values, outputs=["itl", "ttft"])
    return RUNS.assign(measured_ttft=found.ttft.values, measured_itl=found.itl.values)


def calibrated(table: Any, constants: list[str] | None = None, **words: Any) -> Calibration:
    return sg.calibrate(table, constants=constants or CONSTANTS, solver=SOLVER, **words)


def problem_of(table: pd.DataFrame, constants: list[str] | None = None) -> Problem:
    runs = read_measurements(table, CONTINUOUS_BATCHING)
    predictor = Predictor.of(runs, CONTINUOUS_BATCHING)
    return Problem(predictor, runs.measured, knobs_of(predictor, constants or CONSTANTS), np.ones(len(table)))


# --- what is found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("efficiency", [0.3, 0.4, 0.6, 0.7])
def test_a_constant_that_was_changed_is_found_again(efficiency: float) -> None:
    found = calibrated(measured(efficiency=efficiency), ["efficiency"])
    (constant,) = found.constants
    assert constant.before == 0.5
    assert log(constant.after / 0.5) == pytest.approx(log(efficiency / 0.5), rel=0.15)  # the prior holds back
    assert found.before["ttft"].median == pytest.approx(abs(efficiency / 0.5 - 1), rel=0.05)
    assert found.after["ttft"].median < 0.2 * found.before["ttft"].median


def test_nothing_moves_where_predictions_are_right() -> None:
    found = calibrated(measured())
    assert [constant.factor for constant in found.constants] == pytest.approx([1, 1], abs=1e-4)
    assert found.changed == []


def test_a_constant_without_influence_keeps_its_default() -> None:
    table = measured(efficiency=0.3).drop(columns="measured_ttft").assign(measured_itl=0.02)
    table = table.assign(measured_ttft=np.nan)
    found = calibrated(table, ["hbm_bandwidth", "efficiency"])
    factors = {constant.name: constant.factor for constant in found.constants}
    assert factors["efficiency"] == 1
    assert factors["hbm_bandwidth"] < 0.9


def test_a_share_stays_below_one() -> None:
    table = measured().assign(measured_ttft=lambda t: t.measured_ttft / 20)
    (constant,) = calibrated(table, ["efficiency"]).constants
    assert 0.95 < constant.after <= 1


def test_a_wild_row_counts_little() -> None:
    table = measured(efficiency=0.6)
    wild = table.assign(measured_ttft=np.where(np.arange(COUNT) == 3, 30, 1) * table.measured_ttft)
    one, other = (calibrated(each, ["efficiency"]).constants[0].after for each in (table, wild))
    assert other == pytest.approx(one, rel=0.05)


def test_it_is_the_same_in_every_run() -> None:
    table = measured(efficiency=0.6, dispatch_time=1e-4)
    assert calibrated(table) == calibrated(table)


def test_it_says_where_a_fit_does_not_help() -> None:
    helped = calibrated(measured(efficiency=0.7))
    table = measured().assign(measured_ttft=lambda t: t.measured_ttft * np.where(np.arange(COUNT) < 14, 1, 4))
    lost = calibrated(table)
    assert helped.notes == ()
    assert lost.after["ttft"].median > lost.before["ttft"].median
    assert "ttft: runs that the fit has not seen come no closer (0.0 % before, " in lost.notes[0]


def test_values_are_those_that_a_sweep_takes() -> None:
    table = measured(efficiency=0.65)
    (constant,) = calibrated(table, ["efficiency"]).constants
    rows = sg.validate(table, solver=SOLVER, values={"efficiency": constant.after}).errors()
    before = sg.validate(table, solver=SOLVER).errors()
    assert {row["output"]: row["median"] for row in rows}["ttft"] < 0.05
    assert {row["output"]: row["median"] for row in before}["ttft"] > 0.2


# --- how it is found ----------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=5))
def test_squares_of_softened_errors_are_the_soft_l1_loss(errors: list[float]) -> None:
    z = np.array(errors)
    np.testing.assert_allclose(softened(z) ** 2, 2 * (np.sqrt(1 + z**2) - 1), atol=1e-12)
    assert (np.sign(softened(z)) == np.sign(z))[np.abs(z) > 1e-6].all()


def test_residuals_are_errors_of_logarithms_and_turns() -> None:
    problem = problem_of(measured(efficiency=0.6))
    q = np.array([0.5, -0.25])
    rows = np.array([2, 5, 7])
    values = {"efficiency": 0.5 * np.exp(0.3 * 0.5), "dispatch_time": 1e-5 * np.exp(0.3 * -0.25)}
    found = sg.sweep(cases=RUNS, values=values, outputs=["itl", "ttft"])
    expected = []
    for name, scale, weight in (("ttft", 0.25, 0.5), ("itl", 0.1, 1.0)):
        for row in rows:
            z = log(float(found[name][row]) / problem.measured[name][row]) / scale
            expected.append(weight * np.sign(z) * np.sqrt(2 * (np.sqrt(1 + z * z) - 1)))
    np.testing.assert_allclose(problem.residuals(q, rows), [*expected, *q], rtol=1e-6, atol=1e-9)


def test_a_row_without_measurement_does_not_pull() -> None:
    table = measured(efficiency=0.6)
    gaps = table.assign(measured_ttft=table.measured_ttft.where(np.arange(COUNT) % 2 == 0))
    problem = problem_of(gaps)
    residuals = problem.residuals(np.zeros(2), np.arange(COUNT))[:COUNT]
    assert (residuals[1::2] == 0).all()
    assert (residuals[::2] != 0).all()


def test_a_fit_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of(measured(efficiency=0.6))
    problem.predict(np.zeros(2))
    monkeypatch.setattr(kernel, "_load", None)
    assert problem.fit(np.arange(COUNT)).any()


@given(st.integers(2, 40), st.integers(2, 9))
def test_folds_hold_each_row_once(rows: int, folds: int) -> None:
    parts = random_folds(rows, folds)
    assert sorted(np.concatenate(parts).tolist()) == list(range(rows))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == min(rows, folds)


@settings(max_examples=10)
@given(st.integers(0, 4), st.floats(0.3, 3))
def test_cross_validation_never_sees_its_own_rows(fold: int, factor: float) -> None:
    table = measured(efficiency=0.6)
    folds = random_folds(COUNT, 5)
    changed = table.measured_ttft.to_numpy().copy()
    changed[folds[fold]] *= factor
    one = problem_of(table).out_of_fold(folds)["ttft"]
    other = problem_of(table.assign(measured_ttft=changed)).out_of_fold(folds)["ttft"]
    np.testing.assert_array_equal(one[folds[fold]], other[folds[fold]])


def test_cross_validation_trains_on_the_others() -> None:
    table = measured(efficiency=0.6)
    folds = random_folds(COUNT, 5)
    problem = problem_of(table)
    rest = np.setdiff1d(np.arange(COUNT), folds[1])
    expected = problem.predict(problem.fit(rest))["ttft"]
    np.testing.assert_array_equal(problem.out_of_fold(folds)["ttft"][folds[1]], expected[folds[1]])


def test_knobs_of_groups_turn_their_own_rows() -> None:
    table = measured().assign(hardware=["h100-sxm", "a100-80gb"] * (COUNT // 2))
    runs = read_measurements(table, CONTINUOUS_BATCHING)
    predictor = Predictor.of(runs, CONTINUOUS_BATCHING)
    knobs = knobs_of(predictor, ["hbm_bandwidth", "efficiency"], group="hardware")
    assert [(knob.constant, knob.group) for knob in knobs] == [
        ("hbm_bandwidth", "h100-sxm"), ("hbm_bandwidth", "a100-80gb"), ("efficiency", "")
    ]  # fmt: skip
    changed = turned(predictor, knobs, np.array([1.0, 0.0, -1.0]))
    ratio = changed["hbm_bandwidth"] / predictor.inputs["hbm_bandwidth"]
    np.testing.assert_allclose(ratio, np.where(table.hardware == "h100-sxm", np.exp(0.3), 1.0))
    assert changed["efficiency"] == pytest.approx(0.5 * np.exp(-0.3))


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words", "sentence"),
    [
        ({}, {"constants": ["eficiency"]}, "constants: 'eficiency' is no input of what was measured (did you mean"),
        ({}, {"constants": ["seq_len"]}, "constants: seq_len goes from 64 to 4239 in these rows"),
        ({}, {"constants": ["kv_latent_dim"]}, "constants: kv_latent_dim is 0, expected a number above 0"),
        ({}, {"constants": ["efficiency", "efficiency"]}, "constants: a name stands twice"),
        ({}, {"constants": None}, "constants: the solver continuous_batching has none that are fitted by default"),
        ({}, {"folds": 1}, "folds: got 1, expected a whole number, at least 2"),
        ({"measured_ttft": -1.0}, {}, "row 0, measured_ttft: got -1.0, expected a number in s, above 0"),
    ],
)
def test_refusals(change: dict[str, Any], words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        sg.calibrate(measured().assign(**change), **{"constants": CONSTANTS, "solver": SOLVER, **words})
    assert sentence in str(refused.value)


def test_one_row_is_too_few() -> None:
    with pytest.raises(InputError, match="got one row, expected two or more to fit to"):
        calibrated(measured().iloc[:1])


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("mine.txt", "out: got 'mine.txt', expected a name such as my-engine.yaml"),
        ("mine.yaml", "the solver has no engines, expected one whose constants an engine gives"),
    ],
)
def test_the_command_refuses_in_one_sentence(tmp_path: Path, out: str, sentence: str) -> None:
    path = tmp_path / "runs.csv"
    measured(efficiency=0.6).to_csv(path, index=False)
    arguments = [str(path), "--solver", SOLVER, "--constants", "efficiency", "--out", out]
    result = CliRunner().invoke(main, ["calibrate", *arguments])
    assert result.exit_code == 2
    assert sentence in result.output
    assert len(result.output.splitlines()) == 1


# --- an engine of one's own ---------------------------------------------------------------------------------------

SAMPLE = Path(__file__).parent / "data" / "serving_sample.csv"  # 30 runs of one deployment; see benchmarks/data


@pytest.fixture(scope="module")
def found() -> Calibration:
    return sg.calibrate(SAMPLE)


def test_published_runs_come_closer(found: Calibration) -> None:
    assert (found.like, found.rows, found.folds, found.notes) == ("tensorrt-llm", 30, 5, ())
    assert found.after["tpot"].median < 0.07 < found.before["tpot"].median
    assert found.after["ttft"].mean < found.before["ttft"].mean
    assert {constant.name for constant in found.changed} >= {"kernel_factor", "admission_steps"}


def test_an_engine_file_is_used_like_any_engine(found: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    write_engine(found, path, "sample.csv")
    engine = sg.Catalog.default().extended(path).engine("mine")
    assert engine.like == "tensorrt-llm"
    for constant in found.changed:
        written = engine.constants[constant.name]
        assert (written.how, written.spread) == ("fitted", constant.width)
        assert written.value == pytest.approx(constant.after, rel=1e-5)
    source = sg.Catalog.default().extended(path).source("engine", "mine", "constants.kernel_factor")
    assert "30 rows of sample.csv" in str(source)
    table = pd.read_csv(SAMPLE).assign(engine="mine")
    row = next(row for row in sg.validate(table, catalog=[path]).errors() if row["output"] == "tpot")
    assert row["median"] < found.before["tpot"].median / 2


def test_the_function_writes_the_same_file(found: Calibration, tmp_path: Path) -> None:
    one, other = tmp_path / "one" / "mine.yaml", tmp_path / "other" / "mine.yaml"
    for path in (one, other):
        path.parent.mkdir()
    assert sg.calibrate(SAMPLE, out=one) == found
    write_engine(found, other, SAMPLE.name)
    assert one.read_text() == other.read_text()


def test_an_engine_can_be_calibrated_again(found: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    write_engine(found, path)
    again = sg.calibrate(pd.read_csv(SAMPLE).assign(engine="mine"), catalog=[path])
    assert again.like == "mine"
    assert again.before["tpot"].median < found.before["tpot"].median
    for constant in again.changed:
        assert abs(log(constant.factor)) < 0.5


def test_the_engine_is_a_column_or_a_word() -> None:
    table = pd.read_csv(SAMPLE)
    named = sg.calibrate(table.drop(columns="engine"), engine="tensorrt-llm", constants=["kernel_factor"])
    assert named == sg.calibrate(table, engine="tensorrt-llm", constants=["kernel_factor"])
    with pytest.raises(InputError, match="row 0, engine: got 'tensorrt-llm', expected 'vllm' in all rows"):
        sg.calibrate(table, engine="vllm")
    with pytest.raises(InputError, match="engine: got tensorrt-llm and vllm, expected the runs of one engine"):
        sg.calibrate(table.assign(engine=["vllm"] + ["tensorrt-llm"] * 29))


def test_the_command_writes_an_engine(found: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "my-engine.yaml"
    result = CliRunner().invoke(main, ["calibrate", str(SAMPLE), "--out", str(path)])
    assert result.exit_code == 0, result.output
    assert "kernel_factor" in result.output
    assert "calibrated" in result.output
    assert result.output.splitlines()[-1] == str(path)
    assert sg.Catalog.default().extended(path).engine("my-engine").like == "tensorrt-llm"


def test_the_command_prints_json(tmp_path: Path) -> None:
    arguments = [str(SAMPLE), "--constants", "kernel_factor", "--json", "--out", str(tmp_path / "mine.yaml")]
    rows = json.loads(CliRunner().invoke(main, ["calibrate", *arguments]).stdout)["rows"]
    assert [(row["output"], row["constants"]) for row in rows] == [
        ("ttft", "catalogue"), ("ttft", "calibrated"), ("tpot", "catalogue"), ("tpot", "calibrated")
    ]  # fmt: skip
