"""Conditions on loop variables, as inequalities and as ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from kernels.nests.linear import coefficient, substituted
from kernels.nests.nest import Refused

CHOICE = "prim.if_then_else"
"""The operator that evaluates one of two values."""


def parts_of(condition: Any) -> list[Any]:
    """The conditions that all have to hold."""
    parts, found = [condition], []
    while parts:
        part = parts.pop()
        if isinstance(part, tirx.And):
            parts += [part.a, part.b]
        else:
            found.append(part)
    return found


def sides(comparison: Any) -> tuple[Any, Any]:
    """(a, b) of a comparison of integers that says a <= b. Raises Refused."""
    a, b = getattr(comparison, "a", None), getattr(comparison, "b", None)
    one = tirx.const(1, "int32")
    if isinstance(comparison, tirx.LE):
        return a, b
    if isinstance(comparison, tirx.GE):
        return b, a
    if isinstance(comparison, tirx.LT):
        return a + one, b
    if isinstance(comparison, tirx.GT):
        return b + one, a
    raise Refused("a condition that is no comparison")


def chosen(value: Any) -> tuple[Any, Any, Any] | None:
    """Condition, value where it holds, and value elsewhere; None for what is no choice."""
    if isinstance(value, tvm.ir.Call) and str(getattr(value.op, "name", "")) == CHOICE:
        return value.args[0], value.args[1], value.args[2]
    return None


@dataclass(frozen=True)
class Box:
    """`ranges`: first iteration and the one after the last, for each loop; `rest`: what else must hold."""

    ranges: tuple[tuple[int, int], ...]
    rest: tuple[Any, ...]


def box_of(condition: Any, loops: Sequence[Any]) -> Box:
    """The iterations of loops from zero where a condition holds: a range of each, as far as it is one."""
    ranges = [(0, int(loop.extent)) for loop in loops]
    rest = []
    for part in parts_of(condition):
        found = _range(part, loops)
        if found is None:
            rest.append(part)
            continue
        at, low, high = found
        first, end = ranges[at]
        ranges[at] = (min(max(first, low), end), max(min(end, high), first))
    return Box(tuple((low, max(low, high)) for low, high in ranges), tuple(rest))


_FAR = 1 << 40


def _range(part: Any, loops: Sequence[Any]) -> tuple[int, int, int] | None:
    """The one loop that a comparison speaks of, by its place, and where it holds; None for other conditions."""
    equal = isinstance(part, tirx.EQ)
    try:
        least, most = (part.a, part.b) if equal else sides(part)
    except Refused:
        return None
    difference = most - least
    steps = [coefficient(difference, loop.loop_var) for loop in loops]
    used = [at for at, step in enumerate(steps) if step != 0]
    if len(used) != 1 or steps[used[0]] not in (1, -1):
        return None
    [at] = used
    zero = tirx.const(0, str(loops[at].loop_var.ty.dtype))
    constant = tvm.sym.Analyzer().simplify(substituted(difference, {loops[at].loop_var: zero}))
    if not isinstance(constant, tirx.IntImm):
        return None
    number = int(constant)
    if steps[at] == 1:  # variable + number >= 0, or == 0
        return at, -number, -number + 1 if equal else _FAR
    return at, number if equal else -_FAR, number + 1
