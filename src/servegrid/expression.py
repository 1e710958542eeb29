"""The language of equations and of user expressions: a safe subset of Python, checked as a syntax tree.

Nothing here runs code: a text is parsed by Python's own parser, every node is checked against a short list, and
the tree is later written into the generated kernel beside the other equations.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import isclose
from typing import cast

from pint.facets.plain import PlainUnit as Unit

from servegrid.errors import InputError
from servegrid.quantity import COMPUTED, Kind
from servegrid.units import parse_unit, registry

FUNCTIONS: Mapping[str, range] = {  # name -> how many arguments it takes
    "min": range(2, 9),
    "max": range(2, 9),
    "floor": range(1, 2),
    "ceil": range(1, 2),
    "sqrt": range(1, 2),
    "log": range(1, 2),
}
CONSTANTS = ("inf", "nan")
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_UNARY = (ast.UAdd, ast.USub, ast.Not)
_LOGIC = (ast.BoolOp, ast.And, ast.Or, ast.Compare, *_COMPARISONS, ast.IfExp)
_NODES = (ast.Name, ast.Load, ast.BinOp, *_OPERATORS, ast.UnaryOp, *_UNARY, *_LOGIC)
_LANGUAGE = "names, numbers, + - * / // % **, comparisons, and/or/not, 'a if b else c' and " + ", ".join(FUNCTIONS)
_LARGEST = 1e300
_MOST_NODES = 400  # of the syntax tree; a longer expression could exhaust the stack, and nobody could read it


def parse(text: str, where: str) -> ast.expr:
    """The checked syntax tree of a user's expression; InputError (naming `where`) for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "1if x else 2" is odd, but clear
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise InputError(f"{where}: {short(text)!r} is not an expression ({reason})") from None
    check(tree, where, texts=_texts(tree))
    return tree


