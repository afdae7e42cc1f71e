"""Operands of products whose rows run along the sum, turned so that they run along the result.

`C[i][j] += A[i][k] * B[j][k]` has no vectors along j: the elements of B that they need lie in different rows. A copy
of B with j last costs one pass over B, and has them side by side. It is made where each element of B is used often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from kernels.raising.access import Element
from kernels.raising.expressions import Expr, rebuilt
from kernels.raising.memory import CELL
from kernels.raising.ops import Operation, projected
from kernels.raising.patterns import product
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import Poly
from kernels.raising.sizes import Sized
from kernels.raising.tensor_operators import bounds, box_text

_LEAST_USES = 16
"""Of each element: a copy reads and writes it, and its reads are far apart."""

_LEAST_ELEMENTS = 1024


def turned(ops: Sequence[Operation], sized: Sized) -> list[Operation]:
    """Operations at given sizes, with copies of such operands before the products that use them."""
    found: list[Operation] = []
    for number, op in enumerate(ops):
        copied = _copied(op, sized, f"{CELL}turned{number}")
        found += [op] if copied is None else copied
    return found


def _copied(op: Operation, sized: Sized, name: str) -> list[Operation] | None:
    """The copy and the operation that uses it; None where there is nothing to gain, or too little."""
    factors = product(op.value) if op.combine == "add" and not op.steps and op.choice is None else None
    reads = [factor.value for factor in factors or () if factor.op == "read"]
    if len(reads) != 2 or not op.target.subscripts:
        return None
    lanes = _counter(op.target.subscripts[-1])
    one, other = reads
    for operand, rest in ((one, other), (other, one)):
        if lanes is not None and _runs_along(rest, lanes) is None and _runs_along(operand, lanes) is False:
            return _with_copy(op, operand, lanes, sized, name)
    return None


def _with_copy(op: Operation, operand: Element, lanes: str, sized: Sized, name: str) -> list[Operation] | None:
    counters = [_counter(p) for p in operand.subscripts]
    if None in counters or len(set(counters)) < len(counters) or operand.base == op.target.base:
        return None
    domain = sized.at(op.domain)
    if domain.is_empty():
        return None
    ranges = {c: bounds(domain, op.loops.index(c)) for c in op.loops}
    extents = {c: high - low + 1 for c, (low, high) in ranges.items()}
    size = math.prod(extents[str(c)] for c in counters)
    uses = math.prod(extents.values()) / size
    own = tuple(c for c in op.loops if c in counters)
    gone = [c for c in op.loops if c not in counters]
    part = projected(op.domain, op.loops, gone)
    box = isl.Set(box_text(own, {c: ranges[c] for c in own}))
    if any(ranges[c][0] for c in own) or not box.is_subset(sized.at(part)):
        return None
    if size < _LEAST_ELEMENTS or uses < _LEAST_USES:
        return None
    subscripts = (*(Poly.of(str(c)) for c in counters if c != lanes), Poly.of(lanes))
    copy = Element(name, subscripts)
    kind = next(node.type for node in op.value.walk() if node.op == "read" and node.value == operand)
    value = Expr("read", kind, value=operand)
    made = Operation(copy, kind, own, (), part, "", value, None, None, (), op.lines, True, op.place)

    def change(node: Expr) -> Expr | None:
        return replace(node, value=copy) if node.op == "read" and node.value == operand else None

    return [made, replace(op, value=rebuilt(op.value, change))]


def _counter(poly: Poly) -> str | None:
    """The counter that a subscript is; None for others."""
    return next((symbol for symbol in poly.symbols if poly == Poly.of(symbol)), None)


def _runs_along(element: Element, counter: str) -> bool | None:
    """Whether a counter is the last subscript of an element; None where it is in none."""
    if not any(counter in poly.symbols for poly in element.subscripts):
        return None
    return element.subscripts[-1] == Poly.of(counter)
