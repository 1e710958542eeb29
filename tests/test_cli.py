"""The command as people use it: what it prints, to a pipe and to a narrow terminal, and what it loads."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from importlib.metadata import version
from pathlib import Path

import pytest
import xarray as xr
from click.testing import CliRunner

import servegrid as sg
from servegrid import planning
from servegrid.catalog import Catalog
from servegrid.cli import main
from servegrid.show import number

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

COMMAND = [sys.executable, "-c", "from servegrid.cli import main; main(prog_name='servegrid')"]
LLAMA_CONFIG = Path(__file__).parent / "data" / "configs" / "meta-llama--Meta-Llama-3.1-8B.json"
SWEEP = """\
name: which-gpu
question: Which serves Llama fastest?
axes:
  model: [llama-3.1-8b, llama-3.1-70b]
  hardware: [h100-sxm, l4]
  precision: [fp16, int4]
  max_batch_size: [1, 64]
values: {seq_len: 8192}
derive: {tokens_per_dollar: throughput * 3600 / price_per_hour}
where: itl <= 0.05
"""
AXES = "model x hardware x precision x max_batch_size"
FROM = "equation, or where the value is from"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a sweep in it."""
    (tmp_path / "gpus.yaml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*arguments: str | Path) -> str:
    """What the command prints to a pipe when all is well."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="servegrid")
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    return result.output


def row(text: str, name: str) -> str:
    """The one line that begins with `name`."""
    (line,) = [line for line in text.splitlines() if line.split("  ")[0].strip() == name]
    return line


def cells(line: str) -> list[str]:
    """The cells of a table's row, which two blanks or more keep apart."""
    return re.split(r" {2,}", line.strip())


def fields(text: str, name: str) -> dict[str, str]:
    """The cells of the row `name` by the headers of its table."""
    lines = text.splitlines()
    above = lines[: lines.index(row(text, name))]
    header = next(line for line in reversed(above) if cells(line)[0] in ("quantity", "output", "name", "fact"))
    return dict(zip(cells(header), cells(row(text, name)), strict=True))


# Help.

COMMANDS = (
    "run", "verify", "compare", "plan", "explain", "solve", "catalog", "plot", "sensitivity",
    "best", "top", "pareto", "count", "histogram", "quantile", "validate", "calibrate",
)  # fmt: skip


def test_help_names_all_commands() -> None:
    text = said("--help")
    listed = [line.split()[0] for line in text.partition("Commands:")[2].splitlines() if line]
    assert sorted(listed) == sorted(COMMANDS)
    assert text.startswith("Usage: servegrid [OPTIONS] COMMAND [ARGS]...\n")
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run", ["SWEEP", "--out", "--memory", "--overwrite", "--part I/N", "[default: <sweep>.zarr]"]),
        ("run", ["--threads", "--workers", "--scheduler ADDRESS", "--cluster", "--slurm"]),
        ("verify", ["STORE", "--sample", "--all", "--repair", "--memory", "--threads", "--workers", "--scheduler"]),
        ("compare", ["ONE OTHER", "--tolerance", "--json", "--csv", "--threads"]),
        ("plan", ["SWEEP", "--memory", "--threads"]),
        ("explain", ["SWEEP", "--kernel"]),
        ("solve", ["--model", "--hardware", "--precision", "--seq-len", "--page-size", "--set NAME=VALUE"]),
        ("plot", ["SWEEP-OR-STORE", "--kind [heatmap|lines|", "--of", "--x AXIS", "--at AXIS=LABEL", "--out FILE"]),
        ("catalog", ["list", "search", "show"]),
        (
            "catalog list",
            ["[KIND]", "--catalog", "KIND: models, accelerators, precisions, engines, links, traces,"],
        ),
        ("catalog search", ["TEXT", "--catalog"]),
        ("catalog show", ["NAME", "--catalog"]),
    ],
)
def test_each_command_has_help(command: str, words: list[str]) -> None:
    text = " ".join(said(*command.split(), "--help").split())
    assert text.startswith(f"Usage: servegrid {command} ")
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("arguments", ["--help", "--version", "run --help", "plot --help", "catalog list --help"])
def test_help_loads_no_library_that_computes(arguments: str) -> None:
    """What makes help answer in a fraction of a second."""
    heavy = ["numpy", "pandas", "xarray", "numba", "dask", "zarr", "pint", "pydantic", "yaml", "rich", "matplotlib"]
    program = (
        "import atexit, sys\n"
        "from servegrid.cli import main\n"
        f"heavy = set({heavy!r})\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        f"main({arguments.split()!r}, prog_name='servegrid')\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"


def test_version() -> None:
    assert said("--version") == f"servegrid, version {version('servegrid')}\n"


# run


def test_run_makes_the_store_and_sums_it_up(folder: Path) -> None:
    text = said("run", "gpus.yaml")
    with xr.open_zarr(folder / "gpus.zarr") as found:
        found = found.load()
    assert sorted(path.name for path in folder.iterdir()) == ["gpus.yaml", "gpus.zarr"]
    assert text.startswith("which-gpu  Which serves Llama fastest?\n")
    # 8 B fits everywhere, 70 B only the 80 GiB at 4 bits, and there any batch.
    assert found.feasible.sum() == 8 + 2
    assert "62.5% of the configurations fit the memory\n" in text
    assert f"{found.selected.mean().item():.1%} of the configurations meet 'itl <= 0.05'\n" in text
    best = found.throughput.where(found.selected).max(["precision", "max_batch_size"])
    for model in ("llama-3.1-8b", "llama-3.1-70b"):
        fastest = best.sel(model=model, hardware="h100-sxm").item()
        assert f"{fastest:,.0f}" in text
    assert "16 points in " in text
    on_disk = number(sum(path.stat().st_size for path in (folder / "gpus.zarr").rglob("*") if path.is_file()), "byte")
    # As the plan says: six outputs of 8 byte on all axes, two flags of 1 byte, one number without axes.
    size = f"{on_disk} on disk for {6 * 16 * 8 + 2 * 16 + 8} byte of results"
    assert text.rstrip().splitlines()[-1] == f"gpus.zarr  {size}; open it with xarray.open_zarr('gpus.zarr')"
    assert "stored already" not in text


def test_run_takes_a_place_a_budget_and_a_number_of_threads(folder: Path) -> None:
    said("run", "gpus.yaml", "--out", "new/here.zarr", "--memory", "500MiB", "--threads", "1")
    with xr.open_zarr(folder / "new" / "here.zarr") as found, sg.sweep(folder / "gpus.yaml") as expected:
        xr.testing.assert_equal(found.load(), expected)


def test_run_of_a_finished_store_computes_nothing_and_sums_up_the_same(folder: Path) -> None:
    first, again = said("run", "gpus.yaml").splitlines(), said("run", "gpus.yaml").splitlines()
    # Nine outputs, all in one block.
    (worked,) = set(first) - set(again)
    assert worked.startswith("16 points in ")
    assert set(again) - set(first) == {"9 of 9 chunks were stored already"}


def test_run_extends_the_store_of_a_smaller_sweep_and_says_by_what(folder: Path) -> None:
    said("run", "gpus.yaml")
    (folder / "gpus.yaml").write_text(
        SWEEP.replace("[h100-sxm, l4]", "[mi300x, h100-sxm, h200, l4]").replace(
            "derive: {", "derive: {double: itl * 2, "
        )
    )
    text = said("run", "gpus.yaml")
    assert "note: the store was extended: hardware by 2, output double\n" in text
    # Two blocks now: of the old one the new output is missing, of the new one everything with the axis hardware.
    assert "9 of 19 chunks were stored already\n" in text
    with xr.open_zarr(folder / "gpus.zarr") as found:
        assert found.hardware.values.tolist() == ["h100-sxm", "l4", "mi300x", "h200"]


def test_run_refuses_the_store_of_another_sweep_unless_it_may_throw_it_away(folder: Path) -> None:
    said("run", "gpus.yaml")
    (folder / "gpus.yaml").write_text(SWEEP.replace("8192", "4096"))
    refused = CliRunner().invoke(main, ["run", "gpus.yaml"], prog_name="servegrid")
    assert (refused.exit_code, refused.output) == (
        2,
        "servegrid: gpus.zarr: holds another sweep (seq_len is 8192 there, 4096 in the sweep); "
        "give another name, or --overwrite to throw that store away\n",
    )
    assert "16 points in " in said("run", "gpus.yaml", "--overwrite")
    with xr.open_zarr(folder / "gpus.zarr") as found, sg.sweep(folder / "gpus.yaml") as expected:
        xr.testing.assert_equal(found.load(), expected)


def test_run_shares_the_work_between_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "LARGEST_REGION", 300)
    said("run", "gpus.yaml", "--out", "whole.zarr")
    with xr.open_zarr(folder / "whole.zarr") as whole:
        blocks = len(whole.itl.chunks[0]) * len(whole.itl.chunks[1])
    assert blocks == 4
    first = said("run", "gpus.yaml", "--part", "1/2")
    # The first part has the one number without axes, too.
    assert first.splitlines()[-1] == "part 1 of 2 is done; 16 of 33 chunks are missing, which other parts compute"
    assert "the configurations" not in first
    assert json.loads((folder / "gpus.zarr" / "zarr.json").read_text())["attributes"]["status"] == "unfinished"
    last = said("run", "gpus.yaml", "--part", "2/2")
    assert last.splitlines()[-1].endswith("open it with xarray.open_zarr('gpus.zarr')")
    assert "17 of 33 chunks were stored already\n" in last
    with xr.open_zarr(folder / "whole.zarr") as whole, xr.open_zarr(folder / "gpus.zarr") as parts:
        xr.testing.assert_equal(parts, whole)
        assert set(parts.attrs) == set(whole.attrs)


