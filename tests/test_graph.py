"""The graph: what depends on what, over which axes, in which order; and how it refuses what cannot be."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import servegrid as sg
from servegrid import CONTINUOUS_BATCHING, InputError, Quantity
from servegrid.api import load
from servegrid.graph import Graph, build, check_unit
from servegrid.parameters import gather
from servegrid.quantity import COMPUTED
from servegrid.reading import read_equation
from servegrid.solvers import SOLVERS

POINT = {"model": "opt-13b", "hardware": "a100-40gb", "precision": "fp16", "seq_len": 1000}

EQUATIONS = '''
from math import exp, floor, nan
from servegrid.quantity import quantity

SHARE = 0.25


@quantity(unit="token", long_name="tokens of a draft")
def draft_tokens(seq_len: float) -> float:
    """Return a quarter of the sequence."""
    tokens = SHARE * seq_len
    whole = floor(tokens)
    return whole if whole > 0 else nan


@quantity(unit="s", long_name="inter-token latency, halved")
def itl(weight_bytes: float, hbm_bandwidth: float) -> float:
    return weight_bytes / hbm_bandwidth / 2


@quantity(unit="token", long_name="draft, and those that are expected")
def hopeful(draft_tokens: float, acceptance: float) -> float:
    return draft_tokens * acceptance


@quantity(unit="1", long_name="large")
def large(seq_len: float) -> float:
    start = 2**62
    return start * 4 * seq_len / (10**20 * seq_len)


@quantity(unit="1", long_name="in two steps")
def two_steps(seq_len: float) -> float:
    value = seq_len * 2
    value = value + 1
    return value


@quantity(unit="1", long_name="one")
def chicken(egg: float) -> float:
    return egg


@quantity(unit="1", long_name="other")
def egg(chicken: float) -> float:
    return chicken


@quantity(unit="1", long_name="unknown")
def misspelt(pagesize: float) -> float:
    return pagesize


@quantity(unit="byte", long_name="wrong unit")
def wrong(ttft: float, itl: float) -> float:
    total = ttft + itl
    return 2 * total


@quantity(unit="1", long_name="adds what cannot be added")
def mixed(ttft: float, seq_len: float) -> float:
    return ttft + seq_len


@quantity(unit="furlong", long_name="unknown unit")
def no_unit(seq_len: float) -> float:
    return seq_len


@quantity(unit="1", long_name="branch")
def branching(seq_len: float) -> float:
    if seq_len > 3:
        return 1
    return 2


@quantity(unit="1", long_name="loop")
def looping(seq_len: float) -> float:
    total = 0
    total += seq_len
    return total


@quantity(unit="1", long_name="calls")
def calling(seq_len: float) -> float:
    return exp(seq_len)


@quantity(unit="1", long_name="text")
def texting(seq_len: float) -> float:
    return "text"


@quantity(unit="1", long_name="global")
def outside(seq_len: float) -> float:
    return seq_len * NOWHERE


def transfer_time(size: float, rate: float) -> float:
    """Return a time, in two steps and with a number of the module."""
    reached = rate * SHARE
    return size / reached


def slower(size: float, rate: float) -> float:
    return max(transfer_time(size, rate), transfer_time(size + size, rate))


def endless(x: float) -> float:
    return endless(x)


def one_of(x: float, choice: float = 1) -> float:
    return x


def steps_of_its_own(x: float) -> float:
    for _ in range(3):
        pass
    return x


@quantity(unit="s", long_name="through helper functions")
def through_helpers(weight_bytes: float, hbm_bandwidth: float, itl: float) -> float:
    reached = 3 * weight_bytes
    return slower(reached, hbm_bandwidth / 2) + transfer_time(reached + weight_bytes, hbm_bandwidth) - itl


@quantity(unit="byte", long_name="a wrong unit through a helper function")
def wrong_through_helper(weight_bytes: float, hbm_bandwidth: float) -> float:
    return transfer_time(weight_bytes, hbm_bandwidth)


@quantity(unit="1", long_name="adds within a helper function what cannot be added")
def mixed_in_helper(seq_len: float, hbm_bandwidth: float, ttft: float) -> float:
    return slower(ttft, seq_len) + slower(seq_len, seq_len)


@quantity(unit="1", long_name="recursion")
def recursive(seq_len: float) -> float:
    return endless(seq_len)


@quantity(unit="1", long_name="calls an equation")
def calls_an_equation(seq_len: float) -> float:
    return large(seq_len)


@quantity(unit="1", long_name="by name")
def by_keyword(seq_len: float) -> float:
    return slower(seq_len, rate=2)


@quantity(unit="1", long_name="too few")
def too_few(seq_len: float) -> float:
    return slower(seq_len)


@quantity(unit="1", long_name="defaults")
def with_defaults(seq_len: float) -> float:
    return one_of(seq_len)


@quantity(unit="1", long_name="a loop in a helper function")
def loop_in_helper(seq_len: float) -> float:
    return 1 + steps_of_its_own(seq_len)


@quantity(unit="1", long_name="nothing")
def empty(seq_len: float) -> float:
    """Return nothing."""
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """A user's module of equations."""
    path = tmp_path_factory.mktemp("own") / "own_equations.py"
    path.write_text(EQUATIONS)
    return _import(path)


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _graph(**keywords: Any) -> Graph:
    return gather(load(**{"values": POINT, **keywords})).graph


