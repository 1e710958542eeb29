"""`servegrid sensitivity`: tables, JSON, CSV, and its refusals."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import servegrid as sg
from servegrid.cli import main

SWEEP = """
name: mine
question: What does bandwidth buy?
axes: {hardware: [l4, h100-sxm], max_batch_size: [1, 100]}
values: {model: llama-3.1-8b, precision: fp16, seq_len: 2048}
outputs: [throughput, itl]
"""
PLACE = ["--at", "hardware=h100-sxm", "--at", "max_batch_size=100"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SWEEP)
    return path


def called(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["sensitivity", str(file), *arguments])


def printed(file: Path, *arguments: str) -> str:
    result = called(file, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_point_in_words(file: Path) -> None:
    lines = printed(file, *PLACE).splitlines()
    assert lines[0] == "mine  What does bandwidth buy?"
    assert lines[1] == "at hardware=h100-sxm, max_batch_size=100"
    assert lines[2] == "what binds: memory_bandwidth"
    assert lines[4].split() == ["input", "value", "changed", "to", "throughput", "itl", "in", "words"]
    bandwidth = next(line for line in lines if line.startswith("hbm_bandwidth"))
    assert bandwidth.split("  ")[-1] == "10 % more hbm_bandwidth: throughput +10 %, itl -9.09 %"
    assert bandwidth.split()[1:7] == ["3.35", "TB/s", "3.685", "TB/s", "1.000", "-1.000"]
    assert [line.split()[0] for line in lines[5:7]] == ["bytes_per_element", "hbm_bandwidth"]  # as in the graph
    assert lines[-1].endswith("no change")


def test_a_grid_in_medians(file: Path) -> None:
    lines = printed(file).splitlines()
    assert lines[1] == "what binds: batch_limit 50 %, memory_capacity 25 %, memory_bandwidth 25 %"
    assert lines[2] == "Elasticity: median (10 % to 90 % of the points)"
    found = sg.sensitivity(file, outputs=["itl"], inputs=["parameters"]).itl
    low, middle, high = np.nanquantile(found, [0.1, 0.5, 0.9])
    row = next(line for line in lines if line.startswith("parameters"))
    assert row.endswith(f"{middle:.3f} ({low:.3f} to {high:.3f})")


def test_what_no_longer_fits_is_said(file: Path) -> None:
    file.write_text(SWEEP.replace("values: {", "values: {hbm_capacity: 17 GiB, "))  # for weights of 15
    lines = printed(file, *PLACE).splitlines()
    assert not any("nothing fits" in line for line in lines)
    shrunk = printed(file, *PLACE, "--step", "20%").splitlines()
    assert next(line for line in shrunk if line.startswith("parameters")).endswith("-  nothing fits any more")


def test_json_of_a_point_and_of_a_grid(file: Path) -> None:
    chosen = ["--output", "throughput", "--input", "hbm_bandwidth", "--json"]
    point = json.loads(printed(file, *PLACE, *chosen, "--step", "0.25"))
    assert point["title"] == "mine"
    assert point["step"] == 0.25
    assert point["bottleneck"] == {"memory_bandwidth": 1.0}
    (row,) = point["rows"]
    assert row["elasticity"] == pytest.approx(1)
    assert row["change"] == pytest.approx(0.25)
    assert (row["input"], row["output"], row["value"]) == ("hbm_bandwidth", "throughput", 3.35e12)
    (row,) = json.loads(printed(file, *chosen))["rows"]
    assert row["median"] == pytest.approx(1)
    assert row["points"] == 4


def test_csv_is_a_table_of_numbers(file: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(file, "--csv"))))
    assert list(rows[0]) == ["input", "output", "p10", "median", "p90", "points"]
    assert {row["output"] for row in rows} == {"throughput", "itl"}
    one = next(row for row in rows if (row["input"], row["output"]) == ("hbm_bandwidth", "itl"))
    assert float(one["median"]) == pytest.approx(-1)


def test_a_tornado(file: Path) -> None:
    ranges = ["--range", "hbm_bandwidth=1.675..6.7 TB/s", "--range", "seq_len=1024..4096"]
    words = [*PLACE, "--tornado", "throughput", *ranges]
    lines = printed(file, *words).splitlines()
    assert lines[2].startswith("throughput: ")
    assert lines[2].endswith("at the point itself")
    row = next(line for line in lines if line.startswith("hbm_bandwidth"))
    assert "(-50 %)" in row
    assert "(+100 %)" in row
    found = json.loads(printed(file, *words, "--json"))
    assert [row["input"] for row in found["rows"]] == ["hbm_bandwidth", "seq_len"]
    assert found["rows"][0]["throughput_high"] == pytest.approx(4 * found["rows"][0]["throughput_low"])
    assert "at the point itself" in printed(file, *PLACE, "--tornado", "itl", "--step", "5%")


def test_sobol_indices(file: Path) -> None:
    words = [*PLACE, "--sobol", "itl", "--range", "hbm_bandwidth=2..8TB/s", "--range", "seq_len=1000..2000"]
    lines = printed(file, *words).splitlines()
    assert lines[2] == "Shares of the variance of itl (95 % intervals), 1,024 samples"
    assert lines[4].startswith("hbm_bandwidth")
    rows = json.loads(printed(file, *words, "--json"))["rows"]
    assert rows[0]["first_order_low"] < rows[0]["first_order"] < rows[0]["first_order_high"]
    assert rows[0]["total_order"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "hardware"], "--at: got 'hardware', expected AXIS=LABEL such as model=llama-3.1-8b"),
        (["--at", "hardware=l4", "--at", "hardware=l4"], "--at: hardware is given twice, expected it once"),
        (["--range", "seq_len=1..2"], "--range: has no meaning here, expected it with --tornado or --sobol"),
        (["--tornado", "itl", "--sobol", "itl"], "--tornado, --sobol: got both, expected one of them"),
        (
            ["--tornado", "itl", "--input", "x"],
            "--input: has no meaning here, expected it without --tornado and --sobol",
        ),
        (["--sobol", "itl", "--step", "1%"], "--step: has no meaning here, expected it without --tornado and --sobol"),
        ([*PLACE, "--sobol", "itl"], "ranges: got 0, expected two inputs or more: one alone accounts for everything"),
    ],
)
def test_refusals(arguments: list[str], message: str, file: Path) -> None:
    result = called(file, *arguments)
    assert result.exit_code == 2
    assert result.output == f"servegrid: {message}\n"


def test_a_sweep_with_axes_has_no_tornado(file: Path) -> None:
    result = called(file, "--tornado", "itl")
    assert result.exit_code == 2
    assert result.output == (
        f"servegrid: {file}: got a sweep along hardware, max_batch_size, expected one point: choose a label of "
        "each axis (at={'hardware': 'l4', ...}; --at hardware=l4)\n"
    )
