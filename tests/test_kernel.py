"""Generated kernels: readable Python that gives the same numbers uncompiled, in a cache that is never wrong."""

from __future__ import annotations

import ast
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from uncompiled import uncompiled

import servegrid as sg
from servegrid import CONTINUOUS_BATCHING, evaluate, kernel
from servegrid.api import load
from servegrid.evaluate import prepare
from servegrid.fingerprint import fingerprint
from servegrid.kernel import compile_program
from servegrid.parameters import gather
from servegrid.program import Program

TINY: Mapping[str, Any] = {
    "axes": {"seq_len": [100, 200, 300]},
    "values": {"model": "opt-13b", "hardware": "a100-40gb", "precision": "fp16"},
    "outputs": ["kv_fragmentation"],
}
DEPLOYMENTS: Mapping[str, Any] = {  # all outputs of a large graph, some of them where nothing fits
    "solver": "serving",
    "axes": {"model": ["llama-3.1-70b", "deepseek-v3.2"], "tensor_parallel": [1, 3, 8], "concurrency": [1, 30, 700]},
    "values": {"hardware": "h200", "precision": "fp8", "engine": "vllm", "input_len": 2000, "output_len": 300},
}
FRAGMENTATION = [(112 - 100) / 112, (208 - 200) / 208, (304 - 300) / 304]


def _program(**keywords: Any) -> Program:
    return prepare(gather(load(**{**TINY, **keywords}))).program


def _sweep(**keywords: Any) -> xr.Dataset:
    return sg.sweep(**{**TINY, **keywords})


# The source.


def test_the_source_is_python_that_calls_nothing_but_arithmetic(small: dict[str, Any]) -> None:
    derive = {"x": "log(ttft / itl) ** 2 if feasible and 0 < itl < 1 else sqrt(2)"}
    tree = ast.parse(_program(**small, derive=derive, where="not (ttft > 1 or itl > 0.1)", outputs=["ttft"]).source)
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert calls <= {"njit", "range", "min", "max", "floor", "ceil", "sqrt", "log"}
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert sorted(filter(None, imported)) == ["math", "numba", "numpy"]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.Attribute | ast.Lambda)]


def test_the_source_names_units_and_axes(small: dict[str, Any]) -> None:
    source = _program(**small, outputs=["ttft", "itl"]).source
    assert "ttft_of,  # [s] time to first token\n" in source
    assert "# model x precision: weight_bytes" in source
    assert "for i_model in range(n_model):\n" in source
    assert max(map(len, source.splitlines())) < 160


def test_each_quantity_is_computed_in_the_nest_of_its_axes(small: dict[str, Any]) -> None:
    program = _program(**small, outputs=["throughput", "ttft", "kv_fragmentation"])
    nests = {nest.axes: set(nest.quantities) for nest in program.nests}
    assert nests["seq_len", "page_size"] == {"pages_per_request", "kv_fragmentation"}
    assert nests["model", "precision"] == {"weight_bytes"}
    assert "kv_budget" in nests["model", "hardware", "precision"]
    assert {"throughput", "itl", "max_active_requests", "feasible"} <= nests[tuple(small["axes"])]
    assert [len(nest.axes) for nest in program.nests] == sorted(len(nest.axes) for nest in program.nests)


def test_a_nest_of_many_outputs_is_cut_and_what_is_needed_comes_first() -> None:
    program = prepare(gather(load(**DEPLOYMENTS))).program
    parts = [nest for nest in program.nests if nest.axes == tuple(DEPLOYMENTS["axes"])]
    outputs = [sum(name in program.graph.outputs for name in nest.quantities) for nest in parts]
    assert len(parts) > 1
    assert max(outputs) <= 8
    known = set(program.graph.inputs)
    for nest in program.nests:
        assert known.issuperset(nest.loads)
        known.update(nest.quantities)
    assert known == {*program.graph.inputs, *program.graph.nodes}


