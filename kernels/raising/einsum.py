"""A function that is one contraction as a formula of einsum, for libraries that compute these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernels.raising.access import Element
from kernels.raising.expressions import Expr
from kernels.raising.memory import RESULT
from kernels.raising.ops import ACCUMULATED, Operation
from kernels.raising.patterns import einsum, product
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import Poly
from kernels.raising.shapes import Shapes
from kernels.raising.sizes import Sized
from kernels.raising.tensor_operators import bounds, box_text


@dataclass(frozen=True)
class Formula:
    """`text`, e.g. `ik,kj->ij`, of the arrays `operands`; `adds`: to what the result held before."""

    text: str
    operands: tuple[str, ...]
    adds: bool


def formula_of(ops: Sequence[Operation], sized: Sized, shapes: Shapes) -> Formula | None:
    """None where the function is anything else, or the arrays are not used as wholes."""
    if len(ops) != 1 or ops[0].combine != "add" or ops[0].fixed:
        return None
    [op] = ops
    if any(node.op not in ("fmul", "read") or node.type != op.type for node in op.value.walk()):
        return None
    factors = product(op.value)
    if factors is None or len(factors) < 2 or op.target.base == RESULT:
        return None
    elements = [factor.value for factor in factors]
    domain = sized.at(op.domain)
    if domain.is_empty():
        return None
    ranges = {c: bounds(domain, op.loops.index(c)) for c in op.loops}
    if not isl.Set(box_text(op.loops, ranges)).is_subset(domain) or any(low for low, _ in ranges.values()):
        return None
    if not all(_is_whole(e, ranges, shapes) for e in (op.target, *elements)):
        return None
    zero = op.start is not None and op.start.op == "const" and op.start.value == 0
    own = Expr("read", op.type, value=op.target)
    finished = op.finish is not None and op.finish.op in ("fadd", "add")
    if finished and op.finish is not None and zero and {a.op for a in op.finish.args} == {"read", ACCUMULATED}:
        return Formula(einsum(op, elements), _bases(elements), True) if own in op.finish.args else None
    if op.finish is not None or not (zero or op.start is None):
        return None
    return Formula(einsum(op, elements), _bases(elements), op.start is None)


def _bases(elements: Sequence[Element]) -> tuple[str, ...]:
    return tuple(element.base for element in elements)


def _is_whole(element: Element, ranges: Mapping[str, tuple[int, int]], shapes: Shapes) -> bool:
    """Whether each subscript is one counter that goes through the whole dimension."""
    shape = shapes.of[element.base]
    counters = [next((c for c in ranges if p == Poly.of(c)), None) for p in element.subscripts]
    if None in counters or len(set(counters)) < len(counters):
        return False
    return all(ranges[str(c)][1] + 1 == extent for c, extent in zip(counters, shape, strict=True))