def test_run_says_that_nothing_fits(folder: Path) -> None:
    (folder / "gpus.yaml").write_text(SWEEP.replace("llama-3.1-8b, llama-3.1-70b", "deepseek-v3"))
    text = said("run", "gpus.yaml")
    assert "0.0% of the configurations fit the memory\n" in text
    assert "Best" not in text


def test_a_fact_that_the_catalogue_lacks_is_noted(folder: Path) -> None:
    unpriced = [name for name, device in Catalog.default().accelerators.items() if device.price_per_hour is None]
    (folder / "gpus.yaml").write_text(SWEEP.replace("l4]", f"{unpriced[0]}]"))
    for command in ("plan", "run"):
        assert f"note: the catalogue has no price_per_hour of {unpriced[0]}: NaN there\n" in said(command, "gpus.yaml")


# plan


def test_plan_shows_points_shapes_and_bytes(folder: Path) -> None:
    text = said("plan", "gpus.yaml")
    assert "16 points" in text
    assert "model 2 x hardware 2 x precision 2 x max_batch_size 2" in text
    assert fields(text, "throughput") == {
        "output": "throughput",
        "unit": "token/s",
        "axes": AXES,
        "values": "16",
        "bytes": "128 byte",
        "chunk": "2 x 2 x 2 x 2",
    }
    alone = fields(text, "kv_fragmentation")
    assert (alone["axes"], alone["values"], alone["bytes"], alone["chunk"]) == ("-", "1", "8 byte", "-")
    assert fields(text, "tokens_per_dollar")["unit"] == "token/USD"
    # Six outputs of 8 byte on all axes, two flags of 1 byte, one number without axes.
    assert f"{6 * 16 * 8 + 2 * 16 + 8} byte before compression" in text
    assert not (folder / "gpus.zarr").exists()