# Order.


def test_each_node_comes_after_all_that_it_needs() -> None:
    graph = _graph(derive={"a": "b + itl", "b": "ttft * 2"}, where="a < b")
    seen = set(graph.inputs)
    for name, node in graph.nodes.items():
        assert set(node.needs) <= seen
        seen.add(name)
    assert set(graph.outputs) <= seen


def test_only_what_the_outputs_need_is_in_the_graph() -> None:
    graph = build(CONTINUOUS_BATCHING, ["kv_fragmentation"])
    assert list(graph.nodes) == ["pages_per_request", "kv_fragmentation"]
    assert set(graph.inputs) == {"seq_len", "page_size"}


# Axes.


def test_a_quantity_has_the_axes_of_all_that_it_needs_in_the_sweeps_order(small: dict[str, Any]) -> None:
    parameters = gather(load(**small, derive={"dollars": "price_per_hour / efficiency"}))
    axes = parameters.axes
    assert list(parameters.sizes) == [
        "model",
        "hardware",
        "precision",
        "seq_len",
        "max_batch_size",
        "page_size",
    ]
    assert axes["efficiency"] == ()
    assert axes["weight_bytes"] == ("model", "precision")
    assert axes["peak_flops"] == ("hardware", "precision")
    assert axes["kv_fragmentation"] == ("seq_len", "page_size")
    assert axes["kv_bytes_per_request"] == ("model", "precision", "seq_len", "page_size")
    assert axes["ttft"] == ("model", "hardware", "precision", "seq_len", "max_batch_size")
    assert axes["throughput"] == tuple(parameters.sizes)
    assert axes["dollars"] == ("hardware",)


def test_an_axis_that_no_output_needs_is_named_idle(small: dict[str, Any]) -> None:
    small["axes"]["efficiency"] = [0.25, 0.5]
    del small["values"]
    assert gather(load(**small)).idle_axes == ()
    assert gather(load(**small, outputs=["kv_fragmentation", "itl"])).idle_axes == ("efficiency",)


# A value in place of an equation.


def test_a_value_replaces_an_equation_and_what_only_it_needs() -> None:
    graph = _graph(values={**POINT, "itl": "20 ms"}, outputs=["throughput"])
    assert "itl" in graph.inputs
    assert "hbm_bandwidth" not in graph.inputs
    dataset = sg.sweep(axes={"max_batch_size": [1, 2, 4]}, values={**POINT, "itl": "20 ms"})
    np.testing.assert_allclose(dataset.throughput, [50, 100, 200], rtol=1e-15)
    assert dataset.itl.item() == 0.02


