"""Syntax trees of equations -> source as numba takes it, and options with which it is compiled."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import cast

# error_model="numpy": the default keeps a zero-division branch that stops vectorisation (90 against 300
# Mpoint/s). nogil: chunks run on threads. No parallel=True: it doubles the time to compile, and numba's
# workqueue layer aborts under dask's threads. No fastmath: the bits must not depend on the chunking.
# no_cfunc_wrapper: nobody calls the kernel from C.
OPTIONS = 'cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True'
# Functions that only compiled code calls: no wrappers for Python, a third of the time to compile a simulation.
INNER = 'error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True'


def write(tree: ast.expr, spelling: Mapping[str, str]) -> str:
    """The tree as source to be compiled, with names as `spelling` has them."""
    copy = ast.parse(ast.unparse(tree), mode="eval")
    return ast.unparse(ast.fix_missing_locations(_Compiled(spelling).visit(copy)))


class _Compiled(ast.NodeTransformer):
    """Python's meaning, as the compiler takes it.

    `a and b` -> `a & b`, `0 < a < b` -> `(0 < a) & (a < b)`: without branches the loop can be vectorised. `2` -> `2.0`:
    whole numbers would be 64-bit integers, where 10**20 overflows without a word.
    """

    def __init__(self, spelling: Mapping[str, str]) -> None:
        self.spelling = spelling

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.spelling.get(node.id, node.id), ast.Load())

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant(float(cast(float, node.value)))

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        operator = ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr()
        return self._join([self.visit(value) for value in node.values], operator)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        sides = [self.visit(side) for side in (node.left, *node.comparators)]
        pairs = zip(sides, node.ops, sides[1:], strict=False)
        return self._join([ast.Compare(left, [op], [right]) for left, op, right in pairs], ast.BitAnd())

    @staticmethod
    def _join(parts: Sequence[ast.expr], operator: ast.operator) -> ast.expr:
        joined = parts[0]
        for part in parts[1:]:
            joined = ast.BinOp(joined, operator, part)
        return joined
