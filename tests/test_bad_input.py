"""Bad input: one sentence that says what was given, what was expected, where, and how to mend it; nothing is left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

import servegrid as sg
from servegrid import store
from servegrid.catalog import SECTIONS, Catalog
from servegrid.cli import main
from servegrid.evaluate import Evaluator
from servegrid.place import Folder
from servegrid.planning import LEAST_MEMORY

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

GOOD = "axes: {model: [llama-3.1-8b], hardware: [h100-sxm], precision: [fp16], seq_len: [1024]}\n"
TOKENS = "a whole number in token, at least 1"
COUNT = "expected a whole number from 1 to 100,000,000"
SHARE = "a number, above 0 and at most 1"
KEYS = "name, question, solver, catalog, axes, cases, values, derive, where, outputs, dtype"
LANGUAGE = (
    "is not part of the expression language (names, numbers, + - * / // % **, comparisons, and/or/not, "
    "'a if b else c' and min, max, floor, ceil, sqrt, log)"
)
FUNCTIONS = "is no function of expressions, which know min, max, floor, ceil, sqrt, log"
QUANTITY = "expected a quantity of the solver continuous_batching or one that is derived"
SEQ_LEN = (
    "seq_len (length of a sequence: the prompt, and what its cache holds) has no value: "
    "give seq_len, as an axis or under values"
)


def axis(values: str) -> str:
    return f"axes: {{model: [llama-3.1-8b], hardware: [h100-sxm], precision: [fp16], seq_len: [1024], {values}}}\n"


def derive(expression: str) -> str:
    return f"{GOOD}derive:\n  mine: {expression}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def failed(*arguments: str, code: int) -> str:
    """The one sentence that the command ends with."""
    result = CliRunner().invoke(main, list(arguments), prog_name="servegrid")
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == code, result.output
    assert result.output.startswith("servegrid: "), result.output
    assert result.output.count("\n") == 1, result.output
    return result.output.removeprefix("servegrid: ").removesuffix("\n")


def refused(folder: Path, *arguments: str, code: int = 2) -> str:
    """The one sentence that the command refuses with; nothing has changed in the folder."""
    before = everything(folder)
    sentence = failed(*arguments, code=code)
    assert everything(folder) == before
    return sentence


def check(folder: Path, content: str | bytes, message: str) -> None:
    """The command and both functions refuse the file `bad.yaml` with this sentence."""
    (folder / "bad.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refused(folder, "run", "bad.yaml") == f"bad.yaml: {message}"
    with pytest.raises(sg.InputError) as in_memory:
        sg.sweep("bad.yaml")
    assert str(in_memory.value) == f"bad.yaml: {message}"
    with pytest.raises(sg.InputError) as stored:
        sg.run("bad.yaml", out=folder / "new" / "o.zarr")
    assert str(stored.value) == f"bad.yaml: {message}"
    assert [path.name for path in folder.iterdir() if path.name == "new"] == []


# The file as a whole.

LAUGHS = "name: {k0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]" + "".join(
    f", k{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("- a\n- b\n", "got a list, expected a mapping of keys such as 'axes:'", id="a list"),
        pytest.param("", "got nothing, expected a mapping of keys such as 'axes:'", id="empty"),
        pytest.param("# only this\n", "got nothing, expected a mapping of keys such as 'axes:'", id="a comment"),
        pytest.param("hello\n", "got 'hello', expected a mapping of keys such as 'axes:'", id="a word"),
        pytest.param(b"\x80\x81\xff\x00", "not a YAML file, expected text", id="binary"),
        pytest.param(b"axes:\x00 3", "not a YAML file, expected text", id="a zero byte"),
        pytest.param(
            "axes:\n\tmodel: [a]\n", "line 2: got a tab, or another character that cannot begin a value", id="a tab"
        ),
        pytest.param("axes: {model: [a\n", "line 2: did not find expected ',' or ']'", id="unclosed"),
        pytest.param("axes: {}\n---\naxes: {}\n", "line 2: got a second document, expected one", id="two documents"),
        pytest.param("axes: {}\naxes: {}\n", "line 2: got the key 'axes' twice", id="a key twice"),
        pytest.param(
            "axes:\n  model: [a]\n  model: [b]\n", "line 3: got the key 'model' twice", id="a key twice, further in"
        ),
        pytest.param(
            LAUGHS + "}\n",
            "got more than 1,000,000 values, expected fewer (aliases count in full)",
            id="a billion laughs",
        ),
        pytest.param(
            "axes: &a {page_size: *a}\n", "nested too deeply, expected 20 levels at most", id="an alias of itself"
        ),
        pytest.param(
            "axes: " + "[" * 2000 + "]" * 2000, "nested too deeply, expected 20 levels at most", id="deeply nested"
        ),
        pytest.param("? {a: b}\n: 1\n", "line 1: found unhashable key", id="a mapping as a key"),
        pytest.param("3: 4\n", "got the name 3, expected text (write it in quotes)", id="a number as a key"),
        pytest.param(
            GOOD + "output: [itl]\n",
            f"unknown key 'output' (did you mean outputs?), expected one of {KEYS}",
            id="an unknown key",
        ),
        pytest.param(GOOD + "zzz: 3\n", f"unknown key 'zzz', expected one of {KEYS}", id="an unknown key, unlike any"),
        pytest.param("axes: 3\n", "axes: got 3, expected a mapping", id="axes is a number"),
        pytest.param("axes: [model]\n", "axes: got a list, expected a mapping", id="axes is a list"),
        pytest.param(GOOD + "values: [1]\n", "values: got a list, expected a mapping", id="values is a list"),
        pytest.param(GOOD + "derive: [a]\n", "derive: got a list, expected a mapping", id="derive is a list"),
        pytest.param(GOOD + "where: [a]\n", "where: got a list, expected text", id="where is a list"),
        pytest.param(GOOD + "where: true\n", "where: got true, expected text", id="where is a flag"),
        pytest.param(GOOD + "outputs: x\n", "outputs: got 'x', expected a list", id="outputs is a text"),
        pytest.param(GOOD + "outputs: [3]\n", "outputs[0]: got 3, expected text", id="an output is a number"),
        pytest.param(GOOD + "name: 3\n", "name: got 3, expected text", id="the name is a number"),
        pytest.param(GOOD + "question: [a]\n", "question: got a list, expected text", id="the question is a list"),
        pytest.param(
            GOOD + "dtype: float16\n", "dtype: got 'float16', expected 'float64' or 'float32'", id="half precision"
        ),
        pytest.param(GOOD + "catalog: a.yaml\n", "catalog: got 'a.yaml', expected a list", id="catalog is a text"),
        pytest.param(
            GOOD + "catalog: [3]\n", "catalog[0]: got 3, expected the path of a file", id="a catalogue is a number"
        ),
        pytest.param(
            GOOD + "cases: 3\n",
            "cases: got 3, expected a CSV file, a DataFrame, or {file: , keep: }",
            id="cases is a number",
        ),
        pytest.param(
            GOOD + "solver: continous_batching\n",
            "solver: got 'continous_batching', expected one of continuous_batching, serving, simulation",
            id="an unknown solver",
        ),
        pytest.param(
            GOOD + "solver: 3\n",
            "solver: got 3, expected one of continuous_batching, serving, simulation",
            id="solver: 3",
        ),
    ],
)
def test_a_file_that_is_no_sweep(content: str | bytes, message: str, here: Path) -> None:
    check(here, content, message)


def test_tags_of_python_run_nothing(here: Path) -> None:
    content = "axes: !!python/object/apply:os.mkdir [pwned]\n"
    check(
        here,
        content,
        "line 1: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.mkdir'",
    )


def test_a_file_that_is_not_there(here: Path) -> None:
    (here / "sweep.yaml").write_text(GOOD)
    assert refused(here, "run", "swep.yaml") == "swep.yaml: there is no such file (did you mean sweep.yaml?)"
    assert refused(here, "plan", "zzz") == "zzz: there is no such file"
    assert refused(here, "explain", "no/such.yaml") == "no/such.yaml: there is no such file"
    (here / "folder").mkdir()
    assert refused(here, "run", "folder") == "folder: got a folder, expected a file"


# Axes.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            "axes: {model: [llama-3.1-9b]}\n",
            "axes.model[0]: unknown model 'llama-3.1-9b' (did you mean llama-3.1-8b or llama-3.1-70b or "
            "llama-3.1-405b?); 'servegrid catalog list models' shows all {models}",
            id="an unknown model",
        ),
        pytest.param(
            "axes: {model: [llama-3.1-8b, totally-else]}\n",
            "axes.model[1]: unknown model 'totally-else'; 'servegrid catalog list models' shows all {models}",
            id="an unknown model, unlike any",
        ),
        pytest.param(
            "axes: {hardware: [h100-smx]}\n",
            "axes.hardware[0]: unknown accelerator 'h100-smx' (did you mean h100-sxm or v100-sxm or h100-nvl?); "
            "'servegrid catalog list accelerators' shows all {accelerators}",
            id="an unknown accelerator",
        ),
        pytest.param(
            "axes: {precision: [fp17]}\n",
            "axes.precision[0]: unknown precision 'fp17' (did you mean fp16?); "
            "'servegrid catalog list precisions' shows all {precisions}",
            id="an unknown precision",
        ),
        pytest.param("axes: {model: [3]}\n", "axes.model[0]: got 3, expected a name in the catalogue", id="model 3"),
        pytest.param(
            "axes: {hardware: [null]}\n",
            "axes.hardware[0]: got nothing, expected a name in the catalogue",
            id="no accelerator",
        ),
        pytest.param(
            axis("page_sise: [1]"),
            "axes.page_sise: unknown axis (did you mean page_size?), expected model, hardware, precision, a quantity "
            "of the solver continuous_batching, or a label that some table in values uses",
            id="an unknown axis",
        ),
        pytest.param(
            axis("colour: [red]"),
            "axes.colour: unknown axis, expected model, hardware, precision, a quantity of the solver "
            "continuous_batching, or a label that some table in values uses",
            id="an unknown axis, unlike any",
        ),
        pytest.param(
            axis("class: [1]"),
            "axes.class: 'class' cannot be the name of an axis, expected a word such as page_size",
            id="a word of Python as axis",
        ),
        pytest.param(
            axis("'page size': [1]"),
            "axes.page size: 'page size' cannot be the name of an axis, expected a word such as page_size",
            id="two words as axis",
        ),
        pytest.param(
            "axes: {3: [1]}\n", "axes[3]: got the name 3, expected text (write it in quotes)", id="an axis called 3"
        ),
        pytest.param(
            axis("page_size: []"), "axes.page_size: the axis is empty, expected one value or more", id="an empty axis"
        ),
        pytest.param(
            axis("page_size: null"),
            "axes.page_size: got nothing, expected a list or a range {from: , to: , num: }",
            id="an axis of nothing",
        ),
        pytest.param(
            axis("page_size: 3"),
            "axes.page_size: got 3, expected a list or a range {from: , to: , num: }",
            id="an axis that is a number",
        ),
        pytest.param(
            "axes: {model: llama-3.1-8b}\n",
            "axes.model: got 'llama-3.1-8b', expected a list or a range {from: , to: , num: }",
            id="an axis that is a text",
        ),
        pytest.param(
            "axes: {model: [llama-3.1-8b, meta-llama/Llama-3.1-8B]}\n",
            "axes.model: 'llama-3.1-8b' stands twice, expected each value once",
            id="a model twice, under two names",
        ),
        pytest.param(
            "axes: {hardware: [h100-sxm, H100-SXM]}\n",
            "axes.hardware: 'h100-sxm' stands twice, expected each value once",
            id="an accelerator twice, in two cases",
        ),
        pytest.param(
            axis("page_size: [16, 1, 1.0]"),
            "axes.page_size: 1 stands twice, expected each value once",
            id="a number twice",
        ),
        pytest.param(
            axis("page_size: [16 tokens, 16]"),
            "axes.page_size: 16 stands twice, expected each value once",
            id="a number twice, once with its unit",
        ),
        pytest.param(axis("page_size: [8, -1]"), f"axes.page_size[1]: got -1, expected {TOKENS}", id="negative"),
        pytest.param(axis("page_size: [0]"), f"axes.page_size[0]: got 0, expected {TOKENS}", id="zero"),
        pytest.param(axis("page_size: [.nan]"), f"axes.page_size[0]: got nan, expected {TOKENS}", id="nan"),
        pytest.param(axis("page_size: [.inf]"), f"axes.page_size[0]: got inf, expected {TOKENS}", id="inf"),
        pytest.param(axis("page_size: ['nan']"), f"axes.page_size[0]: got 'nan', expected {TOKENS}", id="text nan"),
        pytest.param(
            axis("dispatch_time: [-.inf]"),
            "axes.dispatch_time[0]: got -inf, expected a number in s, at least 0",
            id="minus inf",
        ),
        pytest.param(axis("page_size: [1.5]"), f"axes.page_size[0]: got 1.5, expected {TOKENS}", id="a fraction"),
        pytest.param(
            axis("page_size: [1.0e+300]"),
            f"axes.page_size[0]: got 1e+300, expected {TOKENS}",
            id="more than double precision counts",
        ),
        pytest.param(
            axis(f"page_size: [{'9' * 400}]"),
            f"axes.page_size[0]: got a number of 400 digits, expected {TOKENS}",
            id="400 digits",
        ),
        pytest.param(
            axis("efficiency: [0.5, 1.5]"), f"axes.efficiency[1]: got 1.5, expected {SHARE}", id="more than all"
        ),
        pytest.param(
            axis("page_size: [many]"), f"axes.page_size[0]: 'many' is not a number, expected {TOKENS}", id="text"
        ),
        pytest.param(
            axis("page_size: ['']"), f"axes.page_size[0]: '' is not a number, expected {TOKENS}", id="no text"
        ),
        pytest.param(axis("page_size: [true]"), f"axes.page_size[0]: got true, expected {TOKENS}", id="a flag"),
        pytest.param(axis("page_size: [[1, 2]]"), f"axes.page_size[0]: got a list, expected {TOKENS}", id="nested"),
        pytest.param(
            axis("page_size: [2026-01-01]"), f"axes.page_size[0]: got 2026-01-01, expected {TOKENS}", id="a date"
        ),
        pytest.param(
            axis("dispatch_time: [80 GiB]"),
            "axes.dispatch_time[0]: '80 GiB' has a unit that cannot be converted to s, expected a number in s, at "
            "least 0",
            id="bytes for a time",
        ),
        pytest.param(
            axis("page_size: [16 parsec]"),
            f"axes.page_size[0]: 'parsec' is not a unit that servegrid knows, expected {TOKENS}",
            id="an unknown unit",
        ),
        pytest.param(GOOD.replace(", seq_len: [1024]", ""), SEQ_LEN, id="an axis is missing"),
        pytest.param(
            "axes: {seq_len: [1]}\nvalues: {model: llama-3.1-8b, precision: fp16}\n",
            "hbm_capacity (memory capacity) has no value: give hardware, or hbm_capacity itself, as an axis or under "
            "values",
            id="no accelerator at all",
        ),
        pytest.param(
            "axes: {seq_len: [1]}\nvalues: {model: llama-3.1-8b, hbm_capacity: 1 TiB, hbm_bandwidth: 1 TB/s, "
            "precision: fp16}\n",
            "peak_flops (dense peak at the precision) has no value: give hardware and precision, or peak_flops "
            "itself, as an axis or under values",
            id="no peak rate",
        ),
    ],
)
def test_a_bad_axis(content: str, message: str, here: Path) -> None:
    catalog = Catalog.default()
    for kind in ("models", "accelerators", "precisions"):
        message = message.replace(f"{{{kind}}}", str(len(getattr(catalog, kind))))
    check(here, content, message)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("page_size: {}", "axes.page_size: from: missing, expected a value"),
        ("page_size: {to: 8, num: 3}", "axes.page_size: from: missing, expected a value"),
        ("page_size: {from: 8, to: 1, num: 4}", "axes.page_size: got from 8 to 1, expected a range that rises"),
        ("page_size: {from: 8, to: 8, num: 2}", "axes.page_size: got from 8 to 8, expected a range that rises"),
        ("page_size: {from: 0, to: 8, num: 2}", f"axes.page_size.from: got 0, expected {TOKENS}"),
        ("page_size: {from: 1, to: .inf, num: 2}", f"axes.page_size.to: got inf, expected {TOKENS}"),
        ("page_size: {from: one, to: 8, num: 3}", f"axes.page_size.from: 'one' is not a number, expected {TOKENS}"),
        ("page_size: {from: true, to: 8, num: 3}", f"axes.page_size.from: got true, expected {TOKENS}"),
        (
            "hbm_bandwidth: {from: 1 TB, to: 8 TB, num: 3}",
            "axes.hbm_bandwidth.from: '1 TB' has a unit that cannot be converted to byte/s, expected a number in "
            "byte/s, above 0",
        ),
        ("page_size: {from: 1, to: 8, num: 0}", f"axes.page_size.num: got 0, {COUNT}"),
        ("page_size: {from: 1, to: 8, num: -2}", f"axes.page_size.num: got -2, {COUNT}"),
        ("page_size: {from: 1, to: 8, num: 2.5}", "axes.page_size: num: got 2.5, expected a whole number"),
        ("page_size: {from: 1, to: 8, num: many}", "axes.page_size: num: got 'many', expected a whole number"),
        ("page_size: {from: 1, to: 8, num: true}", "axes.page_size: num: got true, expected a whole number"),
        (
            "page_size: {from: 1, to: 8, step: 0}",
            "axes.page_size.step: got 0, expected one above 0 that gives 100,000,000 values at most",
        ),
        (
            "page_size: {from: 1, to: 8, step: -1}",
            "axes.page_size.step: got -1, expected one above 0 that gives 100,000,000 values at most",
        ),
        (
            "hbm_bandwidth: {from: 1, to: 8.0e+12, step: 1}",
            "axes.hbm_bandwidth.step: got 1, expected one above 0 that gives 100,000,000 values at most",
        ),
        ("page_size: {from: 1, to: 8, step: .nan}", "axes.page_size.step: got nan, expected a number in token"),
        (
            "page_size: {from: 1, to: 8, step: lots}",
            "axes.page_size.step: 'lots' is not a number, expected a number in token",
        ),
        ("page_size: {from: 1, to: 8, step: 1, num: 3}", "axes.page_size: expected either num or step, got both"),
        ("page_size: {from: 1, to: 8}", "axes.page_size: expected either num or step, got neither"),
        (
            "dispatch_time: {from: 0, to: 8, num: 3, spacing: log}",
            "axes.dispatch_time.from: got 0, expected a number above 0 for spacing log",
        ),
        (
            "dispatch_time: {from: 1, to: 8, step: 3, spacing: log}",
            "axes.dispatch_time: step goes with spacing linear, expected num for spacing log",
        ),
        (
            "page_size: {from: 1, to: 8, num: 3, spacing: logarithmic}",
            "axes.page_size: spacing: got 'logarithmic', expected 'linear' or 'log'",
        ),
        (
            "page_size: {from: 1, to: 8, num: 30}",
            "axes.page_size: 1 stands twice, expected each value once (rounded to whole numbers: choose a smaller num)",
        ),
        (
            "page_size: {from: 1, to: 8, step: 0.5}",
            "axes.page_size: 2 stands twice, expected each value once (rounded to whole numbers: choose a larger step)",
        ),
        (
            "page_size: {from: 1, to: 8, nun: 3}",
            "axes.page_size: unknown key 'nun' (did you mean num?), expected one of from, to, num, step, spacing",
        ),
        ("colour: {from: 1, to: 8, num: 3}", "axes.colour: got a range, expected a list of labels"),
    ],
)
def test_a_bad_range(axes: str, message: str, here: Path) -> None:
    check(here, axis(axes), message)


# Values and tables.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            "eficiency: 1",
            "values.eficiency: unknown quantity (did you mean efficiency?), expected one of the solver "
            "continuous_batching",
        ),
        ("efficiency: -1", f"values.efficiency: got -1, expected {SHARE}"),
        ("efficiency: [0.5]", f"values.efficiency: got a list, expected {SHARE}"),
        ("efficiency: null", f"values.efficiency: got nothing, expected {SHARE}"),
        ("seq_len: 1", "seq_len is given twice, expected it once: as an axis, a column of cases or a value"),
        (
            "efficiency: {}",
            "values.efficiency: got keys [], expected one axis with a value for each of its labels",
        ),
        (
            "efficiency: {h100-sxm: 0.5}",
            "values.efficiency: got keys ['h100-sxm'], expected one axis with a value for each of its labels",
        ),
        (
            "efficiency: {hardware: {h100-sxm: 5}, model: {llama-3.1-8b: 1}}",
            "values.efficiency: got keys ['hardware', 'model'], expected one axis with a value for each of its labels",
        ),
        ("efficiency: {colour: {red: 1}}", "values.efficiency: 'colour' is no axis of this sweep"),
        (
            "efficiency: {hardwear: {h100-sxm: 1}}",
            "values.efficiency: 'hardwear' is no axis of this sweep (did you mean hardware?)",
        ),
        (
            "efficiency: {hardware: {l4: 1}}",
            "values.efficiency.hardware: no value for 'h100-sxm', expected one for each of its labels",
        ),
        (
            "efficiency: {hardware: {h100-sxm: 1, H100: 0.5}}",
            "values.efficiency.hardware: 'h100-sxm' stands twice, expected each value once",
        ),
        (
            "efficiency: {hardware: {h100-sxm: 5}}",
            f"values.efficiency.hardware.h100-sxm: got 5, expected {SHARE}",
        ),
        (
            "efficiency: {hardware: {h100-sxm: {hardware: {h100-sxm: 0.5}}}}",
            "values.efficiency.hardware.h100-sxm: 'hardware' is no axis of this sweep",
        ),
    ],
)
def test_a_bad_value(values: str, message: str, here: Path) -> None:
    check(here, f"{GOOD}values: {{{values}}}\n", message)


# Expressions and outputs.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            GOOD + "outputs: [thruput]\n",
            f"outputs: unknown quantity 'thruput' (did you mean throughput?), {QUANTITY}",
        ),
        (GOOD + "outputs: []\n", "outputs: the list is empty, expected one quantity or more"),
        (GOOD + "outputs: [itl, itl]\n", "outputs[1]: 'itl' stands twice, expected it once"),
        (GOOD + "outputs: [seq_len]\n", "outputs[0]: 'seq_len' is an axis, expected a quantity that is computed"),
        (
            GOOD + "derive: {a: b + 1, b: a + 1}\n",
            "derive.b: a quantity cannot depend on itself, but a needs b needs a",
        ),
        (derive("mine * 2"), "derive.mine: a quantity cannot depend on itself, but mine needs mine"),
        (
            GOOD + "derive: {itl: throughput * 2 ms}\n",
            "derive.itl: 'throughput * 2 ms' is not an expression (invalid syntax)",
        ),
        (
            GOOD + "derive: {itl: 1 / throughput}\n",
            "derive.itl: a quantity cannot depend on itself, but throughput needs itl needs throughput",
        ),
        (derive("thruput * 2"), f"derive.mine: unknown quantity 'thruput' (did you mean throughput?), {QUANTITY}"),
        (derive("model * 2"), f"derive.mine: unknown quantity 'model', {QUANTITY}"),
        (derive("3"), "derive.mine: got 3, expected an expression, as text"),
        (derive("null"), "derive.mine: got nothing, expected an expression, as text"),
        (derive("''"), "derive.mine: '' is not an expression (invalid syntax)"),
        (
            derive("{expression: itl * 3, unit: furlong}"),
            "derive.mine.unit: 'furlong' is not a unit that servegrid knows",
        ),
        (derive("{expression: itl * 3, unit: GiB}"), "derive.mine: got the unit 'GiB', expected s"),
        (
            derive("{expresion: itl * 3}"),
            "derive.mine: unknown key 'expresion' (did you mean expression?), expected one of expression, unit, "
            "long_name",
        ),
        (
            GOOD + "derive: {page_size: itl}\n",
            "derive.page_size: 'page_size' has a meaning already, expected a new name",
        ),
        (
            GOOD + "derive: {class: itl}\n",
            "derive.class: 'class' cannot be the name of a quantity, expected a word such as tokens_per_dollar",
        ),
        (
            GOOD + "derive: {asked_score_1: itl}\n",
            "derive.asked_score_1: 'asked_score_1' cannot be the name of a quantity, expected a word such as "
            "tokens_per_dollar",
        ),
        (GOOD + "derive: {feasible: itl * 2}\n", "derive.feasible: got 'itl * 2', expected true or false"),
        (GOOD + "where: tttft < 1\n", f"where: unknown quantity 'tttft' (did you mean ttft?), {QUANTITY}"),
        (GOOD + "where: ttft\n", "where: got 'ttft', expected a comparison such as 'ttft <= 0.5'"),
        (GOOD + "where: ttft and itl\n", "where: got 'ttft' in 'ttft and itl', expected a comparison or a flag"),
        (
            GOOD + "where: ttft < throughput\n",
            "where: the units in 'ttft < throughput' do not fit: got token / s, expected s",
        ),
        (
            derive("ttft + throughput"),
            "derive.mine: the units in 'ttft + throughput' do not fit: got token / s, expected s",
        ),
        (
            derive("log(itl)"),
            "derive.mine: the units in 'log(itl)' do not fit: got s, expected a number without dimension",
        ),
        (derive("feasible * 2"), "derive.mine: got 'feasible' in 'feasible * 2', expected a number"),
        (derive("min(itl)"), "derive.mine: got 1 in min(itl), expected 2 to 8 arguments"),
        (derive("min + 1"), "derive.mine: min is a function, expected min(...)"),
        (
            derive("itl if ttft else 3"),
            "derive.mine: got 'ttft' in 'itl if ttft else 3', expected a comparison or a flag",
        ),
    ],
)
def test_a_bad_expression_or_output(content: str, message: str, here: Path) -> None:
    check(here, content, message)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("__import__('os').mkdir('pwned')", f"(__import__('os').mkdir)(...) {FUNCTIONS}"),
        ("open('pwned', 'w')", f"open(...) {FUNCTIONS}"),
        ("eval('1')", f"eval(...) {FUNCTIONS}"),
        ("exec('import os')", f"exec(...) {FUNCTIONS}"),
        ("itl.__class__", f"'itl.__class__' {LANGUAGE}"),
        ("(lambda: 1)()", f"(lambda: 1)(...) {FUNCTIONS}"),
        ("itl[0]", f"'itl[0]' {LANGUAGE}"),
        ("[x for x in (1, 2)]", f"'[x for x in (1, 2)]' {LANGUAGE}"),
        ("'a' * 10", "got 'a', expected a number"),
        ("(a := 3)", f"'(a := 3)' {LANGUAGE}"),
        ("f'{itl}'", f"\"f'{{itl}}'\" {LANGUAGE}"),
        ("await itl", f"'await itl' {LANGUAGE}"),
        ("(yield itl)", f"'(yield itl)' {LANGUAGE}"),
        ("itl in (1, 2)", f"'itl in (1, 2)' {LANGUAGE}"),
        ("1; import os", "'1; import os' is not an expression (invalid syntax)"),
        ("itl\nimport os", "'itl\\nimport os' is not an expression (invalid syntax)"),
        ("itl * 1j", "got 1j, expected a number"),
        ("itl * 1" + "0" * 400, "got a number of 1e+300 or more, expected a smaller one"),
        ("+".join(["itl"] * 300), "the expression has 1198 terms, expected 400 at most"),
        (
            "(" * 300 + "itl" + ")" * 300,
            f"'{'(' * 57}...' is not an expression (too many nested parentheses)",
        ),
        ("min(itl, key=itl)", "got 'key=itl' in min(itl, key=itl), expected values alone"),
    ],
)
def test_a_malicious_expression_is_refused_and_not_run(expression: str, message: str, here: Path) -> None:
    for key, sweep in (("derive.mine", {"derive": {"mine": expression}}), ("where", {"where": expression})):
        with pytest.raises(sg.InputError) as refusal:
            sg.sweep(values={"model": "llama-3.1-8b", "hardware": "l4", "precision": "fp16", "seq_len": 1}, **sweep)
        assert str(refusal.value) == f"{key}: {message}"
    assert list(here.iterdir()) == []


def test_names_and_meanings_cannot_smuggle_code_into_the_kernel(here: Path) -> None:
    texts = ["x\n    import os\n    os.mkdir('pwned')\n    #", "'''", '"""\nimport os', "\\", "%s {0}", "\r", "\x0c#"]
    point = {"model": "llama-3.1-8b", "hardware": "l4", "precision": "fp16", "seq_len": 1}
    derived = {f"twice_{i}": {"expression": "2 * itl", "long_name": text} for i, text in enumerate(texts)}
    found = sg.sweep(values=point, derive=derived, name=texts[0], question=texts[0])
    for index, text in enumerate(texts):
        assert found[f"twice_{index}"].item() == 2 * found.itl.item()
        assert found[f"twice_{index}"].attrs["long_name"] == text
    assert list(here.iterdir()) == []


