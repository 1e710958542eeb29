"""Questions as people ask them: from Python, from stores, by many hands, and with mistakes."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import servegrid as sg
from servegrid.cli import main
from servegrid.store import STATUS, UNFINISHED

SWEEP = """\
name: gpus
axes:
  model: [llama-3.1-8b, llama-3.1-70b]
  hardware: [h100-sxm, l4, mi300x]
  precision: [fp16, int4]
  max_batch_size: [1, 64, 512]
values: {seq_len: 4096}
where: ttft <= 20
derive: {per_user: 1 / itl}
outputs: [throughput, ttft, itl, bottleneck, max_active_requests]
"""
QUESTIONS: dict[str, dict[str, Any]] = {
    "best": {"maximize": "throughput", "per": "model"},
    "top": {"minimize": "itl", "k": 4},
    "pareto": {"maximize": ["throughput", "per_user"], "per": ["hardware"]},
    "count": {"per": ["precision", "model"], "where": "bottleneck == 'memory_bandwidth'"},
    "histogram": {"of": "ttft", "bins": [0.0, 0.1, 1, 20], "per": "hardware"},
    "quantile": {"of": "throughput", "q": [0, 0.25, 1]},
}
pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep, and its store."""
    folder = tmp_path_factory.mktemp("gpus")
    (folder / "gpus.yaml").write_text(SWEEP)
    sg.run(folder / "gpus.yaml", out=folder / "gpus.zarr")
    return folder


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_sweep_and_its_store_answer_alike(folder: Path, question: str) -> None:
    ask, words = getattr(sg, question), QUESTIONS[question]
    streamed = ask(folder / "gpus.yaml", **words)
    plain = xr.open_zarr(folder / "gpus.zarr")
    answers = [ask(folder / "gpus.zarr", **words), ask(str(folder / "gpus.zarr"), **words), ask(plain, **words)]
    answers += [getattr(plain.grid, question)(**words), getattr(plain.load().grid, question)(**words)]
    for stored in answers:
        xr.testing.assert_identical(stored.drop_attrs(), streamed.drop_attrs())
        assert stored.attrs["question"] == streamed.attrs["question"]
        for name in streamed.variables:
            units = {key: streamed[name].attrs.get(key) for key in ("units", "long_name", "direction")}
            assert units.items() <= {**units, **stored[name].attrs}.items(), name


@pytest.mark.parametrize("grid", ["gpus.yaml", "gpus.zarr"])
def test_processes_answer_as_threads_do(folder: Path, grid: str) -> None:
    words = {"maximize": "throughput", "minimize": "itl", "per": "model"}
    assert_same_answer(sg.pareto(folder / grid, **words, workers=2), sg.pareto(folder / grid, **words, threads=1))


def assert_same_answer(one: xr.Dataset, other: xr.Dataset) -> None:
    xr.testing.assert_identical(one, other)
    for name in one.variables:
        assert one[name].values.tobytes() == other[name].values.tobytes()


def test_an_answer_says_what_it_is(folder: Path) -> None:
    found = sg.best(folder / "gpus.yaml", minimize="itl", per="hardware")
    assert found.attrs["question"] == "minimize itl where ttft <= 20 per hardware"
    assert found.itl.attrs["direction"] == "minimize"
    assert found.itl.attrs["units"] == "s"
    assert set(found.coords) == {"model", "hardware", "precision", "max_batch_size"}
    assert list(found.data_vars) == [
        "itl",
        "throughput",
        "ttft",
        "bottleneck",
        "max_active_requests",
        "per_user",
        "found",
    ]


def test_the_filter_of_a_question_takes_the_place_of_the_sweeps_own(folder: Path) -> None:
    for grid in ("gpus.yaml", "gpus.zarr"):
        own = sg.count(folder / grid)
        assert own.met < sg.count(folder / grid, where="ttft > 0").met == own.feasible <= own.points


def test_outputs_may_be_chosen(folder: Path) -> None:
    found = sg.best(folder / "gpus.yaml", maximize="throughput", outputs=["kv_budget", "weight_bytes"])
    assert list(found.data_vars) == ["throughput", "kv_budget", "weight_bytes", "found"]
    point = {"model": str(found.model.values), "hardware": str(found.hardware.values)}
    alone = sg.sweep(values={**point, "precision": str(found.precision.values), "seq_len": 4096}, outputs=["kv_budget"])
    assert found.kv_budget == alone.kv_budget


