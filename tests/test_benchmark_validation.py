"""The benchmark of predictions against published runs: it runs, its data are what they say, no run judges itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks import validation, validation_models
from benchmarks.validation import DATA, DEPLOYMENT, OUTPUTS, Servers
from servegrid.catalog import Catalog
from servegrid.measured.predictions import Predictor
from servegrid.measured.scores import score
from servegrid.solvers import SERVING

FEW = Servers(every=23)


def test_it_prints_all_tables() -> None:
    done = CliRunner().invoke(validation.main, ["--tiny"], catch_exceptions=False)
    assert done.exit_code == 0
    titles = [line for line in done.output.splitlines() if line and not line.startswith("|")]
    assert titles[0] == "Whole servers"
    assert len(titles) == 8
    assert "| AIConfigurator 0.12 |" in done.output


def test_the_rival_is_as_far_off_as_was_published() -> None:
    runs = Servers().runs()
    assert len(runs) == 1328
    found = {name: score(runs.rivals["aiconfigurator"][name], runs.measured[name]) for name in OUTPUTS}
    assert (found["tpot"].rows, found["ttft"].rows) == (1288, 1288)
    assert (found["tpot"].median, found["tpot"].mean) == pytest.approx((0.139, 0.247), abs=5e-4)
    assert (found["ttft"].median, found["ttft"].mean) == pytest.approx((0.452, 0.479), abs=5e-4)


def test_the_data_are_in_our_names() -> None:
    table = Servers().table
    assert table.model.value_counts().to_dict() == {
        "llama-3.1-70b": 441, "gpt-oss-120b": 351, "deepseek-r1": 292, "llama-3.1-8b": 244
    }  # fmt: skip
    assert (table.measured_tpot < table.measured_ttft).mean() > 0.99
    assert table.measured_tpot.between(1e-3, 1).all()
    for name in ("throughput", "kv_capacity"):
        assert not pd.read_csv(DATA / f"{name}.csv").empty
    said = (DATA / "README.md").read_text()
    assert all(file.name in said for file in DATA.glob("*.csv"))


def test_we_are_closer_than_the_targets() -> None:
    runs = Servers().runs()
    found = validation.predicted(runs)
    tpot, ttft = (score(found[name], runs.measured[name]) for name in OUTPUTS)
    assert tpot.rows == ttft.rows == 1328
    assert tpot.median < 0.10
    assert tpot.mean < 0.14
    assert ttft.median < 0.26
    assert ttft.mean < 0.38


def test_ten_runs_of_a_deployment_bring_its_others_below_7_percent() -> None:
    runs = Servers().runs()
    before, after = validation.calibrated(runs)
    known = np.isfinite(after["tpot"])
    assert (known == np.isfinite(before["tpot"])).all()
    groups = Servers().table.groupby(DEPLOYMENT).size()
    assert known.sum() == (groups[groups >= 20] - 10).sum()
    one, other = (score(columns["tpot"], runs.measured["tpot"]) for columns in (before, after))
    assert other.median < 0.07
    assert other.median < 0.75 * one.median
    assert other.mean < one.mean


def test_a_model_that_is_left_out_has_no_say_in_its_own_prediction() -> None:
    table = FEW.table
    mine = (table.model == "llama-3.1-70b").to_numpy()
    one = validation.left_out(FEW.runs())
    other = validation.left_out(FEW.runs(measured_tpot=table.measured_tpot * np.where(mine, 3, 1)))
    np.testing.assert_array_equal(one["tpot"][mine], other["tpot"][mine])
    assert not np.array_equal(one["tpot"][~mine], other["tpot"][~mine])


def test_priors_replace_what_was_fitted() -> None:
    catalog = Catalog.default().extended(validation_models.engines_of_priors())
    fitted, priors = Catalog.default().constants("vllm"), catalog.constants("vllm")
    assert priors["kernel_time"].value == 3.5e-6 != fitted["kernel_time"].value
    assert priors["kernel_factor"].value == 1.0 != fitted["kernel_factor"].value
    assert priors["half_width"].value == fitted["half_width"].value
    assert all(priors[name].spread == fitted[name].spread for name in fitted)


def test_every_deployment_counts_alike() -> None:
    predictor = Predictor.of(FEW.runs(), SERVING)
    weights = validation.deployment_weights(predictor)
    sums = FEW.table.assign(square=weights**2).groupby(DEPLOYMENT).square.sum()
    np.testing.assert_allclose(sums, sums.iloc[0])


def test_waits_are_those_of_the_scripts() -> None:
    table = Servers().table.reset_index(drop=True)
    steps = pd.Series(validation_models.script_steps(table))
    polled = (table.engine == "sglang") & (table.hardware == "b200") & (table.concurrency == 64)
    assert set(steps[polled]) == {32.5}
    assert set(steps[table.engine == "vllm"]) == {2.5}
    assert set(steps[(table.engine == "tensorrt-llm") & (table.attention_data_parallel > 1)]) == {32.5}
    assert set(steps) == {2.5, 12.5, 22.5, 32.5}


def test_page_waste_is_within_half_a_percent_of_a_replay() -> None:
    rows = validation.page_waste()
    assert len(rows) == 14
    differences = {(row["trace"], row["page size"]): abs(row["replayed"] - row["equation"]) for row in rows}
    assert all(value < 0.005 for (_, page), value in differences.items() if page <= 128)
    assert max(differences.values()) < 0.006


def test_kv_capacity_is_right_in_the_median() -> None:
    rows, total = validation.kv_capacity()
    assert len(rows) == total.rows == 17
    assert total.median < 0.05
    assert total.rank > 0.99


def test_tables_say_where_we_lose() -> None:
    rows = validation.by_column(Servers(), *DEPLOYMENT)
    for row in validation.lost(rows):
        assert "aiconfigurator" in (row["tpot better"], row["ttft better"])
    assert validation.lost(rows)


def test_nothing_is_read_from_outside_the_repository() -> None:
    root = Path(validation.__file__).parents[1]
    assert root in DATA.parents
    assert root in validation.LENGTHS.parents