# Cases.

POINT = "values: {hardware: h100-sxm, model: llama-3.1-8b, precision: fp16}\n"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "the file is empty, expected names of columns and rows of values"),
        ("seq_len\n", "the table has no rows, expected one or more"),
        (
            "seq_leng\n1\n",
            "the column 'seq_leng' is no quantity of the solver continuous_batching (did you mean seq_len?); list it "
            "under 'keep' to carry it along",
        ),
        ("seq_len,seq_len\n1,2\n", "the column 'seq_len' stands twice in the header"),
        (b"\x80\x81\x00", "got bytes that are not UTF-8, expected a text file"),
    ],
)
def test_a_bad_table_of_cases(table: str | bytes, message: str, here: Path) -> None:
    (here / "c.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    check(here, POINT + "cases: c.csv\n", f"cases c.csv: {message}")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("seq_len\n1\nmany\n", f"line 3, seq_len: 'many' is not a number, expected {TOKENS}"),
        ("seq_len\n1\n-1\n", f"line 3, seq_len: got '-1', expected {TOKENS}"),
        ("seq_len,page_size\n1,2\n,3\n", f"line 3, seq_len: got nothing, expected {TOKENS}"),
        ("seq_len,page_size\n1,2\n\n# a note\n2,-3\n", f"line 5, page_size: got '-3', expected {TOKENS}"),
        ("seq_len\n1.0\n2.5\n", f"line 3, seq_len: got '2.5', expected {TOKENS}"),
        (
            "seq_len,hbm_bandwidth\n1,80 GiB\n",
            "line 2, hbm_bandwidth: '80 GiB' has a unit that cannot be converted to byte/s, expected a number in "
            "byte/s, above 0",
        ),
        ("seq_len\n1,2,3\n", "line 2: got 3 values, expected 1 as in the header"),
        ("seq_len,page_size\n1,2\n4,5,6\n", "line 3: got 3 values, expected 2 as in the header"),
        ("case,seq_len\na,1\n,2\n", "line 3, case: got nothing, expected a label"),
        ("case,seq_len\na,1\na,2\n", "column case: 'a' stands twice, expected each value once"),
    ],
)
def test_a_bad_row_of_cases(table: str, message: str, here: Path) -> None:
    (here / "c.csv").write_text(table)
    check(here, POINT + "cases: c.csv\n", f"cases c.csv, {message}")


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ("d.csv", "d.csv: there is no such file (did you mean c.csv?)"),
        (".", ".: got a folder, expected a file"),
        ("{file: c.csv, keep: [measured]}", "cases c.csv: keep names 'measured', expected a column"),
        (
            "{file: c.csv, keep: [sek_len]}",
            "cases c.csv: keep names 'sek_len' (did you mean seq_len?), expected a column",
        ),
        ("{fil: c.csv}", "cases: unknown key 'fil' (did you mean file?), expected one of file, columns, keep"),
        ("{}", "cases: expected either file or columns, got neither"),
    ],
)
def test_bad_words_about_cases(cases: str, message: str, here: Path) -> None:
    (here / "c.csv").write_text("seq_len\n1\n")
    check(here, f"{POINT}cases: {cases}\n", message)