def test_a_cut_nest_gives_the_same_bits_whatever_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = sg.sweep(**DEPLOYMENTS)
    lazy = sg.sweep(**DEPLOYMENTS, chunks={"model": 1})
    monkeypatch.setattr(evaluate, "compile_program", uncompiled)
    plain = sg.sweep(**DEPLOYMENTS)
    for name, variable in compiled.data_vars.items():
        assert plain[name].values.tobytes() == variable.values.tobytes(), name
        assert lazy[name].values.tobytes() == variable.values.tobytes(), name


def test_uncompiled_source_gives_the_same_bits(
    small: dict[str, Any], small_dataset: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "compile_program", uncompiled)
    plain = sg.sweep(**small)
    assert set(plain) == set(small_dataset)
    for name, variable in small_dataset.data_vars.items():
        assert plain[name].dtype == variable.dtype
        assert plain[name].values.tobytes() == variable.values.tobytes(), name


@pytest.mark.parametrize(
    "text",
    [
        "a\n    hacked=__import__('os').system('touch hacked'),  #",
        "a\r    hacked=__import__('os').system('touch hacked'),  #",
        "a\f\v\x85\u2028b",
        '"""',
        "\\",
        "{ttft}",
    ],
)
def test_text_of_a_user_stays_a_comment(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    derive = {"x": {"expression": "ttft * 2", "long_name": text}}
    outputs = ["feasible", "ttft"]
    plain, own = _program(derive={"x": "ttft * 2"}, outputs=outputs), _program(derive=derive, outputs=outputs)
    assert ast.dump(ast.parse(own.source)) == ast.dump(ast.parse(plain.source))
    dataset = _sweep(derive=derive, outputs=outputs)
    np.testing.assert_array_equal(dataset.x, dataset.ttft * 2)
    assert dataset.x.attrs["long_name"] == text
    assert list(tmp_path.iterdir()) == []


def test_an_expression_may_run_over_lines() -> None:
    dataset = _sweep(derive={"x": "(ttft +  # first\n ttft)"}, outputs=["ttft"])
    np.testing.assert_array_equal(dataset.x, dataset.ttft * 2)


# The cache.


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty kernel cache, for a process that has no kernels yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(kernel.CACHE_VARIABLE, str(folder))
    monkeypatch.setattr(kernel, "_loaded", {})
    return folder


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process, which has loaded nothing."""
    monkeypatch.setattr(kernel, "_loaded", {})


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file that holds a kernel."""
    files = [file for file in folder.rglob("*") if file.suffix in (".py", ".nbi", ".nbc")]
    return {str(file.relative_to(folder)): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


def test_a_kernel_is_compiled_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_program(_program())
    assert fresh.stat().st_mode & 0o777 == 0o700
    before = _state(fresh)
    assert sorted(Path(name).suffix for name in before) == [".nbc", ".nbi", ".py"]
    assert compile_program(_program()).function is first.function
    _forget(monkeypatch)
    np.testing.assert_allclose(_sweep().kv_fragmentation, FRAGMENTATION, rtol=1e-15)
    assert _state(fresh) == before


SCRIPT = """
import servegrid as sg
from servegrid import kernel
dataset = sg.sweep(axes={"seq_len": [100, 200, 300]}, outputs=["kv_fragmentation"],
                   values={"model": "opt-13b", "hardware": "a100-40gb", "precision": "fp16"})
(module,) = kernel._loaded.values()
print(sum(module.fill.stats.cache_hits.values()), dataset.kv_fragmentation.values.tolist())
"""


def _process(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, kernel.CACHE_VARIABLE: str(folder)}
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def _answer(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == ""
    hits, _, numbers = out.strip().partition(" ")
    return int(hits), numbers


def test_two_processes_at_once_agree_and_a_third_does_not_compile(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    processes = [_process(folder), _process(folder)]
    numbers = {_answer(process)[1] for process in processes}
    assert numbers == {str(FRAGMENTATION)}
    assert [path.suffix for path in folder.iterdir() if path.is_file()] == [".py"]  # no temporary file is left
    # The slower of the two may have renewed the source, and with it the stamp in the cache's index.
    _answer(_process(folder))
    before = _state(folder)
    assert _answer(_process(folder)) == (1, str(FRAGMENTATION))
    assert _state(folder) == before


def test_threads_at_once_compile_once(fresh: Path) -> None:
    program = _program()
    with ThreadPoolExecutor(4) as pool:
        kernels = list(pool.map(compile_program, [program] * 8))
    assert len({id(one.function) for one in kernels}) == 1
    assert sum(suffix.endswith(".nbc") for suffix in _state(fresh)) == 1


def _own_solver(folder: Path, share: str, formula: str = "SHARE * seq_len") -> sg.Solver:
    path = folder / f"module_{len(list(folder.iterdir()))}.py"
    path.write_text(
        "from servegrid.quantity import quantity\n"
        f"SHARE = {share}\n"
        '@quantity(unit="token", long_name="own")\n'
        "def own(seq_len: float) -> float:\n"
        f"    return {formula}\n"
    )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return CONTINUOUS_BATCHING.extended(module.own)


def test_a_changed_equation_or_constant_is_another_kernel(tmp_path: Path) -> None:
    versions = {
        "2 tokens": _own_solver(tmp_path, "2"),
        "3 tokens": _own_solver(tmp_path, "3"),
        "squares": _own_solver(tmp_path, "2", "SHARE * seq_len * seq_len"),
    }
    names = {name: fingerprint(_program(solver=solver, outputs=["own"]).source) for name, solver in versions.items()}
    assert len(set(names.values())) == 3
    again = _program(solver=_own_solver(tmp_path, "2"), outputs=["own"])
    assert fingerprint(again.source) == names["2 tokens"]
    found = {name: _sweep(solver=solver, outputs=["own"]).own.values[0] for name, solver in versions.items()}
    assert found == {"2 tokens": 200, "3 tokens": 300, "squares": 20_000}


@pytest.mark.parametrize("package", ["servegrid", "numba", "llvmlite", "numpy"])
def test_another_version_is_another_kernel(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint("source")
    monkeypatch.setattr("servegrid.fingerprint.version", lambda name: "99.0" if name == package else version(name))
    assert fingerprint("source") != before


@pytest.mark.parametrize("what", [".nbc", ".nbi", ".py"])
@pytest.mark.parametrize("damage", ["empty", "cut", "garbage"])
def test_a_damaged_cache_is_mended(
    what: str, damage: str, fresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compile_program(_program())
    (file,) = (path for path in fresh.rglob("*") if path.suffix == what)
    content = file.read_bytes()
    file.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "garbage": b"\x93garbage" * 99}[damage])
    _forget(monkeypatch)
    np.testing.assert_allclose(_sweep().kv_fragmentation, FRAGMENTATION, rtol=1e-15)
    mended = _state(fresh)
    _forget(monkeypatch)
    caplog.clear()
    np.testing.assert_allclose(_sweep().kv_fragmentation, FRAGMENTATION, rtol=1e-15)
    assert _state(fresh) == mended
    assert caplog.records == []


def _others_may_write(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def _owned_by_another(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir(mode=0o700)
    mine = os.getuid()
    patch.setattr(os, "getuid", lambda: mine + 1)


def _not_a_folder(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.write_text("a file\n")


@pytest.mark.parametrize("spoil", [_others_may_write, _owned_by_another, _not_a_folder])
def test_a_cache_folder_that_cannot_be_trusted_is_left_alone(
    spoil: Callable[[Path, pytest.MonkeyPatch], None],
    fresh: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spoil(fresh, monkeypatch)
    with caplog.at_level(logging.WARNING):
        dataset = _sweep()
    np.testing.assert_allclose(dataset.kv_fragmentation, FRAGMENTATION, rtol=1e-15)
    (record,) = caplog.records
    assert record.getMessage().startswith("kernels are not cached (")
    assert record.getMessage().endswith("): set SERVEGRID_CACHE_DIR to a folder of your own")
    assert str(fresh) in record.getMessage()
    assert [path for path in fresh.parent.rglob("*") if path != fresh] == []
