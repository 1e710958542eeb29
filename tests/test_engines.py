"""Engines of the catalogue: every constant has a source, engines inherit, and what a user's file may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from servegrid.catalog import Catalog, CatalogError, Engine, written_out
from servegrid.equations.engine import ENGINE

CATALOG = Catalog.default()
RUNNING = [name for name in CATALOG.engines if name != "common"]


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "own.yaml"


def test_the_engines_of_the_package() -> None:
    assert RUNNING == ["vllm", "tensorrt-llm", "sglang", "ideal"]
    assert CATALOG.short_name("engine", "TRTLLM") == "tensorrt-llm"


@pytest.mark.parametrize("engine", RUNNING)
def test_every_constant_has_a_value_within_bounds_a_source_and_how_it_was_got(engine: str) -> None:
    constants = CATALOG.constants(engine)
    assert constants.keys() == ENGINE.keys()
    for name, constant in constants.items():
        assert ENGINE[name].accepts(constant.value)
        assert constant.how is not None
        assert CATALOG.source("engine", engine, f"constants.{name}") is not None


@pytest.mark.parametrize("engine", CATALOG.engines)
def test_what_was_fitted_has_a_prior_and_a_spread(engine: str) -> None:
    for constant in CATALOG.engines[engine].constants.values():
        if constant.how == "fitted":
            assert constant.spread
            assert constant.note is not None
            assert constant.note.startswith("prior ")


def test_every_source_of_the_file_is_used() -> None:
    used = set()
    for engine in CATALOG.engines.values():
        used |= {engine.source, *(constant.source for constant in engine.constants.values())}
    assert used - {None} == set(CATALOG.sources["engine", "vllm"])


@pytest.mark.parametrize(
    ("engine", "constant", "value"),
    [
        ("vllm", "kernel_time", 3.65e-6),
        ("vllm", "kernel_factor", 1.02),
        ("vllm", "memory_share", 0.92),
        ("tensorrt-llm", "free_share", 0.9),
        ("tensorrt-llm", "prefill_overhead", 3.9e-3),
        ("sglang", "mixed_prefill", 0),
        ("sglang", "sequence_time", 20e-6),
        ("sglang", "link_share", 0.66),
        ("ideal", "frontend_time", 0),
    ],
)
def test_constants_are_in_si_units(engine: str, constant: str, value: float) -> None:
    assert CATALOG.constants(engine)[constant].value == pytest.approx(value, rel=1e-12)


def test_the_ideal_engine_loses_nothing() -> None:
    constants = CATALOG.constants("ideal")
    for name, declared in ENGINE.items():
        if name.endswith(("_share", "_share_bf16", "_share_fp8", "_share_fp4")) and name != "queue_share":
            assert constants[name].value == 1
        if declared.unit == "s":
            assert constants[name].value == 0


# A user's engines.

OWN = "engines: {mine: {title: Mine, like: vllm, constants: {kernel_time: 3 us, link_share: {value: 70 %}}}}"


def test_an_engine_is_like_another_but_for_what_it_states(write: Path) -> None:
    write.write_text(OWN)
    extended = CATALOG.extended(write)
    theirs, mine = extended.constants("vllm"), extended.constants("MINE")
    assert {name for name in ENGINE if mine[name].value != theirs[name].value} == {"kernel_time", "link_share"}
    assert [mine["kernel_time"].value, mine["link_share"].value] == pytest.approx([3e-6, 0.7])
    assert extended.source("engine", "mine", "constants.kernel_time") is None
    inherited = extended.source("engine", "mine", "constants.memory_share")
    assert inherited == CATALOG.source("engine", "vllm", "constants.memory_share")


def test_a_changed_engine_changes_those_that_are_like_it(write: Path) -> None:
    write.write_text("engines: {vllm: {title: vLLM, like: sglang, constants: {step_time: 1 ms}}}")
    extended = CATALOG.extended({"engines": {"mine": {"title": "Mine", "like": "VLLM"}}}, write)
    assert extended.constants("mine")["step_time"].value == pytest.approx(1e-3)
    assert extended.constants("mine")["mixed_prefill"].value == 0
    assert CATALOG.constants("vllm")["mixed_prefill"].value == 1


def test_an_engine_written_out_is_the_same_again(write: Path) -> None:
    write.write_text(
        "sources: {log: {document: My log, read: 2030-01-02}}\n" + OWN[:-1] + ", o: {title: O, like: mine}}"
    )
    again = CATALOG.extended(written_out(write))
    assert again.engines == CATALOG.extended(write).engines
    assert isinstance(again.engine("o"), Engine)


REFUSED = {
    "{mine: {title: Mine, like: vllm, constants: {kernel_tim: 3 us}}}": (
        ".mine.constants: got an unknown constant 'kernel_tim', expected one of an engine "
        "(did you mean kernel_time or kernel_factor or "
    ),
    "{mine: {title: Mine, like: vllm, constants: {kernel_time: 3 GB}}}": (
        ".mine.constants: kernel_time: got '3 GB', expected a number in s, at least 0"
    ),
    "{mine: {title: Mine, like: vllm, constants: {link_share: 1.5}}}": (
        ".mine.constants: link_share: got 1.5, expected a number, above 0 and at most 1"
    ),
    "{mine: {title: Mine, like: vllm, constants: {link_share: {value: yes}}}}": (
        ".mine.constants: link_share: got true, expected a number, above 0 and at most 1"
    ),
    "{mine: {title: Mine, like: vllm, constants: {link_share: {}}}}": (
        ".mine.constants.link_share.value: got nothing, expected a value"
    ),
    "{mine: {title: Mine, like: vllm, constants: [1]}}": ".mine.constants: got a list, expected a mapping",
    "{mine: {title: Mine, like: vllm, constants: {link_share: {value: 1, source: x}}}}": (
        ".mine.constants.link_share.source: got 'x', expected a key of the file's sources"
    ),
}


@pytest.mark.parametrize("engines", REFUSED)
def test_a_constant_that_cannot_be_is_refused(engines: str, write: Path) -> None:
    write.write_text(f"engines: {engines}")
    with pytest.raises(CatalogError) as refusal:
        CATALOG.extended(write)
    assert str(refusal.value).startswith(f"own.yaml: engines{REFUSED[engines]}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("engines", "message"),
    [
        ({"mine": {"title": "Mine"}}, "the engine mine gives no kernel_factor, expected it among its constants, or "),
        ({"mine": {"title": "Mine", "like": "vlm"}}, "unknown engine 'vlm' (did you mean vllm?); 'servegrid "),
        ({"mine": {"title": "Mine", "like": "mine"}}, "the engine mine is like itself, expected 'like' to lead to "),
    ],
)  # fmt: skip
def test_an_engine_without_end_or_beginning_is_refused(engines: dict[str, object], message: str) -> None:
    with pytest.raises(CatalogError) as refusal:
        CATALOG.extended({"engines": engines})
    assert str(refusal.value).startswith(f"catalog: {message}")