def test_a_column_and_a_value_for_the_same(here: Path) -> None:
    (here / "c.csv").write_text("seq_len,model\n1,llama-3.1-8b\n")
    message = "model is given twice, expected it once: as an axis, a column of cases or a value"
    check(here, POINT + "cases: c.csv\n", message)


# Catalogue files (tests/test_library.py has the rest).

LAYOUT = "a mapping with models, accelerators, precisions, engines, links, traces, schedulers or lengths"


@pytest.mark.parametrize(
    ("catalog", "message"),
    [
        (None, "own.yaml: no such file, expected YAML or the config.json of a model"),
        (
            GOOD,
            f"own.yaml: got an unknown key 'axes', expected {LAYOUT} (did you mean traces?)",
        ),
        (
            "- a\n",
            f"own.yaml: got a list, expected {LAYOUT}",
        ),
        (
            "precisions:\n  mine: {title: Mine, bytes_per_element: 0, peak_flops_formats: [fp8]}\n",
            "own.yaml: precisions.mine.bytes_per_element: got 0, expected a value greater than 0",
        ),
    ],
)
def test_a_bad_catalogue_of_a_sweep(catalog: str | None, message: str, here: Path) -> None:
    if catalog is not None:
        (here / "own.yaml").write_text(catalog)
    check(here, GOOD + "catalog: [own.yaml]\n", message)


