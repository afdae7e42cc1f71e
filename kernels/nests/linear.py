"""Subscripts as linear forms of loop variables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from kernels.lowering import nodes


def coefficient(expression: Any, variable: Any) -> int | None:
    """By how much an integer expression grows when a variable grows by one; None where that is no number."""
    if isinstance(expression, tirx.Var):
        return int(expression.same_as(variable))
    if isinstance(expression, tirx.IntImm):
        return 0
    if isinstance(expression, (tirx.Add, tirx.Sub)):
        a, b = coefficient(expression.a, variable), coefficient(expression.b, variable)
        if a is None or b is None:
            return None
        return a + b if isinstance(expression, tirx.Add) else a - b
    if isinstance(expression, tirx.Mul):
        for part, factor in ((expression.a, expression.b), (expression.b, expression.a)):
            if isinstance(factor, tirx.IntImm):
                inner = coefficient(part, variable)
                return None if inner is None else inner * int(factor)
    return None if uses(expression, variable) else 0


def uses(expression: Any, variable: Any) -> bool:
    """Whether a variable occurs in an expression or a statement."""
    if isinstance(expression, tirx.Var):
        return bool(expression.same_as(variable))
    if isinstance(expression, tirx.IntImm):
        return False
    return any(found.same_as(variable) for found in nodes(expression, tirx.Var))


def stride(shape: Sequence[Any], indices: Sequence[Any], variable: Any) -> int | None:
    """How many elements further an access lies when a variable grows by one, in a dense buffer; None where that is no
    number."""
    step = 0
    for axis, index in enumerate(indices):
        grows = coefficient(index, variable)
        if grows is None:
            return None
        step += grows * math.prod(int(extent) for extent in shape[axis + 1 :])
    return step


def distinct(indices: Sequence[Any], extents: Mapping[Any, int]) -> bool:
    """Whether other values of the loop variables are always other elements: each variable steps along one axis, and by
    more than all smaller steps along it together."""
    used: set[Any] = set()
    for index in indices:
        steps = []
        for variable, extent in extents.items():
            grows = coefficient(index, variable)
            if grows is None or grows < 0 or (grows and variable in used):
                return False
            if grows:
                used.add(variable)
                steps.append((grows, extent))
        reach = 0
        for grows, extent in sorted(steps):
            if grows <= reach:
                return False
            reach += grows * (extent - 1)
    return all(variable in used or extent == 1 for variable, extent in extents.items())


def loads(expression: Any) -> list[Any]:
    """The loads in an expression or statement, in its order."""
    return nodes(expression, tvm.ir.TensorLoad)


def same_element(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two lists of subscripts are the same expressions."""
    pairs = itertools.zip_longest(a, b)
    return all(x is not None and y is not None and tvm_ffi.structural_equal(x, y) for x, y in pairs)


def substituted(tree: Any, values: Mapping[Any, Any]) -> Any:
    """A statement or expression with other values in place of variables."""
    pairs = list(values.items())

    def value_of(variable: Any) -> Any:
        return next((value for old, value in pairs if variable.same_as(old)), variable)

    return tvm_ffi.structural_map(tree, (tirx.Var, value_of))
