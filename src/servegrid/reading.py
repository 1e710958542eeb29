"""A function's source -> a node: its steps as syntax trees, with the helper functions that it calls written out."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType
from typing import cast

from servegrid import expression
from servegrid.errors import InputError
from servegrid.node import Node, Rename, copy
from servegrid.quantity import quantity_of
from servegrid.variant import Variant


@cache
def read_equation(function: Callable[..., float]) -> Node:
    """An equation's Node, read from its source; InputError where it leaves the language of equations.

    It may call plain functions of its module, which are as an equation is (assignments and one return), with
    positional arguments. Each call becomes steps of its own, so a quantity is computed by the same operations in the
    same order as when Python calls the function.
    """
    if isinstance(function, Variant):
        return _renamed(read_equation(function.base), function)
    declared = quantity_of(function)
    reader = _Reader(declared.name)
    arguments = _arguments(_source(function, reader.where), reader.where)
    reader.function(function, declared.name, {name: ast.Name(name, ast.Load()) for name in arguments}, ())
    return Node(declared, arguments, tuple(reader.steps), reader.calls)


def _renamed(node: Node, variant: Variant) -> Node:
    """The node of the base under the names of the variant."""
    names = dict(variant.renamed)
    steps = {step: variant.declared.name + step.removeprefix(node.quantity.name) for step, _ in node.steps}
    rename = Rename({old: ast.Name(new, ast.Load()) for old, new in {**names, **steps}.items()})
    return Node(
        variant.declared,
        tuple(names.get(need, need) for need in node.needs),
        tuple((steps[step], rename.visit(copy(tree))) for step, tree in node.steps),
        {steps[step]: rename.visit(copy(call)) for step, call in node.calls.items()},
    )


@dataclass
class _Reader:
    """Collects the steps of one equation, those of the functions that it calls included."""

    name: str
    steps: list[tuple[str, ast.expr]] = field(default_factory=list)
    calls: dict[str, ast.expr] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"equation {self.name}"

    def function(
        self,
        function: Callable[..., float],
        result: str,
        known: Mapping[str, ast.expr],
        within: tuple[Callable[..., float], ...],
    ) -> None:
        """Add the steps of a function whose arguments are `known`; the last one is named `result`."""
        where = self.place(within, function)
        tree = _source(function, where)
        body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
        if not body:
            raise InputError(f"{where}: got no return, expected assignments and one return")
        known = dict(known)
        for statement in body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if statement is not body[-1]:
                    name = f"{result}__{target}"
                case ast.Return(value=ast.expr() as value) if statement is body[-1]:
                    target, name = "", result
                case _:
                    raise InputError(f"{where}: expected assignments and one return, got {ast.unparse(statement)!r}")
            if target in known or (target == self.name and not within):
                raise InputError(f"{where}: {target!r} is assigned twice, expected a new name for each step")
            inlined = _Calls(self, function, known, within, name).visit(copy(value))
            expression.check(inlined, where)
            self.steps.append((name, self.resolve(inlined, known, function, where)))
            known[target] = ast.Name(name, ast.Load())

    def resolve(
        self, tree: ast.expr, known: Mapping[str, ast.expr], function: Callable[..., float], where: str
    ) -> ast.expr:
        """The tree with names as the equation knows them, and the module's constants written out."""
        replacements = dict(known)
        for name in expression.names(tree):
            constant = _globals(function).get(name)
            if name in known or name in self.calls:
                continue
            if type(constant) not in (int, float):
                raise InputError(f"{where}: {name!r} is neither an argument nor a number of its module")
            replacements[name] = ast.Constant(cast(float, constant))
        return cast(ast.expr, Rename(replacements).visit(copy(tree)))

    def place(self, within: tuple[Callable[..., float], ...], function: Callable[..., float]) -> str:
        """The equation, and the helper function that is being read, for messages."""
        return f"{self.where}, in {function.__name__}" if within else self.where


@dataclass
class _Calls(ast.NodeTransformer):
    """Replaces calls of plain functions by the names of their results, the innermost first."""

    reader: _Reader
    function: Callable[..., float]
    known: Mapping[str, ast.expr]
    within: tuple[Callable[..., float], ...]
    step: str

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        helper = _globals(self.function).get(name)
        if name in self.known or name in expression.FUNCTIONS or not isinstance(helper, FunctionType):
            return node  # the language's own functions; what is none is refused there
        where = self.reader.place(self.within, self.function)
        if helper in (*self.within, self.function):
            raise InputError(f"{where}: {name} calls itself, expected a function that ends")
        if hasattr(helper, "__quantity__"):
            raise InputError(f"{where}: {name} is an equation: expected {name} as an argument in place of a call")
        parameters = _arguments(_source(helper, where), f"{where}, in {name}")
        if node.keywords or len(node.args) != len(parameters):
            raise InputError(f"{where}: got {ast.unparse(node)}, expected {name}({', '.join(parameters)})")
        result = f"{self.step}__{name}{len(self.reader.calls) or ''}"
        given = {
            parameter: self.argument(value, f"{result}__{parameter}", where)
            for parameter, value in zip(parameters, node.args, strict=True)
        }
        self.reader.calls[result] = ast.Call(ast.Name(name, ast.Load()), list(given.values()), [])
        self.reader.function(helper, result, given, (*self.within, self.function))
        return ast.Name(result, ast.Load())

    def argument(self, value: ast.expr, name: str, where: str) -> ast.expr:
        """What stands for a parameter: a name or a number itself, a longer expression as a step of its own."""
        expression.check(value, where)
        tree = self.reader.resolve(value, self.known, self.function, where)
        if isinstance(tree, ast.Name | ast.Constant):
            return tree
        self.reader.steps.append((name, tree))
        return ast.Name(name, ast.Load())


def _arguments(tree: ast.FunctionDef, where: str) -> tuple[str, ...]:
    signature = tree.args
    if signature.vararg or signature.kwarg or signature.kwonlyargs or signature.defaults:
        raise InputError(f"{where}: got ({ast.unparse(signature)}), expected the names of quantities alone")
    return tuple(argument.arg for argument in signature.args)


def _source(function: Callable[..., float], where: str) -> ast.FunctionDef:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, SyntaxError):
        raise InputError(f"{where}: its source cannot be found, expected a function defined in a file") from None
    if not isinstance(tree, ast.FunctionDef):
        raise InputError(f"{where}: got {ast.unparse(tree)!r}, expected a function defined with def")
    return tree


def _globals(function: Callable[..., float]) -> Mapping[str, object]:
    return cast(FunctionType, inspect.unwrap(function)).__globals__