def test_what_is_given_twice_is_refused(small: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refusal:
        load(**small | {"values": {"page_size": 16}})
    assert str(refusal.value) == (
        "page_size is given twice, expected it once: as an axis, a column of cases or a value"
    )


# Refusals.


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"derive": {"a": "a + 1"}}, "derive.a: a quantity cannot depend on itself, but a needs a"),
        (
            {"derive": {"a": "b + 1", "b": "c", "c": "2 * a"}},
            "derive.c: a quantity cannot depend on itself, but a needs b needs c needs a",
        ),
        (
            {"derive": {"itl": "throughput * 0 + 1"}, "outputs": ["throughput"]},
            "derive.itl: a quantity cannot depend on itself, but throughput needs itl needs throughput",
        ),
        (
            {"derive": {"x": "througput * 2"}},
            "derive.x: unknown quantity 'througput' (did you mean throughput?), "
            "expected a quantity of the solver continuous_batching or one that is derived",
        ),
        (
            {"derive": {"my_cost": "1"}, "where": "mycost < 2"},
            "where: unknown quantity 'mycost' (did you mean my_cost?), "
            "expected a quantity of the solver continuous_batching or one that is derived",
        ),
        (
            {"outputs": ["thruput"]},
            "outputs: unknown quantity 'thruput' (did you mean throughput?), "
            "expected a quantity of the solver continuous_batching or one that is derived",
        ),
        (
            {"outputs": ["zzz"]},
            "outputs: unknown quantity 'zzz', "
            "expected a quantity of the solver continuous_batching or one that is derived",
        ),
        (
            {"derive": {"x": "ttft + hbm_capacity"}},
            "derive.x: the units in 'ttft + hbm_capacity' do not fit: got byte, expected s",
        ),
        (
            {"values": {**POINT, "itl": "3 GB"}},
            "values.itl: '3 GB' has a unit that cannot be converted to s, expected a number in s, above 0",
        ),
        (
            {"values": {**POINT, "feasible": True}},
            "values.feasible: feasible is a flag that is computed, and cannot be given",
        ),
        (
            {"values": {"model": "opt-13b", "hardware": "h100", "precision": "fp16"}},
            "seq_len (length of a sequence: the prompt, and what its cache holds) has no value: "
            "give seq_len, as an axis or under values",
        ),
        (
            {"values": {"model": "opt-13b", "hardware": "h100", "seq_len": 9}, "outputs": ["ttft"]},
            "peak_flops (dense peak at the precision) has no value: "
            "give hardware and precision, or peak_flops itself, as an axis or under values",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        _graph(**keywords)
    assert str(refusal.value) == message


# Units.


@pytest.mark.parametrize("name", CONTINUOUS_BATCHING.equations)
def test_the_declared_unit_of_an_equation_fits_its_formula(name: str) -> None:
    node = read_equation(CONTINUOUS_BATCHING.equations[name])
    check_unit(node, CONTINUOUS_BATCHING.quantity)
    if node.quantity.kind not in COMPUTED:
        wrong = replace(node, quantity=replace(node.quantity, unit="W/byte"))
        with pytest.raises(InputError, match=f"^equation {name}: declared in W/byte, but its formula gives "):
            check_unit(wrong, CONTINUOUS_BATCHING.quantity)


# A user's own equations.


def _solve(own: ModuleType, *names: str, inputs: tuple[Quantity, ...] = (), **keywords: Any) -> Any:
    equations: list[Callable[..., float]] = [getattr(own, name) for name in names]
    solver = CONTINUOUS_BATCHING.extended(*equations, inputs=inputs)
    return sg.sweep(solver=solver, outputs=[names[-1]], **{"values": POINT, **keywords})[names[-1]]


def test_an_equation_can_be_added(own: ModuleType) -> None:
    values = {name: value for name, value in POINT.items() if name != "seq_len"}
    found = _solve(own, "draft_tokens", axes={"seq_len": [3, 1000, 1003]}, values=values)
    np.testing.assert_array_equal(found, [np.nan, 250, 250])
    assert found.attrs["long_name"] == "tokens of a draft"
    assert found.attrs["display_units"] == "token"


def test_an_equation_can_replace_one(own: ModuleType) -> None:
    usual = sg.sweep(values=POINT, outputs=["weight_bytes", "hbm_bandwidth"])
    halved = _solve(own, "itl")
    assert halved.item() == (usual.weight_bytes / usual.hbm_bandwidth / 2).item()
    assert "itl" in CONTINUOUS_BATCHING.equations
    assert CONTINUOUS_BATCHING.quantity("itl").long_name == "inter-token latency"


def test_inputs_can_be_added(own: ModuleType) -> None:
    acceptance = Quantity("acceptance", "1", "share of the draft that is accepted")
    found = _solve(own, "draft_tokens", "hopeful", inputs=(acceptance,), axes={"acceptance": [0.5, 0.8]}, values=POINT)
    np.testing.assert_allclose(found, [125, 200], rtol=1e-15)
    assert "acceptance" not in CONTINUOUS_BATCHING.inputs


def test_whole_numbers_do_not_overflow_in_a_kernel(own: ModuleType) -> None:
    assert own.large(1000.0) == pytest.approx(2**64 / 10**20, rel=1e-15)
    assert _solve(own, "large").item() == own.large(1000.0)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("chicken", "egg"), "chicken: a quantity cannot depend on itself, but egg needs chicken needs egg"),
        (
            ("misspelt",),
            "misspelt: unknown quantity 'pagesize' (did you mean page_size?), "
            "expected a quantity of the solver continuous_batching or one that is derived",
        ),
        (("wrong",), "equation wrong: declared in byte, but its formula gives s"),
        (
            ("mixed",),
            "equation mixed: the units in 'ttft + seq_len' do not fit: got token, expected s",
        ),
        (("no_unit",), "equation no_unit: 'furlong' is not a unit that servegrid knows"),
        (
            ("branching",),
            "equation branching: expected assignments and one return, got 'if seq_len > 3:\\n    return 1'",
        ),
        (("looping",), "equation looping: expected assignments and one return, got 'total += seq_len'"),
        (
            ("calling",),
            "equation calling: exp(...) is no function of expressions, which know min, max, floor, ceil, sqrt, log",
        ),
        (("texting",), "equation texting: got 'text', expected a number"),
        (
            ("two_steps",),
            "equation two_steps: 'value' is assigned twice, expected a new name for each step",
        ),
        (("empty",), "equation empty: got no return, expected assignments and one return"),
        (("outside",), "equation outside: 'NOWHERE' is neither an argument nor a number of its module"),
        (("wrong_through_helper",), "equation wrong_through_helper: declared in byte, but its formula gives s"),
        (("recursive",), "equation recursive, in endless: endless calls itself, expected a function that ends"),
        (
            ("calls_an_equation",),
            "equation calls_an_equation: large is an equation: expected large as an argument in place of a call",
        ),
        (("by_keyword",), "equation by_keyword: got slower(seq_len, rate=2), expected slower(size, rate)"),
        (("too_few",), "equation too_few: got slower(seq_len), expected slower(size, rate)"),
        (
            ("with_defaults",),
            "equation with_defaults, in one_of: got (x: float, choice: float=1), "
            "expected the names of quantities alone",
        ),
        (
            ("loop_in_helper",),
            "equation loop_in_helper, in steps_of_its_own: expected assignments and one return, "
            "got 'for _ in range(3):\\n    pass'",
        ),
    ],
)
def test_an_equation_outside_the_language_is_refused(names: tuple[str, ...], message: str, own: ModuleType) -> None:
    with pytest.raises(InputError) as refusal:
        _solve(own, *names)
    assert str(refusal.value) == message