# The command's own words.


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("thesis.txt", "thesis.txt: is a file, expected a folder"),
        ("thesis.txt/o.zarr", "thesis.txt/o.zarr: {here}/thesis.txt is a file, expected a folder"),
        ("folder", "folder: is no store that servegrid made, and is left as it is; give another name"),
        (".", ".: is the current folder or holds it, expected the name of a store to make"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--part", "2/3"]], ids=" ".join)
def test_a_place_that_cannot_be_a_store(out: str, message: str, options: list[str], here: Path) -> None:
    """Nor does --overwrite touch what is no store."""
    (here / "good.yaml").write_text(GOOD)
    (here / "thesis.txt").write_text("precious")
    (here / "folder").mkdir()
    (here / "folder" / "thesis.txt").write_text("precious, too")
    assert refused(here, "run", "good.yaml", "--out", out, *options) == message.format(here=here)


def test_an_empty_folder_can_be_a_store(here: Path) -> None:
    (here / "folder").mkdir()
    with sg.run(**KEYWORDS, out="folder") as found:
        assert found.attrs["title"] == "sweep"


@pytest.mark.parametrize("part", ["", "3", "3/", "/64", "0/64", "65/64", "1/0", "-1/4", "1.5/4", "a/b", "1/2/3", "¹/2"])
def test_a_part_that_is_no_share(part: str, here: Path) -> None:
    (here / "good.yaml").write_text(GOOD)
    expected = f"part: got {part!r}, expected a share such as 3/64, from 1/64 to 64/64"
    assert refused(here, "run", "good.yaml", "--part", part) == expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--threads", "2", "--workers", "2"], "threads and workers"),
        (["--workers", "2", "--slurm", "jobs.yaml"], "workers and slurm"),
        (["--scheduler", "tcp://10.0.0.5:8786", "--cluster", "jobs.yaml"], "scheduler and cluster"),
        (["--threads", "1", "--workers", "1", "--scheduler", "x"], "threads and workers and scheduler"),
    ],
)
def test_more_crews_than_one(options: list[str], named: str, here: Path) -> None:
    (here / "good.yaml").write_text(GOOD)
    expected = f"{named} are given together, expected one of threads, workers, scheduler, cluster, slurm"
    assert refused(here, "run", "good.yaml", *options) == expected
    assert refused(here, "verify", "good.zarr", *options) == expected