def test_plan_of_an_astronomical_sweep_answers(folder: Path) -> None:
    axes = "".join(
        f"  {name}: {{from: 1, to: 1000000, num: 100000}}\n" for name in ("seq_len", "page_size", "max_batch_size")
    )
    (folder / "huge.yaml").write_text(
        f"axes:\n{axes}values: {{model: llama-3.1-8b, hardware: h100-sxm, precision: fp16}}\noutputs: [throughput]\n"
    )
    text = said("plan", "huge.yaml")
    assert "1,000,000,000,000,000" in text
    assert "7.994 PiB before compression" in text  # 9 byte each


# explain


def test_explain_shows_every_quantity_on_one_line(folder: Path) -> None:
    text = said("explain", "gpus.yaml")
    assert fields(text, "weight_bytes") == {
        "quantity": "weight_bytes",
        "unit": "byte",
        "axes": "model x precision",
        "values": "4",
        "bytes": "32 byte",
        FROM: "parameters * bytes_per_element",
    }
    capacity = fields(text, "hbm_capacity")
    assert (capacity["axes"], capacity["values"], capacity["bytes"]) == ("hardware", "2", "16 byte")
    assert fields(text, "max_batch_size")[FROM] == "axis"
    assert fields(text, "seq_len")[FROM] == "given"
    assert fields(text, "page_size")[FROM] == "default"
    pages = fields(text, "pages_per_request")
    assert (pages["axes"], pages["values"], pages[FROM]) == ("-", "1", "ceil(seq_len / page_size)")
    assert (fields(text, "selected")["axes"], fields(text, "selected")[FROM]) == (AXES, "itl <= 0.05")
    assert row(text, "prefill_flops").rstrip().endswith("* seq_len * seq_len) * max_batch_size")
    graph = sg.explain(folder / "gpus.yaml").evaluator.program.graph
    assert {cells(line)[0] for line in text.splitlines()[1:] if line.strip()} == {*graph.inputs, *graph.nodes}