def test_an_objective_may_be_an_axis() -> None:
    words: dict[str, Any] = {
        "axes": {"max_batch_size": [1, 8, 64], "seq_len": [1024, 8192]},
        "values": {"model": "llama-3.1-8b", "hardware": "l4", "precision": "int4"},
    }
    found = sg.best(**words, maximize="max_batch_size", where="itl <= 0.05")
    slow = sg.sweep(**words).itl
    assert found.max_batch_size == slow.max_batch_size.where(slow <= 0.05).max()


def test_the_words_of_a_sweep_may_be_given(small: dict[str, Any]) -> None:
    found = sg.best(**small, maximize="throughput", per="model")
    assert np.array_equal(
        found.throughput, sg.sweep(**small).throughput.max([d for d in small["axes"] if d != "model"])
    )


def test_a_target_may_be_an_axis() -> None:
    """A number of the user's own takes the unit that it meets: here [s]."""
    words: dict[str, Any] = {
        "axes": {"target": [0.002, 0.01, 0.05], "max_batch_size": [1, 8, 64]},
        "values": {"model": "llama-3.1-8b", "hardware": "h100-sxm", "precision": "fp8", "seq_len": 2048},
    }
    found = sg.best(**words, maximize="throughput", where="itl <= target", per="target")
    plain = sg.sweep(axes={"max_batch_size": [1, 8, 64]}, values=words["values"])
    for target in (0.002, 0.01, 0.05):
        one, meets = found.sel(target=target), plain.throughput.where(plain.itl <= target)
        assert bool(one.found) == bool(meets.notnull().any())
        if one.found:
            assert one.throughput == meets.max()