@pytest.mark.parametrize("store", ["nowhere.zarr", "folder", "good.yaml", "."])
@pytest.mark.parametrize("options", [[], ["--all"], ["--sample", "0"]], ids=" ".join)
def test_what_is_no_store_cannot_be_verified(store: str, options: list[str], here: Path) -> None:
    (here / "good.yaml").write_text(GOOD)
    (here / "folder").mkdir()
    assert refused(here, "verify", store, *options) == (
        f"{store}: is no store that servegrid made, or its zarr.json is missing or damaged; "
        "expected the folder or URL of a store"
    )


SIZE = f"expected {LEAST_MEMORY // 2**20} MiB or more, such as 2GiB"


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ("lots", f"memory: 'lots' is not a number, {SIZE}"),
        ("", f"memory: '' is not a number, {SIZE}"),
        ("-1", f"memory: got '-1', {SIZE}"),
        ("255MiB", f"memory: got '255MiB', {SIZE}"),
        ("nan", f"memory: got 'nan', {SIZE}"),
        ("inf", f"memory: got 'inf', {SIZE}"),
        ("2 GiB/s", f"memory: '2 GiB/s' has a unit that cannot be converted to byte, {SIZE}"),
        ("2G", f"memory: 'G' is not a unit that servegrid knows, {SIZE}"),
    ],
)
def test_memory_that_is_no_size(memory: str, message: str, here: Path) -> None:
    (here / "good.yaml").write_text(GOOD)
    assert refused(here, "run", "good.yaml", "--memory", memory) == message
    assert refused(here, "plan", "good.yaml", "--memory", memory) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seq-len", "many"], f"values.seq_len: 'many' is not a number, expected {TOKENS}"),
        (["--seq-len", "0"], f"values.seq_len: got '0', expected {TOKENS}"),
        (["--seq-len", "1,024"], f"values.seq_len: '1,024' is not a number, expected {TOKENS}"),
        ([], SEQ_LEN),
        (["--set", "x"], "--set: got 'x', expected NAME=VALUE such as hbm_bandwidth='4 TB/s'"),
        (["--set", "x=3"], "values.x: unknown quantity, expected one of the solver continuous_batching"),
        (["--seq-len", "8", "--set", "seq_len=9"], "--set: seq_len is given twice, expected it once"),
        (
            ["--seq-len", "8", "--set", "hbm_bandwidth=4 GiB"],
            "values.hbm_bandwidth: '4 GiB' has a unit that cannot be converted to byte/s, expected a number in "
            "byte/s, above 0",
        ),
        (["--solver", "x"], "solver: got 'x', expected one of continuous_batching, serving, simulation"),
        (["--catalog", "x"], "x: no such file, expected YAML or the config.json of a model"),
    ],
)
def test_a_point_that_cannot_be_solved(arguments: list[str], message: str, here: Path) -> None:
    assert refused(here, "solve", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", *arguments) == message


def test_an_entry_that_the_catalogue_lacks(here: Path) -> None:
    catalog = Catalog.default()
    count = sum(len(catalog.entries(kind)) for kind in SECTIONS.values())
    assert refused(here, "catalog", "show", "h100-smx") == (
        "unknown entry 'h100-smx' (did you mean h100-sxm or v100-sxm or h100-nvl?); "
        f"'servegrid catalog list' shows all {count}"
    )
    assert refused(here, "catalog", "search", "zzz") == "nothing in the catalogue contains 'zzz'"


@pytest.mark.parametrize(
    "arguments", [["run"], ["rnu"], ["run", "a.yaml", "--overwite"], ["plan", "x", "--threads", "0"]]
)
def test_usage_is_refused_with_code_2(arguments: list[str], here: Path) -> None:
    result = CliRunner().invoke(main, arguments, prog_name="servegrid")
    assert result.exit_code == 2
    assert "Error: " in result.output
    assert "Try 'servegrid" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("axes: {model: [lama]}\n", "servegrid: bad.yaml: axes.model[0]: unknown model 'lama'"),
        ("- a\n", "servegrid: bad.yaml: got a list, expected a mapping of keys such as 'axes:'\n"),
    ],
)
def test_the_installed_command_refuses_in_one_line(content: str, message: str, here: Path) -> None:
    (here / "bad.yaml").write_text(content)
    ran = subprocess.run(
        [Path(sys.executable).with_name("servegrid"), "run", "bad.yaml"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(message)
    assert ran.stderr.count("\n") == 1
    assert [path.name for path in here.iterdir()] == ["bad.yaml"]


# Faults of the machine: code 3.


def test_a_folder_that_cannot_be_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "good.yaml").write_text(GOOD)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and real(path, mode))
    assert refused(here, "run", "good.yaml", "--out", "new/o.zarr", code=3) == (
        f"new/o.zarr: the folder {here} cannot be written; choose another, or change its permissions"
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (OSError("the cable was pulled"), "the cable was pulled"),
    ],
)
def test_a_disk_that_fails(error: OSError, reason: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "good.yaml").write_text(GOOD)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(store.Store, "write", fail)
        message = failed("run", "good.yaml", "--out", "new/o.zarr", code=3)
    kept = "0 of 7 chunks are stored, and the same command goes on from there"
    assert message == f"new/o.zarr: could not be written ({reason}); {kept}"
    assert [path.name for path in here.rglob("*.partial")] == []
    assert CliRunner().invoke(main, ["run", "good.yaml", "--out", "new/o.zarr"]).exit_code == 0


