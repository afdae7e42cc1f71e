"""The box of iterations around an operation: where its counters begin and end, in terms of parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kernels.raising.access import Element
from kernels.raising.expressions import Condition, Expr, at_least_zero, both, either, equals_zero, rebuilt
from kernels.raising.memory import CELL
from kernels.raising.ops import Operation
from kernels.raising.polyhedra import Polyhedra, isl
from kernels.raising.polynomials import Monomial, Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.substitution import substituted_value


@dataclass(frozen=True, eq=False)
class Box:
    """`low` and `high`: by counter, the first and the last value. `domain`: what else holds of iterations; `is_whole`:
    nothing. `cover` and `is_whole_cover`: the same of what is written. `parameters`: by their names in
    sets; `ends`: the greatest values of subscripts where the box has greater ones."""

    low: Mapping[str, Poly]
    high: Mapping[str, Poly]
    domain: isl.Set
    cover: isl.Set
    is_whole: bool
    is_whole_cover: bool
    parameters: Mapping[str, Monomial]
    ends: Mapping[Poly, Poly]

    def inside(self, poly: Poly) -> list[str]:
        """The counters in a subscript. Raises Abstained where they are multiplied by a parameter."""
        found = [c for c in self.low if c in poly.symbols]
        if any(poly.coefficient(c).constant is None for c in found):
            raise Abstained(Reason.SUBSCRIPT, "a counter times a parameter")
        return found

    def factor(self, poly: Poly, counter: str) -> int:
        return poly.coefficient(counter).constant or 0

    def size(self, counter: str) -> Poly:
        return self.high[counter] - self.low[counter] + 1

    def first(self, poly: Poly) -> Poly:
        """The least value of a subscript."""
        ends = {c: self.low[c] if self.factor(poly, c) > 0 else self.high[c] for c in self.inside(poly)}
        return poly.substitute(ends)

    def last(self, poly: Poly) -> Poly:
        ends = {c: self.high[c] if self.factor(poly, c) > 0 else self.low[c] for c in self.inside(poly)}
        return poly.substitute(ends)

    def reach(self, poly: Poly) -> Poly:
        """The greatest value of a subscript in any iteration."""
        return self.ends.get(poly) or self.last(poly)

    def span(self, poly: Poly) -> Poly:
        return self.last(poly) - self.first(poly) + 1

    def local(self, poly: Poly) -> Poly:
        """A subscript counted from its least value, over counters that begin at 0."""
        total = Poly(())
        for counter in self.inside(poly):
            total = total + Poly.of(counter) * self.factor(poly, counter)
        return total


def backward_counters(ops: Sequence[Operation], polyhedra: Polyhedra) -> dict[str, Poly]:
    """Counters that run backwards through all arrays, each with the sum of its first and its last value."""
    factors: dict[str, set[int | None]] = {}
    sums: dict[str, set[Poly]] = {}
    for op in ops:
        polys = [p for e in (op.target, *op.reads) if not e.base.startswith(CELL) for p in e.subscripts]
        for counter in op.loops:
            found = {p.coefficient(counter).constant for p in polys if counter in p.symbols}
            factors.setdefault(counter, set()).update(found)
    back = {c for c, some in factors.items() if some and all(f is not None and f < 0 for f in some)}
    for op in ops:
        if back & set(op.loops):
            box = box_of(op, polyhedra)
            for counter in back & set(op.loops):
                sums.setdefault(counter, set()).add(box.low[counter] + box.high[counter])
    return {c: next(iter(some)) for c, some in sums.items() if len(some) == 1}


def forward(op: Operation, back: Mapping[str, Poly], polyhedra: Polyhedra) -> Operation:
    """The operation with these counters turned round; cells keep their subscripts, as all operations are turned."""
    values = {c: total - Poly.of(c) for c, total in back.items() if c in op.loops}
    if not values:
        return op

    def turned(domain: isl.Set, loops: Sequence[str]) -> isl.Set:
        forms = [polyhedra.text(values.get(c, Poly.of(c)), frozenset(loops)) for c in loops]
        return domain.apply(isl.Map(f"{polyhedra.header()}{{ [{', '.join(loops)}] -> [{', '.join(forms)}] }}"))

    def moved(element: Element) -> Element:
        return Element(element.base, tuple(p.substitute(values) for p in element.subscripts))

    def restored(node: Expr) -> Expr | None:
        is_cell = node.op == "read" and node.value.base.startswith(CELL)
        return replace(node, value=moved(node.value)) if is_cell else None

    def part(value: Expr) -> Expr:
        return rebuilt(substituted_value(value, values), restored)

    return replace(
        op, target=op.target if op.target.base.startswith(CELL) else moved(op.target), value=part(op.value),
        start=None if op.start is None else part(op.start), finish=None if op.finish is None else part(op.finish),
        domain=turned(op.domain, op.loops),
        start_domain=None if op.start_domain is None else turned(op.start_domain, op.kept),
    )  # fmt: skip


def box_of(op: Operation, polyhedra: Polyhedra) -> Box:
    """Raises Abstained where the ends are no polynomials of the parameters."""
    context = polyhedra.context()
    domain, cover = op.domain.intersect_params(context), op.cover.intersect_params(context)
    low: dict[str, Poly] = {}
    high: dict[str, Poly] = {}
    for counter in op.loops:
        kept = counter in op.kept
        space, place = (cover, op.kept.index(counter)) if kept else (domain, op.loops.index(counter))
        try:
            low[counter] = _poly(space.dim_min(place), polyhedra)
            high[counter] = _poly(space.dim_max(place), polyhedra)
        except Abstained:
            low[counter], high[counter] = _of_loop(counter, polyhedra)
    boxes = [
        _box_set(loops, low, high, polyhedra).intersect_params(context) for loops in (op.loops, op.kept)
    ]  # fmt: skip
    whole = [bool(box.is_subset(some)) for box, some in zip(boxes, (domain, cover), strict=True)]
    parts = [some.gist(box).coalesce() for box, some in zip(boxes, (domain, cover), strict=True)]
    ends = {} if whole[0] else _ends(op, domain, polyhedra)
    parameters = {name: monomial for monomial, name in polyhedra.names.items()}
    return Box(low, high, parts[0], parts[1], whole[0], whole[1], parameters, ends)


def _ends(op: Operation, domain: isl.Set, polyhedra: Polyhedra) -> dict[Poly, Poly]:
    """The greatest values of subscripts in the iterations, where they are polynomials."""
    found: dict[Poly, Poly] = {}
    counters = frozenset(op.loops)
    for poly in {p for e in (op.target, *op.reads) for p in e.subscripts}:
        text = f"{polyhedra.header()}{{ [{', '.join(op.loops)}] -> [{polyhedra.text(poly, counters)}] }}"
        with contextlib.suppress(Abstained):
            found[poly] = _poly(domain.apply(isl.Map(text)).dim_max(0), polyhedra)
    return found


def _of_loop(counter: str, polyhedra: Polyhedra) -> tuple[Poly, Poly]:
    """The ends of a loop without regard to guards in it. Raises Abstained where those depend on other counters."""
    if counter not in polyhedra.bounds:
        raise Abstained(Reason.SIZES, "a loop that ends at one of several places")
    whole = polyhedra.set_of((counter,), polyhedra.bounds[counter])
    return _poly(whole.dim_min(0), polyhedra), _poly(whole.dim_max(0), polyhedra)


def _box_set(loops: Sequence[str], low: Mapping[str, Poly], high: Mapping[str, Poly], polyhedra: Polyhedra) -> isl.Set:
    none: frozenset[str] = frozenset()
    parts = [f"{polyhedra.text(low[c], none)} <= {c} <= {polyhedra.text(high[c], none)}" for c in loops]
    return isl.Set(f"{polyhedra.header()}{{ [{', '.join(loops)}] : {' and '.join(parts) or '0 = 0'} }}")


def reaches_same(element: Element, op: Operation, box: Box, polyhedra: Polyhedra) -> bool:
    """Whether the subscripts have the same ends in the box as in the iterations alone."""
    counters = frozenset(op.loops)
    whole = _box_set(op.loops, box.low, box.high, polyhedra).intersect_params(polyhedra.context())
    for poly in element.subscripts:
        text = f"{polyhedra.header()}{{ [{', '.join(op.loops)}] -> [{polyhedra.text(poly, counters)}] }}"
        images = [some.apply(isl.Map(text)) for some in (whole, whole.intersect(box.domain))]
        ends = [(image.dim_min(0), image.dim_max(0)) for image in images]
        if not (ends[0][0].is_equal(ends[1][0]) and ends[0][1].is_equal(ends[1][1])):
            return False
    return True


def _poly(value: isl.PwAff, polyhedra: Polyhedra) -> Poly:
    parameters = {name: monomial for monomial, name in polyhedra.names.items()}
    pieces = value.coalesce().gist(value.domain()).get_pieces()
    if len(pieces) != 1:
        raise Abstained(Reason.SIZES, "a loop that ends at one of several places")
    aff = pieces[0][1]
    if aff.dim(isl.dim_type.div) or int(aff.get_denominator_val().to_python()) != 1:
        raise Abstained(Reason.SIZES, "a loop whose end is a quotient")
    total = Poly.of(int(aff.get_constant_val().to_python()))
    for position in range(aff.dim(isl.dim_type.param)):
        factor = int(aff.get_coefficient_val(isl.dim_type.param, position).to_python())
        if factor:
            total = total + Poly(((parameters[str(aff.get_dim_name(isl.dim_type.param, position))], factor),))
    return total


def members(domain: isl.Set, box: Box, loops: Sequence[str]) -> Condition:
    """Whether counters of the box are in a set over these loops. Raises Abstained."""
    ways = []
    for part in domain.coalesce().get_basic_sets():
        if part.dim(isl.dim_type.div):
            raise Abstained(Reason.SUBSCRIPT, "iterations that are no plain inequalities")
        literals = []
        for constraint in part.get_constraints():
            total = Poly.of(int(constraint.get_constant_val().to_python()))
            for kind, names in ((isl.dim_type.set, loops), (isl.dim_type.param, None)):
                for position in range(part.dim(kind)):
                    factor = int(constraint.get_coefficient_val(kind, position).to_python())
                    if factor and names is not None:
                        total = total + Poly.of(names[position]) * factor
                    elif factor:
                        name = str(part.get_dim_name(isl.dim_type.param, position))
                        total = total + Poly(((box.parameters[name], factor),))
            literals.append(equals_zero(total) if constraint.is_equality() else at_least_zero(total))
        ways.append(both(*literals))
    return either(*ways)