def test_explain_kernel_is_python_that_holds_the_equations(folder: Path) -> None:
    text = said("explain", "gpus.yaml", "--kernel")
    (function,) = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    assigned = {
        target.id: ast.unparse(node.value)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and not isinstance(node.value, ast.Subscript)
    }
    formulas = {"parameters * bytes_per_element", "hbm_capacity - weight_bytes"}
    assert formulas <= set(assigned.values())
    assert len([node for node in ast.walk(function) if isinstance(node, ast.For)]) >= 10


# solve: Llama 3.1 8B on an H100 with 80 GiB, by hand.

PARAMETERS = 8_030_261_248
WEIGHTS = 2 * PARAMETERS
KV = 2 * 32 * 8 * 128 * 2 * 8192  # keys and values, layers, KV heads, width, fp16, tokens: 1 GiB
ROOM = (80 * 2**30 - WEIGHTS) // KV
ITL = (WEIGHTS + 64 * KV) / 3.35e12
TTFT = (2 * PARAMETERS * 8192 + 4 * 32 * 32 * 128 * 8192**2) * 64 / (989.4e12 * 0.5) + 1e-5
POINT = ("solve", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", "--seq-len", "8192", "--max-batch-size", "64")


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("hbm_capacity", "80 GiB"),
        ("hbm_bandwidth", "3.35 TB/s"),
        ("peak_flops", "989.4 TFLOP/s"),
        ("seq_len", "8,192"),
        ("weight_bytes", f"{WEIGHTS / 2**30:.4g} GiB"),
        ("kv_bytes_per_request", f"{KV / 2**30:g} GiB"),
        ("kv_capacity_requests", f"{ROOM}"),
        ("max_active_requests", "64"),
        ("itl", f"{ITL * 1e3:.4g} ms"),
        ("throughput", f"{64 / ITL:,.0f} token/s"),
        ("ttft", f"{TTFT:.4g} s"),
        ("kv_fragmentation", "0"),
        ("feasible", "yes"),
    ],
)
def test_solve_leads_from_the_datasheet_to_the_throughput(quantity: str, value: str, solved: str) -> None:
    assert fields(solved, quantity)["value"] == value


@pytest.fixture(scope="module")
def solved() -> str:
    return said(*POINT)