def test_a_store_in_single_precision_answers_from_what_is_stored(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(SWEEP + "dtype: float32\n")
    stored = sg.run(tmp_path / "x.yaml", out=tmp_path / "x.zarr")
    found = stored.grid.best(maximize="throughput", per="model")
    assert found.throughput.dtype == np.float32
    good = stored.throughput.where(stored.feasible & stored.selected)
    assert np.array_equal(found.throughput, good.max(["hardware", "precision", "max_batch_size"]))


def test_the_accessor_is_there_without_servegrid_being_used(folder: Path) -> None:
    assert xr.Dataset.grid.__doc__.startswith("Asks a dataset")  # type: ignore[attr-defined]  # registered
    assert sg.open_dataset(folder / "gpus.zarr").sizes == {
        "model": 2,
        "hardware": 3,
        "precision": 2,
        "max_batch_size": 3,
    }


# The first of equal points.


def test_of_equal_points_the_first_in_the_grid_wins() -> None:
    """The cache of this request leaves room for few: all larger batch limits are as good."""
    words: dict[str, Any] = {
        "values": {"model": "llama-3.1-70b", "hardware": "h100-sxm", "precision": "int4", "seq_len": 131072},
        "outputs": ["throughput"],
    }
    for labels in ([1, 4, 999, 50, 100], [100, 50, 999, 4, 1]):
        found = sg.best(axes={"max_batch_size": labels}, **words, maximize="throughput")
        every = sg.sweep(axes={"max_batch_size": labels}, **words).throughput
        assert found.max_batch_size == labels[int(np.argmax(every.values))]


# Nothing found, and mistakes.


def refused(ask: str, grid: Any, **words: Any) -> str:
    with pytest.raises(sg.InputError) as caught:
        getattr(sg, ask)(grid, **words)
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize("grid", ["gpus.yaml", "gpus.zarr"])
def test_a_filter_that_nothing_meets_says_what_excludes_how_many(folder: Path, grid: str) -> None:
    where = "ttft <= 1e-6 and itl <= 0.02"
    ds = sg.sweep(folder / "gpus.yaml")
    slow = int(((ds.itl > 0.02) & ds.feasible).sum())
    fits = int(ds.feasible.sum())
    said = refused("best", folder / grid, maximize="throughput", where=where, per="model")
    assert said == (
        f"where: nothing meets {where!r}: of 36 points {fits} fit the memory, and of these 'ttft <= 1e-06' excludes "
        f"{fits} and 'itl <= 0.02' excludes {slow}; loosen one of them"
    )


def test_a_model_that_fits_nowhere_is_said_so(folder: Path) -> None:
    words: dict[str, Any] = {
        "axes": {"hardware": ["l4", "t4"]},
        "values": {"model": "llama-3.1-405b", "precision": "fp16", "seq_len": 1024},
    }
    for ask in ("best", "top"):
        said = refused(ask, None, **words, maximize="throughput")
        assert said == "none of 2 points fits the memory; choose smaller models or more memory"
    assert int(sg.count(**words).feasible) == 0


def test_an_objective_that_is_nan_everywhere_is_said_so(folder: Path) -> None:
    words: dict[str, Any] = {
        "axes": {"max_batch_size": [1, 2]},
        "values": {"model": "llama-3.1-8b", "hardware": "gaudi-3", "precision": "fp16", "seq_len": 1024},
    }
    said = refused("best", None, **words, minimize="cost_per_million_tokens")
    assert said == (
        "'cost_per_million_tokens' is no number at any of the 2 points that count; "
        "ask for another quantity, or give what it needs"
    )
    assert refused("quantile", None, **words, of="price_per_hour").startswith("price_per_hour is no number")


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("best", {}, "got no objective, expected one to maximize or minimize, such as throughput"),
    ("best", {"maximize": "throughput", "minimize": "itl"}, "got 'throughput', 'itl', expected one to maximize"),
    ("pareto", {"maximize": "throughput"}, "got 'throughput', expected two or more to weigh against each other"),
    ("pareto", {"maximize": ["ttft", "ttft"]}, "the same objective is given twice: got ttft, ttft"),
    ("best", {"maximize": "thruput"}, "maximize: unknown quantity 'thruput' (did you mean throughput?)"),
    ("best", {"maximize": "itl <"}, "maximize: 'itl <' is not an expression"),
    ("best", {"maximize": "itl < 1"}, "maximize: got 'itl < 1', a flag, expected a number"),
    ("best", {"maximize": "bottleneck"}, "maximize: got 'bottleneck', a label, expected a number"),
    ("best", {"maximize": "itl + throughput"}, "maximize: the units in 'itl + throughput' do not fit"),
    ("best", {"maximize": "__import__('os')"}, "maximize: __import__(...) is no function of expressions"),
    ("best", {"maximize": "itl", "where": "ttft"}, "where: got 'ttft', expected a comparison"),
    ("best", {"maximize": "itl", "where": "ttft < 1 and itl"}, "where: got 'itl', expected a comparison"),
    ("best", {"maximize": "itl", "where": 3}, "where: got 3, expected an expression, as text"),
    ("best", {"maximize": 3}, "maximize: got 3, expected a quantity or an expression, as text"),
    ("best", {"maximize": "itl", "per": "modl"}, "per: unknown axis 'modl' (did you mean model?), expected one"),
    ("best", {"maximize": "itl", "per": ["model", "model"]}, "per: got model, model, expected each axis once"),
    ("best", {"maximize": "itl", "outputs": "x"}, "unknown quantity 'x'"),
    ("best", {"maximize": "itl", "threads": 0}, "threads: got 0, expected 1 or more"),
    ("top", {"maximize": "itl", "k": 0}, "k: got 0, expected a whole number, 1 to 100,000"),
    ("top", {"maximize": "itl", "k": 2.5}, "k: got 2.5, expected a whole number"),
    ("histogram", {"of": "itl", "bins": 0}, "bins: got 0, expected 1 to 100,000"),
    ("histogram", {"of": "itl", "bins": "many"}, "bins: got 'many', expected numbers"),
    ("quantile", {"of": "itl", "q": ["x"]}, "q: got a list, expected numbers"),
    ("histogram", {"of": "itl", "bins": [1, 1]}, "bins: expected a number of bins, or two or more edges that rise"),
    ("histogram", {"of": "itl", "span": (2, 1)}, "range: got 2 to 1, expected two finite numbers that rise"),
    ("histogram", {"of": "itl", "span": (0, 1), "spacing": "log"}, "spacing: got log for values from 0"),
    ("histogram", {"of": "itl", "spacing": "cubic"}, "spacing: got 'cubic', expected linear or log"),
    ("histogram", {"of": "feasible"}, "of: got 'feasible', a flag, expected a number"),
    ("quantile", {"of": "itl", "q": [0.5, 2]}, "q: got a list, expected one number from 0 to 1, or several"),
    ("quantile", {"of": "itl", "q": []}, "q: got a list, expected one number from 0 to 1, or several"),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "words", "sentence"), MISTAKES)
