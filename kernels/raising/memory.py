"""Reads and writes of memory in the order in which they happen.

A register that a loop carries on (a sum) is written as memory of its own, a *cell*, one element for each iteration of
the loops around. So a sum in a register and a sum in memory are the same thing from here on.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.raising.expressions import Access, Condition, Expr, both, conjuncts, without_data
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.scalars import SCALARS

CELL = "cell:"
"""The first signs of the array of a register that a loop carries on."""

RESULT = "result:"
"""The array, of one element, of what the function returns."""


@dataclass(frozen=True, eq=False)
class Statement:
    """`target` gets `value`, whose loads happen earlier than the store (see `order.Order`). `place`: its number.

    `filled`: the bytes from there on that are set to zero, where that is what it does; the type is not known then.
    `conditional`: data decide whether it happens; the value is then a choice of the new one and the old.
    """

    target: Access
    value: Expr
    place: int
    filled: Poly | None = None
    conditional: bool = False


@dataclass(frozen=True)
class Point:
    """Where a function is in its run: `time` as an access has it, and the condition under which it gets there."""

    time: tuple[int | str, ...]
    when: Condition


class Memory:
    """`statements`: the stores of the nest that is read, or those outside of nests. `clock` counts what happens."""

    def __init__(self) -> None:
        self.clock = 0
        self.statements: list[Statement] = []

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def next(self, point: Point) -> Point:
        """The next place in the sequence that begins at a point."""
        return Point((*point.time, self.tick()), point.when)

    def store(self, base: str, offset: Poly, value: Expr, kind: str, point: Point, line: int | None) -> None:
        """Where data decide, the element is given its own value otherwise."""
        _check_type(kind, line)
        affine = both(*[part for part in conjuncts(point.when) if part.is_affine])
        conditional = not point.when.is_affine
        if conditional:
            kept = load(base, offset, kind, Point(point.time, affine), line)
            chosen = both(*[part for part in conjuncts(point.when) if not part.is_affine])
            value = Expr("select", kind, (value, kept), chosen, size=value.size + 2)
        target = Access(base, offset, kind, point.time, affine if conditional else point.when, line)
        self.statements.append(Statement(target, value, self.clock, None, conditional))

    def clear(self, base: str, offset: Poly, length: Poly, point: Point, line: int | None) -> None:
        """Set bytes to zero."""
        target = Access(base, offset, "", point.time, point.when, line)
        self.statements.append(Statement(target, Expr("const", "", value=0), self.clock, length))


def load(base: str, offset: Poly, kind: str, point: Point, line: int | None) -> Expr:
    _check_type(kind, line)
    return Expr("load", kind, value=Access(base, offset, kind, point.time, without_data(point.when), line))


def _check_type(kind: str, line: int | None) -> None:
    if kind not in SCALARS:
        raise Abstained(Reason.TYPE, f"elements of the type {kind[:40]}", line)