def test_solve_shows_each_equation_and_where_inputs_are_from(solved: str) -> None:
    assert solved.startswith("llama-3.1-8b, h100-sxm, fp16\n")
    assert fields(solved, "weight_bytes")[FROM] == "= parameters * bytes_per_element"
    assert fields(solved, "max_active_requests")[FROM] == "= min(max_batch_size, kv_capacity_requests)"
    assert fields(solved, "weight_bytes")["meaning"] == "weights of the model"
    assert fields(solved, "kv_heads")[FROM] == "catalogue: config.json of meta-llama/Meta-Llama-3.1-8B"
    assert fields(solved, "efficiency")[FROM] == "default"
    assert fields(solved, "max_batch_size")[FROM] == "given"


def test_solve_takes_any_other_input() -> None:
    text = said(*POINT, "--set", "hbm_bandwidth=4 TB/s", "--set", "kv_budget = 3 GiB")
    itl = (WEIGHTS + 3 * KV) / 4e12
    assert fields(text, "itl")["value"] == f"{itl * 1e3:.4g} ms"
    assert fields(text, "throughput")["value"] == f"{3 / itl:.4g} token/s"
    assert fields(text, "hbm_bandwidth")["value"] == "4 TB/s"
    assert fields(text, "hbm_bandwidth")[FROM] == "given"
    assert fields(text, "kv_budget")[FROM] == "given"


def test_solve_takes_a_model_from_its_own_config(tmp_path: Path, solved: str) -> None:
    config = tmp_path / "my-llama" / "config.json"
    config.parent.mkdir()
    config.write_bytes(LLAMA_CONFIG.read_bytes())
    point = ["my-llama" if argument == "llama-3.1-8b" else argument for argument in POINT]
    text = said(*point, "--catalog", config)
    for quantity in ("throughput", "itl", "ttft", "parameters"):
        assert fields(text, quantity)["value"] == fields(solved, quantity)["value"]


# catalog


def test_catalog_lists_every_entry() -> None:
    text, known = said("catalog", "list"), Catalog.default()
    for entries in (known.models, known.accelerators, known.precisions, known.engines, known.links, known.traces):
        assert [name for name in entries if row(text, name) is None] == []
    assert said("catalog", "list", "precisions").count("\n") < 30


def test_catalog_search_looks_at_names_titles_and_aliases_in_any_case() -> None:
    text = said("catalog", "search", "NVIDIA h100", "accelerators")
    assert [cells(line)[0] for line in text.splitlines()[2:]] == ["h100-sxm", "h100-pcie", "h100-nvl"]
    found = fields(text, "h100-sxm")
    assert (found["memory"], found["bandwidth"]) == ("80 GiB", "3.35 TB/s")
    assert "llama-3.1-8b" in said("catalog", "search", "meta-llama/llama-3.1-8B")


def test_catalog_show_gives_each_fact_its_source() -> None:
    text = said("catalog", "show", "H100")
    assert text.startswith("h100-sxm  NVIDIA H100 SXM5 80 GB\n")
    fact, value, source = cells(row(text, "memory_bandwidth"))
    assert (fact, value) == ("memory_bandwidth", "3.35 TB/s")
    assert re.search(r"https://\S+, read 20\d\d-\d\d-\d\d$", source)
    assert "('" not in said("catalog", "show", "fp8")  # a list is no Python tuple


def test_catalog_shows_how_each_constant_of_an_engine_was_got() -> None:
    text = said("catalog", "show", "trtllm")
    assert text.startswith("tensorrt-llm  TensorRT-LLM\n")
    _, value, source = cells(row(text, "constants.free_share"))
    assert value == "0.9 (documented: free_gpu_memory_fraction)"
    assert "KvCacheConfig" in source
    assert cells(row(text, "constants.kernel_time"))[1].startswith("3.65 µs (fitted: prior 3.5 us")
    assert "link_share" in said("catalog", "show", "common")
    assert cells(row(said("catalog", "show", "nvfp4-ffn"), "parts.attention"))[1] == "bf16"
    assert fields(said("catalog", "list", "links"), "nvlink-5-nvl72")["connects"] == "72"