def test_mistakes_are_refused_in_a_sentence(folder: Path, ask: str, words: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(ask, folder / "gpus.yaml", **words)


def test_what_is_not_stored_is_named(folder: Path) -> None:
    said = refused("best", folder / "gpus.zarr", maximize="kv_budgt")
    assert said.startswith("maximize: 'kv_budgt' is not stored, expected one of throughput, ttft, itl,")
    assert said.endswith("; ask the sweep itself for more")


def test_an_unfinished_store_is_refused(folder: Path) -> None:
    ds = sg.open_dataset(folder / "gpus.zarr").assign_attrs({STATUS: UNFINISHED})
    said = refused("best", ds, maximize="throughput")
    assert said == "the store is unfinished: run its sweep again, then ask"


def test_a_damaged_store_is_said_to_be_one(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder / "gpus.zarr", tmp_path / "gpus.zarr"))
    chunk = next(path for path in sorted((copy / "throughput" / "c").rglob("*")) if path.is_file())
    content = chunk.read_bytes()
    chunk.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])
    with pytest.raises(sg.MachineError, match="'servegrid verify' tells what is damaged"):
        sg.best(copy, maximize="throughput")


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    assert refused("count", tmp_path) == f"{tmp_path}: is no store that a run wrote, expected one, or a sweep file"


# The command line.


def said(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), prog_name="servegrid")
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_best_prints_a_row_for_each_group(here: Path) -> None:
    text = said("best", "gpus.yaml", "--maximize", "throughput", "--per", "model,hardware", "--output", "itl")
    title, head, *rows = text.splitlines()
    assert title == "gpus  maximize throughput where ttft <= 20 per model, hardware"
    assert head.split("  ")[0] == "model"
    found = sg.best("gpus.yaml", maximize="throughput", per=["model", "hardware"])
    for row in rows[: int(found.found.sum())]:
        model, hardware, _, batch, throughput, *_ = row.split()
        one = found.sel(model=model, hardware=hardware)
        assert int(batch) == one.max_batch_size
        assert float(throughput.replace(",", "")) == pytest.approx(float(one.throughput), rel=1e-3)


def test_groups_without_an_answer_are_noted(here: Path) -> None:
    text = said(
        "best", "gpus.yaml", "-M", "throughput", "--per", "model", "--per", "hardware", "--where", "itl <= 0.005"
    )
    found = sg.best("gpus.yaml", maximize="throughput", per=["model", "hardware"], where="itl <= 0.005")
    lacking = int((~found.found).sum())
    assert 0 < lacking < 6
    assert text.splitlines()[-1] == f"note: in {lacking} of 6 places no configuration counts"


@pytest.mark.parametrize("grid", ["gpus.yaml", "gpus.zarr"])
def test_json_and_csv_hold_all_digits(here: Path, grid: str) -> None:
    asked = ["pareto", grid, "-M", "throughput", "-m", "itl", "--per", "hardware"]
    content = json.loads(said(*asked, "--json"))
    found = sg.pareto(grid, maximize="throughput", minimize="itl", per="hardware")
    assert content["question"] == "maximize throughput and minimize itl where ttft <= 20 per hardware"
    assert content["units"]["throughput"] == "token/s"
    assert [row["throughput"] for row in content["rows"]] == found.throughput.values.tolist()
    rows = list(csv.DictReader(io.StringIO(said(*asked, "--csv"))))
    assert [float(row["itl"]) for row in rows] == found.itl.values.tolist()
    assert [row["hardware"] for row in rows] == found.hardware.values.tolist()
    assert [int(row["max_batch_size"]) for row in rows] == found.max_batch_size.values.tolist()


def test_long_tables_are_cut_and_say_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servegrid.commands.ask.MOST_ROWS", 3)
    text = said("top", "gpus.yaml", "-M", "throughput", "-k", "8")
    assert text.splitlines()[-1] == "and 5 more; --csv and --json print all"
    assert len(text.splitlines()) == 2 + 3 + 1


def test_the_other_commands(here: Path) -> None:
    assert said("count", "gpus.zarr", "--per", "hardware").splitlines()[1].split() == [
        "hardware",
        "points",
        "feasible",
        "met",
    ]
    log = said("histogram", "gpus.yaml", "--of", "ttft", "--bins", "3", "--log", "--json")
    assert [row["count"] for row in json.loads(log)["rows"]] == sg.histogram(
        "gpus.yaml", of="ttft", bins=3, spacing="log"
    )["count"].values.tolist()
    levels = said("quantile", "gpus.yaml", "--of", "itl", "-q", "0.5", "-q", "1", "--csv")
    assert [row["quantile"] for row in csv.DictReader(io.StringIO(levels))] == ["0.5", "1.0"]


def test_a_wrong_question_exits_with_2(here: Path) -> None:
    result = CliRunner().invoke(main, ["best", "gpus.yaml", "--maximize", "thruput"], prog_name="servegrid")
    assert result.exit_code == 2
    assert result.output.startswith("servegrid: maximize: unknown quantity 'thruput' (did you mean throughput?)")
