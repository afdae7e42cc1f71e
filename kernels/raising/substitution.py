"""Values with their loop counters replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kernels.raising.access import Element
from kernels.raising.expressions import Condition, Expr, rebuilt, substituted
from kernels.raising.polynomials import Poly


def substituted_value(value: Expr, values: dict[str, Poly]) -> Expr:
    """A value with its counters replaced."""

    def change(node: Expr) -> Expr | None:
        if node.op == "read":
            element = node.value
            return replace(node, value=Element(element.base, tuple(p.substitute(values) for p in element.subscripts)))
        if node.op == "index":
            return replace(node, value=node.value.substitute(values))
        if isinstance(node.value, Condition) and any(leaf.poly is not None for leaf in node.value.leaves):
            args = tuple(substituted_value(arg, values) for arg in node.args)
            return replace(node, args=args, value=_condition(node.value, values, substituted))
        return None

    return rebuilt(value, change)


def _condition(
    condition: Condition, values: dict[str, Poly], change: Callable[[Condition, dict[str, Poly]], Condition]
) -> Condition:
    if condition.parts:
        return replace(condition, parts=tuple(_condition(part, values, change) for part in condition.parts))
    if condition.value is not None:
        return replace(condition, value=substituted_value(condition.value, values))
    return change(condition, values)
