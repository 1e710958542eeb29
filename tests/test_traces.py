"""Traces of the catalogue: published numbers, a user's own files, and what is wrong with one."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import servegrid as sg
from servegrid.catalog import Catalog, CatalogError, written_out
from servegrid.catalog.trace import statistics
from servegrid.errors import InputError
from servegrid.parameters import gather
from servegrid.sweepfile import Sweep, make_sweep, read_sweep

CATALOG = Catalog.default()
LENGTHS = Path(__file__).parents[1] / "notebooks" / "data" / "azure-2023-lengths.csv"
AZURE = {"azure-2023-code": "code", "azure-2023-conversation": "conversation"}
NUMBERS_OF_ROWS = ("requests", "input_len", "input_cv", "longest_input", "output_len", "output_cv", "longest_output")
FACTS = ("input_len", "output_len", "output_cv", "longest_output")
POINT: dict[str, Any] = {
    "model": "llama-3.1-8b", "hardware": "h100-sxm", "precision": "bf16", "engine": "vllm", "concurrency": 16,
}  # fmt: skip
# Means 200 and 30; squares of the outputs' deviations 400, 100, 900.
REQUESTS = "input_len,output_len\n100,10\n200,20\n300,60\n"
OWN = {"input_len": 200, "output_len": 30, "output_cv": sqrt(1400 / 3) / 30, "longest_output": 60}


def test_the_traces_of_the_package() -> None:
    assert list(CATALOG.traces) == [*AZURE, "sharegpt-like", "alpaca-like"]
    for name in AZURE:
        source = CATALOG.source("trace", name, "output_cv")
        assert source is not None
        assert "CC BY 4.0; Patel et al., Splitwise" in source.document


@pytest.mark.parametrize("name", AZURE)
def test_means_are_those_of_the_lengths_that_a_notebook_counts(name: str) -> None:
    lengths = pd.read_csv(LENGTHS).query("trace == @AZURE[@name]")
    trace = CATALOG.trace(name)
    assert trace.requests == lengths.requests.sum()
    mean = np.average(lengths.seq_len, weights=lengths.requests)
    assert trace.input_len + trace.output_len == pytest.approx(mean, rel=1e-7)
    assert trace.longest_output < lengths.seq_len.max()


@pytest.mark.parametrize(
    ("name", "total", "squares"),  # sums over GeneratedTokens, and over their squares, by awk
    [("azure-2023-code", 245896, 38455408), ("azure-2023-conversation", 4088665, 1376914593)],
)
def test_the_spread_is_that_of_the_published_rows(name: str, total: int, squares: int) -> None:
    trace = CATALOG.trace(name)
    assert trace.requests is not None
    assert trace.output_len == pytest.approx(total / trace.requests, rel=1e-7)
    assert trace.output_cv == pytest.approx(sqrt(squares * trace.requests / total**2 - 1), rel=1e-7)


@pytest.mark.parametrize(
    ("name", "length", "inputs"),  # of the published file: the last time less the first, the sum of ContextTokens
    [("azure-2023-code", 3435.948056, 18059974), ("azure-2023-conversation", 3501.721937, 22361870)],
)
def test_the_published_rows_are_there(name: str, length: float, inputs: int) -> None:
    trace = CATALOG.trace(name)
    rows = trace.requests_in_order
    assert rows.times[0] == 0
    assert rows.times[-1] == pytest.approx(length, abs=1e-6)
    assert (np.diff(rows.times) >= 0).all()
    assert rows.inputs.sum() == inputs
    numbers = statistics(rows, name)
    assert {fact: numbers[fact] for fact in NUMBERS_OF_ROWS} == pytest.approx(
        {fact: getattr(trace, fact) for fact in NUMBERS_OF_ROWS}, rel=1e-7
    )


def test_a_trace_without_rows_has_the_shape_that_it_names() -> None:
    sharegpt = CATALOG.trace("sharegpt-like")
    assert (sharegpt.shape, len(sharegpt.requests_in_order.inputs)) == ("exponential", 0)
    assert sharegpt.input_len / CATALOG.trace("alpaca-like").input_len == pytest.approx(8.4, abs=0.05)  # Kwon, 6.1
    assert sharegpt.output_len / CATALOG.trace("alpaca-like").output_len == pytest.approx(5.8, abs=0.05)
    assert CATALOG.trace("azure-code").shape == "lognormal"


# In sweeps.


def facts(sweep: Sweep) -> dict[str, Any]:
    dataset = gather(sweep).dataset
    return {name: dataset[name].values.tolist() for name in FACTS}


def test_an_axis_of_traces_gives_the_lengths_of_requests() -> None:
    outputs = ["throughput", "max_len", "mean_context", "static_throughput"]
    found = sg.sweep(solver="serving", axes={"trace": ["azure-code", "azure-conv"]}, values=POINT, outputs=outputs)
    assert found.trace.values.tolist() == list(AZURE)
    for name in AZURE:
        numbers = {fact: getattr(CATALOG.trace(name), fact) for fact in FACTS}
        same = sg.sweep(solver="serving", values={**POINT, **numbers}, outputs=outputs)
        for output in outputs:
            assert found[output].sel(trace=name).item() == pytest.approx(same[output].item(), rel=1e-12)
    assert found.max_len.values == pytest.approx([2047.8483 + 1899, 1154.6974 + 1000])


def test_traces_with_and_without_times_are_series_of_the_same_length() -> None:
    mine = {"title": "Mine", "input_len": 5, "output_len": 6, "output_cv": 0, "longest_output": 6}
    lengths = mine | {"rows": "input_len,output_len\n5,6\n"}
    for names in (["a"], ["a", "azure-code"], ["a", "sharegpt-like"]):
        sweep = make_sweep(
            {"solver": "simulation", "axes": {"trace": names}, "values": POINT,
             "catalog": [{"traces": {"a": lengths}}]}
        )  # fmt: skip
        dataset = gather(sweep).dataset
        assert np.isnan(dataset["trace_times"].sel(trace="a")).all()
        assert dataset["trace_inputs"].sel(trace="a").values[0] == 5


def test_an_explanation_counts_the_requests_of_each_trace() -> None:
    axes = {"trace": ["azure-code", "azure-conv"]}
    explained = sg.explain(solver="simulation", axes=axes, values=POINT, outputs=["ttft"]).table()
    rows = {row[0]: row[2:5] for row in explained.rows}
    assert rows["trace_inputs"] == ["trace", f"{2 * 19366:,}", "302.6 KiB"]
    assert rows["input_len"] == ["trace", "2", "16 byte"]


def test_what_is_given_beside_a_trace_takes_its_place() -> None:
    values = {**POINT, "trace": "azure-code", "output_cv": 0.5}
    parameters = gather(make_sweep({"solver": "serving", "values": values}))
    assert parameters.dataset["output_cv"] == 0.5
    assert parameters.dataset["output_len"] == pytest.approx(27.882526)
    assert parameters.origins["output_cv"] == "given"
    assert parameters.origins["longest_output"].startswith("catalogue: Azure LLM inference trace 2023")


def test_a_solver_without_lengths_of_outputs_knows_no_traces() -> None:
    with pytest.raises(InputError, match=r"axes\.trace: unknown axis"):
        make_sweep({"axes": {"trace": ["azure-code"]}})


# A user's file.


@pytest.mark.parametrize(
    "content",
    [
        REQUESTS,
        "\ufeff# mine\nuser, output_len ,input_len\n\na,60.0,300\nb,10,100\nc,20,200\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023,100,10\n2023,300,60\n2024,200,20\n",
        "output_len,ContextTokens,GeneratedTokens\n1,100,10\n2,300,60\n3,200,20\n",
    ],
)
def test_a_file_is_summed_up(content: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "my.csv").write_text(content)
    (tmp_path / "own.yaml").write_text("traces: {mine: {file: data/my.csv}}")
    trace = CATALOG.extended(tmp_path / "own.yaml").trace("mine")
    assert {name: getattr(trace, name) for name in FACTS} == pytest.approx(OWN, rel=1e-14)
    assert (trace.requests, trace.title) == (3, "my")


def test_files_of_a_mapping_are_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.csv").write_text(REQUESTS)
    monkeypatch.chdir(tmp_path)
    mapping = {"traces": {"mine": {"file": Path("my.csv"), "title": "Mine", "notes": ["a note"]}}}
    trace = CATALOG.extended(mapping).trace("mine")
    assert (trace.longest_output, trace.title, trace.notes) == (60, "Mine", ("a note",))


@pytest.mark.parametrize("catalog", ["[own.yaml]", "[{traces: {mine: {file: my.csv}}}]"])
def test_a_sweep_keeps_the_numbers_and_not_the_file(catalog: str, tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(REQUESTS)
    (tmp_path / "own.yaml").write_text("traces: {mine: {file: my.csv}}")
    values = {**POINT, "trace": "MINE"}
    (tmp_path / "sweep.yaml").write_text(
        f"solver: serving\ncatalog: {catalog}\nvalues: {yaml.safe_dump(values, default_flow_style=True)}"
    )
    sweep = read_sweep(tmp_path / "sweep.yaml")
    (tmp_path / "my.csv").unlink()
    again = make_sweep(yaml.safe_load(sweep.text))
    assert "my.csv" not in sweep.text
    assert again.catalog.traces == sweep.catalog.traces
    assert again.text == sweep.text
    assert facts(again) == pytest.approx(OWN, rel=1e-14)


def test_a_trace_written_out_is_the_same_again(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(REQUESTS)
    mapping = {"traces": {"mine": {"file": "my.csv"}}}
    out = written_out(mapping, tmp_path)
    assert CATALOG.extended(out).traces == CATALOG.extended(mapping, folder=tmp_path).traces
    assert "file" not in out["traces"]["mine"]


BOTH = "input_len and output_len, or ContextTokens and GeneratedTokens"
WHOLE = "expected a whole number of tokens from 0 to 1,000,000,000"
SECONDS = "expected a time in s, 0 or more"
MOMENT = "expected a date and a time such as 2023-11-16 18:15:46.68"
FILES = {
    "": "the file is empty, expected names of columns and rows of values",
    "input_len,output_len\n": "the table has no rows, expected one for each request",
    "a,b\n1,2\n": f"there is no column 'input_len', expected {BOTH}",
    "input_len,out\n1,2\n": f"there is no column 'output_len', expected {BOTH}",
    "GeneratedTokens\n1\n": f"there is no column 'ContextTokens', expected {BOTH}",
    "input_len,output_len\n1,2\n3\n": "line 3: got 1 values, expected 2 as in the header",
    "input_len,output_len\n1,2\n3,-4\n": f"line 3, output_len: got '-4', {WHOLE}",
    "# a\nContextTokens,GeneratedTokens\n\nmany,2\n": f"line 4, ContextTokens: got 'many', {WHOLE}",
    "input_len,output_len\n1,\n": f"line 2, output_len: got nothing, {WHOLE}",
    "input_len,output_len\n1,2.5\n": f"line 2, output_len: got '2.5', {WHOLE}",
    "input_len,output_len\ninf,2\n": f"line 2, input_len: got 'inf', {WHOLE}",
    "input_len,output_len\n1,nan\n": f"line 2, output_len: got 'nan', {WHOLE}",
    "input_len,output_len\n1e10,1\n": f"line 2, input_len: got '1e10', {WHOLE}",
    "arrival_time,input_len,output_len\n0,1,2\n-1,3,4\n": f"line 3, arrival_time: got '-1', {SECONDS}",
    "arrival_time,input_len,output_len\n,1,2\n": f"line 2, arrival_time: got nothing, {SECONDS}",
    "arrival_time,input_len,output_len\nnan,1,2\n": f"line 2, arrival_time: got 'nan', {SECONDS}",
    "arrival_time,input_len,output_len\ninf,1,2\n": f"line 2, arrival_time: got 'inf', {SECONDS}",
    "arrival_time,input_len,output_len\n2023-11-16,1,2\n": f"line 2, arrival_time: got '2023-11-16', {SECONDS}",
    "arrival_time,input_len,output_len\n1,1,2\n3,1,2\n2.5,1,2\n": (
        "line 4, arrival_time: got '2.5' after '3', expected requests in the order of their arrival"
    ),
    "TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,1,2\n": f"line 2, TIMESTAMP: got 'noon', {MOMENT}",
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1,2\n17,1,2\n,1,2\n": (
        "line 4, TIMESTAMP: got nothing, expected a date and a time such as 2023-11-16 18:15:46.68"
    ),
    "input_len,output_len\n5,0\n5,1\n": "got outputs of 0.5 tokens in the mean, expected 1 or more",
}


@pytest.mark.parametrize("content", FILES)
def test_a_file_that_cannot_be_used_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(content)
    (tmp_path / "own.yaml").write_text("traces: {mine: {file: my.csv}}")
    with pytest.raises(CatalogError) as refusal:
        CATALOG.extended(tmp_path / "own.yaml")
    message = FILES[content]
    comma = "," if message.startswith("line") else ":"
    assert str(refusal.value) == f"own.yaml: traces.mine: my.csv{comma} {message}"


TABLE = "expected a table as text; name a CSV file under 'file'"
NUMBERS = "title: Mine, input_len: 9, output_len: 5, output_cv: 1, longest_output:"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{file: my.csv, output_cv: 1}", ": got a file and output_cv, expected either a file or numbers"),
        ("{file: 3}", ".file: got 3, expected the path of a CSV file"),
        ("{file: my.csv, titel: Mine}", ".titel: got an unknown key, expected a fact (did you mean title?)"),
        ("{file: my.csv, source: log}", ".source: got 'log', expected a key of the file's sources"),
        ("[1]", ": got a list, expected a mapping"),
        (f"{{{NUMBERS} 4}}", ": got a longest_output of 4, expected 5 or more, the output_len"),
        (f"{{{NUMBERS} 5, input_cv: 1}}", ": got an input_cv of 1 without a longest_input, expected both"),
        (f"{{{NUMBERS} 5 s}}", ".longest_output: got '5 s', expected a value in token"),
        (f"{{{NUMBERS} 0}}", ".longest_output: got 0, expected a value in token that is greater than or equal to 1"),
        (f"{{{NUMBERS} 5, rows: my.csv}}", f".rows: got 'my.csv', {TABLE}"),
        (f"{{{NUMBERS} 5, rows: [1, 2]}}", f".rows: got a list, {TABLE}"),
        (f'{{{NUMBERS} 5, rows: "input_len,output_len\\n1,-2\\n"}}', f".rows, line 2, output_len: got '-2', {WHOLE}"),
        ("{title: Mine}", ".input_len: got nothing, expected a value in token"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(entry: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(REQUESTS)
    (tmp_path / "own.yaml").write_text(f"traces: {{mine: {entry}}}")
    with pytest.raises(CatalogError) as refusal:
        CATALOG.extended(tmp_path / "own.yaml")
    assert str(refusal.value) == f"own.yaml: traces.mine{message}"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("traces: {mine: {file: my.csv}}")
    with pytest.raises(CatalogError, match=r"my\.csv: there is no such file"):
        CATALOG.extended(tmp_path / "own.yaml")
    (tmp_path / "own.yaml").write_text(
        "traces: {mine: {title: Mine, input_len: 9, output_len: 16 tokens, output_cv: 0, longest_output: 16}}"
    )
    assert CATALOG.extended(tmp_path / "own.yaml").trace("mine").output_len == 16