def test_catalog_shows_the_lengths_of_a_trace() -> None:
    found = fields(said("catalog", "list", "traces"), "azure-2023-conversation")
    assert (found["requests"], found["output"], found["variation"]) == ("19,366", "211.1", "0.77")
    shown = row(said("catalog", "show", "azure-code"), "longest_output")
    assert cells(shown)[1] == "1,899"
    assert "Splitwise" in shown


def test_catalog_shows_the_entries_of_a_user(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "accelerators:\n  größer:\n    title: Größer\n    vendor: me\n    release_year: 2030\n"
        "    memory_capacity: 1 TiB\n    memory_bandwidth: 30 TB/s\n    memory_type: HBM9\n"
        "    peak_flops: {bf16: 9 PFLOP/s}\n    link: PCIe\n    link_bandwidth: 64 GB/s\n",
        encoding="utf-8",
    )
    found = fields(said("catalog", "list", "--catalog", own), "größer")
    assert (found["memory"], found["bandwidth"]) == ("1 TiB", "30 TB/s")
    assert fields(said("catalog", "show", "GRÖßER", "--catalog", own), "vendor")["value"] == "me"


def test_catalog_names_the_precision_of_a_checkpoint() -> None:
    config = Path(__file__).parent / "data" / "configs" / "openai--gpt-oss-20b.json"
    text = said("catalog", "show", "openai--gpt-oss-20b", "--catalog", config)
    assert "  precision of the checkpoint: mxfp4-experts\n" in text
    assert cells(row(text, "checkpoint_precision.experts"))[1] == "mxfp4"


# Pipes and terminals.


@pytest.mark.parametrize("arguments", [("plan", "gpus.yaml"), ("explain", "gpus.yaml"), ("catalog", "show", "h100")])
def test_a_pipe_gets_one_line_for_each_row_and_no_padding(arguments: tuple[str, ...], folder: Path) -> None:
    lines = said(*arguments).splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert [line for line in lines if line.startswith("      ")] == []  # the rest of a folded cell


def test_a_pipe_that_closes_early_is_no_error(folder: Path) -> None:
    with subprocess.Popen([*COMMAND, "catalog", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        run.stdout.close()
        assert run.stderr is not None
        assert run.stderr.read() == b""


def on_terminal(columns: int, *arguments: str) -> str:
    """What the command writes to a real terminal of that width, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"}
    ) as run:
        os.close(theirs)
        written = b""
        while chunk := _read(ours):
            written += chunk
    os.close(ours)
    assert run.returncode == 0, written.decode()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode().replace("\r\n", "\n"))


def _read(file: int) -> bytes:
    try:
        return os.read(file, 65536)
    except OSError:  # Linux says so when the other end has closed
        return b""


@pytest.mark.parametrize("arguments", [("plan", "gpus.yaml"), ("explain", "gpus.yaml"), POINT, ("run", "gpus.yaml")])
def test_eighty_columns_cut_no_name_and_no_number(arguments: tuple[str, ...], folder: Path) -> None:
    text = on_terminal(80, *arguments)
    assert [line for line in text.split("\n") if len(line.split("\r")[-1]) > 80] == []
    assert "…" not in text
    names = {"run": ["llama-3.1-8b", "llama-3.1-70b", "h100-sxm", "throughput"]}.get(
        arguments[0], ["max_active_requests", "kv_fragmentation", "speedup_vs_static"]
    )
    assert [name for name in names if name not in text] == []


def test_a_run_on_a_terminal_ends_without_its_progress_bar(folder: Path) -> None:
    text = on_terminal(100, "run", "gpus.yaml")
    assert "open it with xarray.open_zarr('gpus.zarr')" in text.rstrip().splitlines()[-1]
    assert json.loads((folder / "gpus.zarr" / "zarr.json").read_text())["zarr_format"] == 3