def short(text: str) -> str:
    """The text of an expression, short enough for a message."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unparse(tree: ast.AST) -> str:
    return short(ast.unparse(tree))


def _texts(tree: ast.expr) -> Collection[ast.AST]:
    """The texts that are compared with a name for equality, as in bottleneck == 'compute'."""
    return [text for comparison in ast.walk(tree) for _, text in _pairs(comparison)]


def _pairs(node: ast.AST) -> Iterator[tuple[ast.Name, ast.Constant]]:
    """Each name of a comparison that is alone with a text, and the text."""
    match node:
        case ast.Compare(left=ast.Name() as name, ops=[ast.Eq() | ast.NotEq()], comparators=[text]):
            pass
        case ast.Compare(left=text, ops=[ast.Eq() | ast.NotEq()], comparators=[ast.Name() as name]):
            pass
        case _:
            return
    if isinstance(text, ast.Constant) and isinstance(text.value, str) and name.id not in CONSTANTS:
        yield name, text


def coded(tree: ast.expr, labels_of: Callable[[str], Sequence[str]], where: str) -> ast.expr:
    """The tree, its texts of labels replaced by their codes; InputError for a text that is none of them."""
    if not any(isinstance(node, ast.Constant) and isinstance(node.value, str) for node in ast.walk(tree)):
        return tree  # nearly always; a copy takes longer than all the rest
    copy = deepcopy(tree)
    for comparison in ast.walk(copy):
        for name, text in _pairs(comparison):
            labels = labels_of(name.id)
            if text.value not in labels:
                known = f"one of {', '.join(labels)}" if labels else f"a number, as {name.id} has no labels"
                raise InputError(f"{where}: got {text.value!r} in {_unparse(comparison)}, expected {known}")
            text.value = labels.index(cast(str, text.value))
    return copy


def worded(tree: ast.expr, labels: Sequence[str]) -> ast.expr:
    """The tree of an equation that gives a label, for people: its results as texts in place of codes."""
    match tree:
        case ast.Constant(value=int() as code) if code < len(labels):
            return ast.Constant(labels[code])
        case ast.IfExp(test=test, body=body, orelse=orelse) if labels:
            return ast.IfExp(test, worded(body, labels), worded(orelse, labels))
    return tree


def check(tree: ast.expr, where: str, texts: Collection[ast.AST] = ()) -> None:
    """Raise InputError unless the tree stays within the language; `texts` are those that may stand in it."""
    nodes = list(ast.walk(tree))
    if len(nodes) > _MOST_NODES:
        raise InputError(f"{where}: the expression has {len(nodes)} terms, expected {_MOST_NODES} at most")
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if not all(isinstance(operator, _NODES) for operator in _operators(node)):
            raise InputError(f"{where}: {_unparse(node)!r} is not part of the expression language ({_LANGUAGE})")
        if node not in texts:
            _check_node(node, where)
        if isinstance(node, ast.Name) and node.id in FUNCTIONS and id(node) not in called:
            raise InputError(f"{where}: {node.id} is a function, expected {node.id}(...)")


def _operators(node: ast.AST) -> list[ast.AST]:
    """The operators of a node, which have no text of their own."""
    if isinstance(node, ast.Compare):
        return [*node.ops]
    return [node.op] if isinstance(node, ast.BinOp | ast.UnaryOp | ast.BoolOp) else []


def _check_node(node: ast.AST, where: str) -> None:
    if isinstance(node, ast.Constant):
        if type(node.value) not in (int, float):
            raise InputError(f"{where}: got {node.value!r}, expected a number")
        if not abs(cast(float, node.value)) < _LARGEST:
            raise InputError(f"{where}: got a number of {_LARGEST:g} or more, expected a smaller one")
    elif isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else f"({_unparse(node.func)})"
        if name not in FUNCTIONS:
            raise InputError(f"{where}: {name}(...) is no function of expressions, which know {', '.join(FUNCTIONS)}")
        if node.keywords:
            raise InputError(f"{where}: got {_unparse(node.keywords[0])!r} in {_unparse(node)}, expected values alone")
        if len(node.args) not in FUNCTIONS[name]:
            expected = "one argument" if len(FUNCTIONS[name]) == 1 else "2 to 8 arguments"
            raise InputError(f"{where}: got {len(node.args)} in {_unparse(node)}, expected {expected}")
    elif not isinstance(
        node,
        _NODES,
    ):
        got = _unparse(node) if isinstance(node, ast.expr) else type(node).__name__
        raise InputError(f"{where}: {got!r} is not part of the expression language ({_LANGUAGE})")


def names(tree: ast.expr) -> tuple[str, ...]:
    """The quantities that the expression needs, in the order of their first use."""
    found = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return tuple(dict.fromkeys(name for name in found if name not in FUNCTIONS and name not in CONSTANTS))


def kind_of(tree: ast.expr, kind_of_name: Callable[[str], Kind], where: str) -> Kind:
    """Whether the expression gives a number, a flag or a label; InputError where the two are mixed."""
    return _Kinds(kind_of_name, where).of(tree)


@dataclass(frozen=True)
class _Kinds:
    of_name: Callable[[str], Kind]
    where: str

    def of(self, node: ast.expr) -> Kind:
        match node:
            case ast.Constant():
                return "float"
            case ast.Name(id=name):
                return "float" if name in CONSTANTS else self.of_name(name)
            case ast.BoolOp(values=parts):
                return self.require_flags(node, *parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.require_flags(node, operand)
            case ast.Compare(left=left, comparators=rest):
                labels = [part for part in (left, *rest) if isinstance(part, ast.Name) and self.of(part) == "label"]
                self.require_numbers(node, *(part for part in (left, *rest) if part not in labels))
                return "bool"
            case ast.BinOp(left=left, right=right):
                return self.require_numbers(node, left, right)
            case ast.UnaryOp(operand=operand):
                return self.require_numbers(node, operand)
            case ast.Call(args=arguments):
                return self.require_numbers(node, *arguments)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self.require_flags(node, test)
                return self.require_numbers(node, body, orelse)
        raise AssertionError(ast.dump(node))

    def require_flags(self, node: ast.expr, *parts: ast.expr) -> Kind:
        for part in parts:
            if self.of(part) != "bool":
                raise self.misfit(part, node, "a comparison or a flag")
        return "bool"

    def require_numbers(self, node: ast.expr, *parts: ast.expr) -> Kind:
        for part in parts:
            if self.of(part) in COMPUTED:
                raise self.misfit(part, node, "a number")
        return "float"

    def misfit(self, part: ast.expr, node: ast.expr, expected: str) -> InputError:
        return InputError(f"{self.where}: got {_unparse(part)!r} in {_unparse(node)!r}, expected {expected}")


@dataclass(frozen=True)
class _Units:
    """Infers the unit of a tree. None stands for a bare number, which takes the unit that it meets."""

    of: Callable[[str], str]
    where: str

    def infer(self, node: ast.expr) -> Unit | None:
        match node:
            case ast.Constant():
                return None
            case ast.Name(id=name):
                bare = name in CONSTANTS or not self.of(name)
                return None if bare else parse_unit(self.of(name))
            case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mod(), left=left, right=right):
                return self.same(node, left, right)
            case ast.BinOp(op=ast.Mult(), left=left, right=right):
                return self.product(self.infer(left), self.infer(right), +1)
            case ast.BinOp(op=ast.Div() | ast.FloorDiv(), left=left, right=right):
                return self.product(self.infer(left), self.infer(right), -1)
            case ast.BinOp(op=ast.Pow(), left=left, right=right):
                return self.power(node, self.infer(left), right)
            case ast.UnaryOp(operand=operand):
                return self.infer(operand)
            case ast.Compare(left=left, comparators=rest):
                self.same(node, left, *rest)
                return None
            case ast.BoolOp(values=parts):
                for part in parts:
                    self.infer(part)
                return None
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self.infer(test)
                return self.same(node, body, orelse)
            case ast.Call(func=ast.Name(id="min" | "max"), args=arguments):
                return self.same(node, *arguments)
            case ast.Call(func=ast.Name(id="floor" | "ceil"), args=[argument]):
                return self.infer(argument)
            case ast.Call(func=ast.Name(id="sqrt"), args=[argument]):
                return self.power(node, self.infer(argument), ast.Constant(0.5))
            case ast.Call(args=[argument]):
                unit = self.infer(argument)
                if unit is not None and not unit.dimensionless:
                    raise self.mismatch(node, unit, "a number without dimension")
                return None
        raise AssertionError(ast.dump(node))

    def same(self, node: ast.expr, *parts: ast.expr) -> Unit | None:
        units = [unit for unit in map(self.infer, parts) if unit is not None]
        for unit in units[1:]:
            if unit.dimensionality != units[0].dimensionality or not _same_scale(unit, units[0]):
                raise self.mismatch(node, unit, f"{units[0]:~}" or "a number without dimension")
        return units[0] if units else None

    def product(self, left: Unit | None, right: Unit | None, sign: int) -> Unit | None:
        if left is None and right is None:
            return None
        none = registry().dimensionless
        return cast(Unit, (left or none) * (right or none) ** sign)

    def power(self, node: ast.expr, base: Unit | None, exponent: ast.expr) -> Unit | None:
        if base is None or base.dimensionless:
            return base
        match exponent:
            case ast.Constant(value=float() | int() as number):
                return base**number
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=float() | int() as number)):
                return base**-number
        raise self.mismatch(node, base, "a number without dimension, or a plain number as exponent")

    def mismatch(self, node: ast.expr, got: Unit, expected: str) -> InputError:
        return InputError(f"{self.where}: the units in {_unparse(node)!r} do not fit: got {got:~}, expected {expected}")


def _same_scale(one: Unit, other: Unit) -> bool:
    """Whether a number in one unit is the same number in the other: hours and seconds must not be added."""
    return isclose(float(registry().Quantity(1.0, one).m_as(other)), 1.0)


def infer_unit(tree: ast.expr, unit_of: Callable[[str], str], where: str) -> Unit | None:
    """The unit that the tree gives, from those of its names; None for a bare number or a flag.

    InputError where quantities of different dimensions are added or compared.
    """
    return _Units(unit_of, where).infer(tree)
