"""Affine expressions as instructions."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineMap,
    AffineSet,
    AffineSymExpr,
)

from kernels.raising.mlir.code import Code, Words
from kernels.raising.reasons import Abstained, Reason


def applied(code: Code, expr: AffineExpr, dims: Sequence[Words], symbols: Sequence[Words] = ()) -> Words:
    """The value of an expression. Raises Abstained."""
    if isinstance(expr, AffineConstantExpr):
        return str(expr.value)
    if isinstance(expr, AffineDimExpr):
        return dims[expr.position]
    if isinstance(expr, AffineSymExpr):
        return symbols[expr.position]
    assert isinstance(expr, AffineBinaryOpExpr)
    a, b = (applied(code, side, dims, symbols) for side in (expr.lhs, expr.rhs))
    if expr.kind is AffineBinaryOpKind.Add:
        return code.add(a, b)
    if expr.kind is AffineBinaryOpKind.Mul:
        return code.multiply(a, b)
    if not b.isdigit() or b == "0":
        raise Abstained(Reason.SUBSCRIPT, "a division by what is no positive number")
    if expr.kind is AffineBinaryOpKind.CeilDiv:
        return code.multiply(_floor(code, code.multiply(a, "-1"), b), "-1")
    if expr.kind is AffineBinaryOpKind.FloorDiv:
        return _floor(code, a, b)
    return code.add(a, code.multiply(_floor(code, a, b), f"-{b}"))


def _floor(code: Code, a: Words, b: Words) -> Words:
    """a / b, rounded down, for b > 0."""
    if a.lstrip("-").isdigit():
        return str(int(a) // int(b))
    quotient, rest = code.value(f"sdiv i64 {a}, {b}"), code.value(f"srem i64 {a}, {b}")
    negative = code.value(f"icmp slt i64 {rest}, 0")
    return code.value(f"select i1 {negative}, i64 {code.add(quotient, '-1')}, i64 {quotient}")


def results(code: Code, map_: AffineMap, operands: Sequence[Words]) -> list[Words]:
    """All results of a map of its dimensions, then its symbols."""
    dims, symbols = operands[: map_.num_dims], operands[map_.num_dims :]
    return [applied(code, expr, dims, symbols) for expr in map_.results]


def holds(code: Code, set_: AffineSet, operands: Sequence[Words]) -> Words:
    """Whether a point is in a set."""
    dims, symbols = operands[: set_.num_dims], operands[set_.num_dims :]
    found: Words = "true"
    for constraint in set_.constraints:
        a, b = (applied(code, side, dims, symbols) for side in (constraint.lhs, constraint.rhs))
        predicate = {"ge": "sge", "le": "sle", "eq": "eq"}[constraint.kind.name]
        one = code.value(f"icmp {predicate} i64 {a}, {b}")
        found = one if found == "true" else code.value(f"and i1 {found}, {one}")
    return found
