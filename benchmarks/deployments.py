"""How fast the solver `serving` is: a dense sweep of deployments, and the same equations in numpy, in one run.

`python -m benchmarks.deployments`. Numpy evaluates every equation as it is written, each quantity broadcast along its
own axes; the results have to agree before anything is timed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from math import inf, nan, prod
from typing import Any

import click
import numpy as np

from benchmarks.measure import best_seconds
from benchmarks.rows import markdown, open_console, setting
from servegrid.api import load
from servegrid.evaluate import Evaluator, prepare
from servegrid.parameters import gather

AXES: dict[str, Any] = {
    "model": ["llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "gpt-oss-120b", "qwen3-235b-a22b", "deepseek-r1"],
    "hardware": ["h100-sxm", "h200", "b200", "mi300x"],
    "precision": ["bf16", "fp8", "nvfp4"],
    "engine": ["vllm", "tensorrt-llm", "sglang"],
    "tensor_parallel": [1, 2, 4, 8],
    "input_len": [256 * count for count in range(1, 17)],
    "output_len": [128, 512, 2048, 4096],
    "concurrency": [8 * count for count in range(1, 65)],
}
TINY: dict[str, Any] = {name: labels[:2] for name, labels in AXES.items()}
NUMPY = "numpy, each equation as written"
RIVAL = "AIConfigurator, one call per point"
PREDICTIONS = 300  # of one deployment, which AIConfigurator works out anew each time
TOLERANCE = 1e-9  # numpy sums and multiplies in the same order; its powers may differ in the last bits


def prepared(axes: Mapping[str, Any]) -> Evaluator:
    """The sweep of all default outputs of the solver."""
    return prepare(gather(load(solver="serving", axes=dict(axes))))


def in_numpy(evaluator: Evaluator) -> Callable[[], dict[str, np.ndarray]]:
    """The same graph, equation by equation, on arrays that broadcast."""
    graph, axes, order = evaluator.program.graph, evaluator.program.axes, list(evaluator.sizes)

    def opened(name: str) -> np.ndarray:
        shape = [evaluator.sizes[axis] if axis in axes[name] else 1 for axis in order]
        return evaluator.inputs[name].reshape(shape)

    steps = [(target, _code(tree)) for node in graph.nodes.values() for target, tree in node.steps]
    names = {"np": np, "inf": inf, "nan": nan}

    def run() -> dict[str, np.ndarray]:
        found = {name: opened(name) for name in graph.inputs}
        with np.errstate(all="ignore"):
            for target, code in steps:
                found[target] = eval(code, names, found)
        return {name: found[name] for name in graph.outputs}

    return run


def _code(tree: ast.expr) -> Any:
    copy = ast.parse(ast.unparse(tree), mode="eval")
    return compile(ast.fix_missing_locations(_Numpy().visit(copy)), "<equation>", "eval")


class _Numpy(ast.NodeTransformer):
    """Python's scalar language as numpy's: minimum, where, &."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        ufunc = ast.Attribute(
            ast.Name("np", ast.Load()), {"min": "minimum", "max": "maximum"}.get(name, name), ast.Load()
        )
        result: ast.expr = node.args[0]
        for argument in node.args[1:]:
            result = ast.Call(ufunc, [result, argument], [])
        return result if len(node.args) > 1 else ast.Call(ufunc, node.args, [])

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        where = ast.Attribute(ast.Name("np", ast.Load()), "where", ast.Load())
        return ast.Call(where, [node.test, node.body, node.orelse], [])

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        joined = node.values[0]
        for value in node.values[1:]:
            joined = ast.BinOp(joined, ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr(), value)
        return joined

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        return ast.UnaryOp(ast.Invert(), node.operand) if isinstance(node.op, ast.Not) else node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        sides = [node.left, *node.comparators]
        pairs = [ast.Compare(a, [op], [b]) for a, op, b in zip(sides, node.ops, sides[1:], strict=False)]
        joined: ast.expr = pairs[0]
        for pair in pairs[1:]:
            joined = ast.BinOp(joined, ast.BitAnd(), pair)
        return joined


def _predictions() -> Callable[[], None]:
    predict = import_module("benchmarks.with_aiconfigurator").predictor()

    def run() -> None:
        for _ in range(PREDICTIONS):
            predict()

    return run


def check(evaluator: Evaluator, found: Mapping[str, np.ndarray]) -> None:
    """Raise AssertionError unless numpy finds what servegrid does."""
    for name, values in evaluator.grid().items():
        expected = np.broadcast_to(found[name], list(evaluator.sizes.values()))
        index = tuple(slice(None) if axis in evaluator.program.axes[name] else 0 for axis in evaluator.sizes)
        np.testing.assert_allclose(values, expected[index], rtol=TOLERANCE, err_msg=name)


@click.command()
@click.option("--tiny", is_flag=True, help="A grid of hundreds of points in place of millions.")
@click.option("--rounds", default=3, show_default=True, help="Times that each runs; the best counts.")
def main(tiny: bool, rounds: int) -> None:
    """Compute the same deployments by servegrid and by numpy."""
    evaluator = prepared(TINY if tiny else AXES)
    numpy = in_numpy(evaluator)
    check(evaluator, numpy())
    points = prod(evaluator.sizes.values())
    arrays = evaluator.grid()
    runs: dict[str, Callable[[], object]] = {
        NUMPY: numpy,
        "servegrid, warm, 1 thread": lambda: evaluator.grid(1, arrays),
        "servegrid, warm, 2 threads": lambda: evaluator.grid(2, arrays),
        "servegrid, in cache, 1 thread": lambda: evaluator.stream(lambda outputs: None, 1),
        "servegrid, in cache, 2 threads": lambda: evaluator.stream(lambda outputs: None, 2),
    }
    seconds = best_seconds(runs, rounds)
    rates = {name: points / taken for name, taken in seconds.items()}
    if find_spec("aiconfigurator") is not None:
        rates[RIVAL] = PREDICTIONS / best_seconds({RIVAL: _predictions()}, rounds)[RIVAL]
    shown = markdown("", "Mpoint/s", "times numpy")
    for name, rate in rates.items():
        shown.add_row(name, f"{rate / 1e6:,.4g}", f"{rate / rates[NUMPY]:,.3g}")
    console = open_console()
    console.print(f"{points:,} points, {len(evaluator.program.graph.outputs)} outputs, load {setting(())['load']:.1f}")
    console.print(shown)


if __name__ == "__main__":
    main()
