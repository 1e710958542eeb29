"""`servegrid plot` as people use it: files that are whole, options that fit the kind, sentences for what does not."""

from __future__ import annotations

import json
import re
import shlex
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pictures import axes_of, legend_of, words_of

import servegrid as sg
from servegrid import plot
from servegrid.cli import main
from servegrid.commands.plot import KINDS
from servegrid.store import STATUS, UNFINISHED

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SWEEP = """\
axes:
  model: [llama-3.1-8b, llama-3.1-70b]
  hardware: [h100-sxm, l4]
  hbm_bandwidth: [3.35 TB/s, 8 TB/s]
  max_batch_size: [1, 64]
values: {seq_len: 1024, precision: int4}
outputs: [throughput, itl, weight_read_time, kv_read_time, max_active_requests]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a sweep in it."""
    (tmp_path / "gpus.yaml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written, in order."""
    figures: list[Figure] = []
    write = Figure.savefig

    def keep(figure: Figure, *words: Any, **options: Any) -> None:
        figures.append(figure)
        write(figure, *words, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def draw(*arguments: str) -> str:
    """What the command says when all is well."""
    result = CliRunner().invoke(main, ["plot", *arguments], prog_name="servegrid")
    assert result.exit_code == 0, result.output
    return result.output.strip()


def refusal(*arguments: str) -> str:
    """The sentence in which the command refuses."""
    result = CliRunner().invoke(main, ["plot", *arguments], prog_name="servegrid")
    assert result.exit_code == 2, result.output
    (line,) = result.output.splitlines()
    return line.removeprefix("servegrid: ")


HEATMAP = ["gpus.yaml", "--of", "itl", "--x", "hardware", "--y", "model"]
AT = ["--at", "hbm_bandwidth=8 TB/s", "--at", "max_batch_size=64"]
OUT = ["--out", "x.png"]


def test_a_heat_map_of_a_sweep(folder: Path, drawn: list[Figure]) -> None:
    assert draw(*HEATMAP, *AT, *OUT) == "x.png"
    assert (folder / "x.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.iterdir()) == ["gpus.yaml", "x.png"]
    assert axes_of(drawn[0]).get_title(loc="left") == "hbm bandwidth 8 TB/s · max batch size 64 · precision int4"
    assert legend_of(drawn[0]) == ["does not fit the memory"]


def test_the_kind_follows_from_the_axes(folder: Path, drawn: list[Figure]) -> None:
    draw(*HEATMAP, *AT, *OUT)
    draw("gpus.yaml", "--of", "itl", "--x", "max_batch_size", "--hue", "hardware", "--out", "y.svg")
    assert len(drawn[0].axes) == 2  # with a colour bar
    assert legend_of(drawn[1]) == ["h100-sxm", "l4"]
    assert refusal("gpus.yaml", *OUT) == (
        "--kind: got nothing, expected one of heatmap, lines, roofline, breakdown, frontier, tornado, or --x or --y, "
        "which tell it"
    )


def test_several_labels_of_an_axis_stay(folder: Path, drawn: list[Figure]) -> None:
    at = ["--at", "model=llama-3.1-70b", "--at", "model=llama-3.1-8b", "--at", "hbm_bandwidth=3.35e12"]
    draw("gpus.yaml", "--kind", "lines", "--of", "itl", "--x", "max_batch_size", "--hue", "model", *at, *OUT)
    assert legend_of(drawn[0]) == ["llama-3.1-70b", "llama-3.1-8b"]


def test_a_breakdown(folder: Path, drawn: list[Figure]) -> None:
    at = [*AT, "--at", "model=llama-3.1-8b"]
    draw("gpus.yaml", "--kind", "breakdown", "--x", "hardware", *at, *OUT)
    assert legend_of(drawn[0]) == ["Time to read the weights", "Time to read the KV caches"]
    draw("gpus.yaml", "--kind", "breakdown", "--term", "kv_read_time", "--term", "itl", *at, *OUT)
    assert legend_of(drawn[1]) == ["Time to read the KV cache of one request", "Inter-token latency"]


def test_a_roofline_says_what_the_sweep_lacks(folder: Path) -> None:
    assert refusal("gpus.yaml", "--kind", "roofline", *OUT) == (
        "roofline: the dataset has no weight_bytes and no kv_bytes_per_request: add them to `outputs` of the sweep"
    )


def test_a_store_is_drawn_as_its_sweep_is(folder: Path, drawn: list[Figure]) -> None:
    sg.run("gpus.yaml", out="gpus.zarr")
    draw(*HEATMAP, *AT, *OUT)
    draw("gpus.zarr", *HEATMAP[1:], *AT, "--out", "y.png")
    assert (folder / "x.png").read_bytes() == (folder / "y.png").read_bytes()


def test_an_unfinished_store_is_refused(folder: Path) -> None:
    sg.run("gpus.yaml", out="gpus.zarr")
    root = folder / "gpus.zarr" / "zarr.json"
    content = json.loads(root.read_text())
    content["attributes"][STATUS] = UNFINISHED
    root.write_text(json.dumps(content))
    assert refusal("gpus.zarr", *HEATMAP[1:], *AT, *OUT) == (
        "gpus.zarr: the store is unfinished: run its sweep again, then ask"
    )
    assert not (folder / "x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*HEATMAP, *AT, "--out", "x.gif"], "x.gif: got the suffix '.gif', expected one of .png, .svg, .pdf, such as "),
        ([*HEATMAP, *AT, "--out", "x"], "x: got the suffix '', expected one of .png, .svg, .pdf, such as x.png"),
        ([*HEATMAP, "--at", "modell=a", *OUT], "--at: unknown axis 'modell' (did you mean model?), expected one of mo"),
        (
            [*HEATMAP, "--at", "model=llama-3.1-7b", *OUT],
            "--at: unknown label 'llama-3.1-7b' of model (did you mean llama-3.1-",
        ),
        (
            [*HEATMAP, "--at", "max_batch_size=65", *OUT],
            "--at: unknown label '65' of max_batch_size, expected one of 1, 64",
        ),
        (
            [*HEATMAP, "--at", "max_batch_size=64 GiB", *OUT],
            "--at: max_batch_size: '64 GiB' has a unit that cannot",
        ),
        ([*HEATMAP, "--at", "model", *OUT], "--at: got 'model', expected AXIS=LABEL such as model=llama-3.1-8b"),
        ([*HEATMAP, "--at", "model=", *OUT], "--at: got 'model=', expected AXIS=LABEL such as model=llama-3.1-8b"),
        ([*HEATMAP, *OUT], "heat map of itl: got 2 more axes than it shows (hbm_bandwidth, max_batch_size), select "),
        ([*HEATMAP, "--hue", "model", *AT, *OUT], "--hue: a picture of the kind heatmap has none, expected some of --"),
        (
            ["gpus.yaml", "--y", "model", *OUT],
            "--of: got nothing, expected a name: a picture of the kind heatmap",
        ),
        (
            ["gpus.yaml", "--of", "thruput", "--x", "model", *OUT],
            "variable: the dataset has no 'thruput' (did you mean throughput?), expected one of throughput, itl, ",
        ),
        (
            ["gpus.yaml", "--of", "itl", "--x", "models", *OUT],
            "x: 'models' is not an axis of itl (did you mean",
        ),
        (["nowhere.zarr", *HEATMAP[1:], *OUT], "nowhere.zarr: there is no such file"),
        (["nowhere.yaml", *HEATMAP[1:], *OUT], "nowhere.yaml"),
        ([".", *HEATMAP[1:], *OUT], ".: is no store that a run wrote, expected one, or a sweep file"),
        (["nowhere://x.zarr", *HEATMAP[1:], *OUT], "nowhere://x.zarr: "),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(folder: Path, arguments: list[str], sentence: str) -> None:
    assert refusal(*arguments).startswith(sentence)
    assert [path.name for path in folder.iterdir()] == ["gpus.yaml"]


def test_a_folder_that_is_not_there_is_a_fault_of_the_machine(folder: Path) -> None:
    result = CliRunner().invoke(main, ["plot", *HEATMAP, *AT, "--out", "nowhere/x.png"], prog_name="servegrid")
    assert result.exit_code == 3
    assert "No such file or directory" in result.output


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_a_function_with_these_arguments(name: str) -> None:
    kind = KINDS[name]
    assert set(kind.takes.values()) <= set(signature(getattr(plot, name)).parameters)
    givers: dict[str, Any] = {"frontier": sg.pareto, "tornado": sg.tornado}
    giver = givers.get(name, sg.sweep)
    assert set(kind.asks.values()) <= set(signature(giver).parameters)
    assert set(kind.needs) <= {*kind.takes, *kind.asks}


def examples() -> list[str]:
    """The pictures of the README."""
    return re.findall(r"^servegrid (plot .*)$", README.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("command", examples())
def test_the_examples_of_the_readme(command: str, drawn: list[Figure], folder: Path) -> None:
    for sweep, store in re.findall(r"^servegrid run (sweeps/\S+) --out (\S+)$", README, re.MULTILINE):
        if store in command:
            sg.run(str(ROOT / sweep), out=store)
    words = [str(ROOT / word) if word.startswith("sweeps/") else word for word in shlex.split(command, comments=True)]
    draw(*words[1:])
    assert any("[" in word for word in words_of(drawn[0]))


def test_the_readme_has_examples() -> None:
    assert len(examples()) >= 2


def test_what_is_drawn_is_what_the_function_draws(folder: Path, drawn: list[Figure]) -> None:
    draw("gpus.yaml", "--of", "throughput", "--x", "max_batch_size", "--over", "model", "--over", "hardware",
         "--at", "hbm_bandwidth=8 TB/s", *OUT)  # fmt: skip
    ds: xr.Dataset = sg.sweep("gpus.yaml").sel(hbm_bandwidth=8e12)
    plot.save(plot.lines(ds, "throughput", "max_batch_size"), "y.png")
    assert (folder / "x.png").read_bytes() == (folder / "y.png").read_bytes()


def test_a_frontier_has_a_line_for_each_label(folder: Path, drawn: list[Figure]) -> None:
    asked = ["--maximize", "throughput", "--minimize", "itl", "--where", "itl <= 1"]
    draw("gpus.yaml", *asked, "--per", "hardware", *OUT)
    points = sg.pareto("gpus.yaml", maximize="throughput", minimize="itl", where="itl <= 1", per="hardware")
    axes, unit = axes_of(drawn[0]), 1e6  # [µs]
    assert axes.get_ylabel().endswith("[µs]")
    assert legend_of(drawn[0])[-2:] == ["h100-sxm", "l4"]
    corners = {(x, y) for line in axes.get_lines() for x, y in np.column_stack(line.get_data()).tolist()}
    shown = zip(points.throughput.values, points.itl.values * unit, strict=True)
    assert all(any(x == pytest.approx(a) and y == pytest.approx(b) for a, b in corners) for x, y in shown)


def test_a_tornado_is_that_of_its_table(folder: Path, drawn: list[Figure]) -> None:
    point = ["--at", "model=llama-3.1-8b", "--at", "hardware=l4", "--at", "hbm_bandwidth=8 TB/s"]
    draw("gpus.yaml", "--kind", "tornado", "--of", "throughput", *point, "--at", "max_batch_size=1", *OUT)
    at = {"model": "llama-3.1-8b", "hardware": "l4", "hbm_bandwidth": "8 TB/s", "max_batch_size": 1}
    table = sg.tornado("gpus.yaml", output="throughput", at=at)
    bars = [bar for bar in axes_of(drawn[0]).patches if isinstance(bar, Rectangle)]
    ends = {bar.get_x() + bar.get_width() for bar in bars}
    assert all(any(end == pytest.approx(value) for end in ends) for value in table.throughput.values.ravel())