def test_a_disk_that_can_never_hold_the_results(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "good.yaml").write_text(GOOD + "outputs: [itl, ttft]\n")  # 2 numbers and a flag: 17 byte
    monkeypatch.setattr(Folder, "free", lambda self: 0)
    assert refused(here, "run", "good.yaml", "--out", "new/o.zarr", code=3) == (
        "new/o.zarr: 17 byte of results (before compression) on a disk with 0 byte free; "
        "choose fewer outputs or points, or another disk"
    )


def test_a_machine_without_memory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "good.yaml").write_text(GOOD)

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "region", fail)
        message = failed("run", "good.yaml", "--out", "new/o.zarr", code=3)
    assert message == "the machine has not enough memory; give a smaller --memory or fewer points"
    assert CliRunner().invoke(main, ["run", "good.yaml", "--out", "new/o.zarr"]).exit_code == 0


# Python's own ways to be wrong.

KEYWORDS: dict[str, Any] = {
    "axes": {"model": ["llama-3.1-8b"], "hardware": ["l4"], "precision": ["fp16"], "seq_len": [1024]}
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([np.True_], f"axes.page_size[0]: got true, expected {TOKENS}"),
        (np.array([[1, 2], [3, 4]]), f"axes.page_size[0]: got a list, expected {TOKENS}"),
        ({1, 2}, "axes.page_size: got a set, expected a list or a range {from: , to: , num: }"),
        ("16", "axes.page_size: got '16', expected a list or a range {from: , to: , num: }"),
        (np.array([1.5]), f"axes.page_size[0]: got 1.5, expected {TOKENS}"),
        (np.array([]), "axes.page_size: the axis is empty, expected one value or more"),
        (range(0), "axes.page_size: the axis is empty, expected one value or more"),
    ],
)
def test_an_axis_that_is_no_row_of_numbers(values: Any, message: str) -> None:
    axes = {**KEYWORDS["axes"], "page_size": values}
    with pytest.raises(sg.InputError) as refusal:
        sg.sweep(axes=axes)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "values",
    [
        [1, 16],
        (1, 16),
        range(1, 17, 15),
        np.array([1.0, 16.0]),
        pd.Series([1, 16]),
        pd.Index([1, 16]),
        xr.DataArray([1, 16]),
        [np.int64(1), np.float32(16)],
        ["1", "16 token"],
    ],
    ids=["list", "tuple", "range", "array", "Series", "Index", "DataArray", "numpy scalars", "texts"],
)
def test_an_axis_is_any_row_of_numbers(values: Any) -> None:
    found = sg.plan(axes={**KEYWORDS["axes"], "page_size": values}).parameters.dataset
    assert found.page_size.values.tolist() == [1, 16]
    assert found.page_size.dtype == np.int64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "lots"}, f"memory: 'lots' is not a number, {SIZE}"),
        ({"memory": float("nan")}, f"memory: got nan, {SIZE}"),
        ({"memory": 1}, f"memory: got 1, {SIZE}"),
        ({"threads": 0}, "threads: got 0, expected 1 or more"),
        ({"threads": -1}, "threads: got -1, expected 1 or more"),
        ({"colour": 3}, f"unknown key 'colour', expected one of {KEYS}"),
    ],
)
def test_bad_options_of_a_run(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(sg.InputError) as refusal:
        sg.run(**KEYWORDS, **options, out=tmp_path / "new" / "o.zarr")
    assert str(refusal.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_keywords_together() -> None:
    with pytest.raises(TypeError, match=r"give a sweep file or keywords, not both \(got 'a.yaml' and axes\)"):
        sg.sweep("a.yaml", **KEYWORDS)


# Whatever is written, the answer is a plan or one sentence.

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(["model", "hardware", "seq_len", "l4", "from", "to", "num", "step", "file", "itl", "fp16"])
NEARLY = st.recursive(
    JUNK | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    *("axes", "values", "derive", "where", "outputs", "cases", "catalog", "solver", "name", "question"),
    *("axes.page_size", "axes.model", "axes.colour", "values.efficiency", "values.model", "derive.mine"),
]


def answers(content: dict[str, Any]) -> None:
    """A plan is made, or InputError says in one line why not."""
    try:
        sg.plan(**content)
    except sg.InputError as error:
        sentence = str(error)
        assert "\n" not in sentence
        assert 10 < len(sentence) < 800


@settings(max_examples=400)
@given(place=st.sampled_from(PLACES), junk=NEARLY)
@example(place="axes.page_size", junk={"from": 1, "to": 10**400, "num": 3})
@example(place="axes.page_size", junk={"from": 1, "to": 8, "step": "1e-320"})
@example(place="values.efficiency", junk={"hardware": {"l4": {"seq_len": {1024: 0.5}}}})
def test_junk_in_any_place_is_answered(place: str, junk: Any) -> None:
    content: dict[str, Any] = {"axes": dict(KEYWORDS["axes"])}
    outer, _, inner = place.partition(".")
    if inner:
        content[outer] = {**content.get(outer, {}), inner: junk}
    else:
        content[outer] = junk
    answers(content)


WORDS_OF_EXPRESSIONS = [
    *("itl", "ttft", "feasible", "model", "max", "min", "log", "sqrt", "floor", "0", "1", "2.5", "1e308", "inf", "nan"),
    *("and", "or", "not", "if", "else", "lambda", "(", ")", ",", ".", "+", "-", "*", "/", "**", "//", "%", "<", "=="),
]


@settings(max_examples=400)
@given(words=st.lists(st.sampled_from(WORDS_OF_EXPRESSIONS), max_size=12), key=st.sampled_from(["derive", "where"]))
def test_any_row_of_words_as_expression_is_answered(words: list[str], key: str) -> None:
    text = " ".join(words)
    answers({**KEYWORDS, key: {"mine": text} if key == "derive" else text})


@settings(max_examples=200)
@given(content=st.binary(max_size=60) | st.text("axes: {}[],&*!-?|>'\"#\n\t1a", max_size=60).map(str.encode))
def test_any_bytes_as_a_file_are_answered(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with pytest.raises(sg.InputError) as refusal:
        sg.sweep(path)
    assert "\n" not in str(refusal.value)