def test_a_formula_is_written_for_people(own: ModuleType) -> None:
    assert read_equation(own.draft_tokens).formula == "_1 if _1 > 0 else nan, _1 = floor(0.25 * seq_len)"


def test_the_formula_of_an_equation_grows_with_it_and_no_faster() -> None:
    nodes = build(SOLVERS["serving"].suited(["request_rate"]), ["validity"]).nodes.values()
    assert max(len(node.formula) for node in nodes) < 5000


def test_helper_functions_are_written_out(own: ModuleType) -> None:
    node = read_equation(own.through_helpers)
    one, other = "slower(_1, hbm_bandwidth / 2)", "transfer_time(_1 + weight_bytes, hbm_bandwidth)"
    assert node.written == f"{one} + {other} - itl, _1 = 3 * weight_bytes"
    assert "transfer_time" not in node.formula
    assert "0.25" in node.formula
    names = [name for name, _ in node.steps]
    assert len(set(names)) == len(names)
    assert names[-1] == "through_helpers"


def test_units_are_checked_in_helper_functions(own: ModuleType) -> None:
    with pytest.raises(InputError, match=r"equation mixed_in_helper: the units in .* do not fit: got"):
        _solve(own, "mixed_in_helper")


def test_helper_functions_give_the_same_bits_as_when_python_calls_them(own: ModuleType) -> None:
    solver = CONTINUOUS_BATCHING.extended(own.through_helpers)
    keywords: dict[str, Any] = {"values": {**POINT, "efficiency": 0.5, "max_batch_size": 7}, "solver": solver}
    swept = sg.sweep(axes={"hbm_bandwidth": [1e12, 1.555e12, 3.35e12]}, outputs=["through_helpers"], **keywords)
    for bandwidth, found in zip(swept.hbm_bandwidth.values, swept.through_helpers.values, strict=True):
        point = sg.sweep(
            values={**keywords["values"], "hbm_bandwidth": bandwidth}, outputs=["weight_bytes", "itl"], solver=solver
        )
        inputs = (float(point.weight_bytes), float(bandwidth), float(point.itl))
        assert own.through_helpers(*inputs) == found
