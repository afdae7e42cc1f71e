"""Operations as tensor expressions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import te, tirx

from kernels.raising.expressions import Condition, Expr
from kernels.raising.ops import ACCUMULATED, Chosen, Operation
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.scalars import DTYPES
from kernels.raising.shapes import Shapes
from kernels.raising.sizes import Sized
from kernels.raising.tensor_operators import (
    CASTS,
    COMBINED,
    NEUTRAL,
    OPERATORS,
    REDUCERS,
    better_than,
    bounds,
    box_text,
    called,
    compared,
    extreme_of,
    least_of,
    membership,
    neutral_of,
)

_Ranges = dict[str, tuple[int, int]]
_Guards = Callable[[Sequence[Any], Mapping[str, Any]], list[Any]]


class Body:
    """An operation over tensors by the names of arrays and scalars: those it reads, and the target's old version where
    that is not wholly replaced."""

    def __init__(self, op: Operation, tensors: Mapping[str, te.Tensor], sized: Sized, shapes: Shapes) -> None:
        self._op, self._tensors, self._sized = op, tensors, sized
        self._shape = shapes.of[op.target.base]
        self._whole = shapes.is_whole(op)

    def output(self) -> te.Tensor:
        """The target's next version. Raises Abstained where it is of no form that is raised."""
        if self._op.choice is not None:
            return self._chosen(self._op.choice)
        if not self._op.combine:
            return self._written(lambda at, env: self.value(self._op.value, env))
        partial = self._reduced()
        if partial is None:
            raise Abstained(Reason.SIZES, "a reduction over nothing")
        if self._is_plain():
            return partial
        return self._written(lambda at, env: self._finished(partial(*at), at, env))

    def _written(self, value: Callable[[Sequence[Any], Mapping[str, Any]], Any]) -> te.Tensor:
        """A value where the operation writes, by the place and the counters there; the old version elsewhere."""

        def element(*at: Any) -> Any:
            new = value(at, self._counters(at))
            old = None if self._whole else self._tensors[self._op.target.base](*at)
            return new if old is None else tirx.if_then_else(self._inside(at), new, old)

        return te.compute(self._shape, element, "written")

    def _is_plain(self) -> bool:
        """Whether the reduction itself is the result."""
        return self._whole and self._starts_neutral() and self._op.finish is None

    def _starts_neutral(self) -> bool:
        start = self._op.start
        return start is not None and start.op == "const" and start.value == NEUTRAL.get(self._op.combine)

    def _finished(self, reduced: Any, at: Sequence[Any], env: Mapping[str, Any]) -> Any:
        op = self._op
        start = self._tensors[op.target.base](*at) if op.start is None else self.value(op.start, env)
        total = reduced if self._starts_neutral() else COMBINED[op.combine](start, reduced)
        return total if op.finish is None else self.value(op.finish, env, total)

    def _box(self) -> tuple[_Ranges, dict[str, Any], _Guards] | None:
        """The ranges of all counters, an axis for each reduced one, and which iterations in these there are, by the
        place and the counters. None where there are none at these sizes."""
        op = self._op
        domain = self._sized.at(op.domain)
        if domain.is_empty():
            return None
        ranges = {c: bounds(domain, op.loops.index(c)) for c in op.loops}
        axes = {c: te.reduce_axis((0, ranges[c][1] - ranges[c][0] + 1), c) for c in op.reduced}
        box = isl.Set(box_text(op.loops, ranges))
        exact = box.is_subset(domain)

        def guards(at: Sequence[Any], env: Mapping[str, Any]) -> list[Any]:
            found = [] if exact else [membership(domain.gist(box), op.loops, env)]
            return found if self._whole else [*found, self._inside(at)]

        return ranges, axes, guards

    def _reduced(self) -> te.Tensor | None:
        """The reduction from its neutral element; None where it has no terms at these sizes."""
        op = self._op
        box = self._box()
        if box is None:
            return None
        ranges, axes, guards = box

        def term(*at: Any) -> Any:
            env = self._counters(at) | {c: axes[c] + ranges[c][0] for c in op.reduced}
            value = self.value(op.value, env)
            inside = guards(at, env)
            if inside:
                value = tirx.if_then_else(tirx.all(*inside), value, neutral_of(op.combine, DTYPES[op.type]))
            return REDUCERS[op.combine](value, list(axes.values()))

        return te.compute(self._shape, term, "reduced")

    # --- argmax and argmin

    def _chosen(self, choice: Chosen) -> te.Tensor:
        """What is noted of the greatest or least term, or itself; what it begins with where no term is better."""
        op = self._op
        reduced = self._extremes(choice)
        if reduced is None:
            raise Abstained(Reason.SIZES, "a reduction over nothing")
        places, values = reduced
        better = better_than(op.combine, choice.first)

        def result(at: Sequence[Any], env: Mapping[str, Any]) -> Any:
            place, value = places(*at), values(*at)
            start = self._tensors[op.target.base](*at) if op.start is None else self.value(op.start, env)
            best = start if choice.best is None else self.value(choice.best, env)
            found = value if choice.place is None else self.value(choice.place, {**env, **self._at(choice, place)})
            chosen = tirx.Select(tirx.all(place >= 0, better(value, best)), found, start)
            return chosen if op.finish is None else self.value(op.finish, env, chosen)

        return self._written(result)

    def _extremes(self, choice: Chosen) -> tuple[te.Tensor, te.Tensor] | None:
        """The place (-1 for none) and the value of the best term."""
        box = self._box()
        if box is None:
            return None
        ranges, axes, guards = box
        extents = [ranges[c][1] - ranges[c][0] + 1 for c in choice.order]
        if math.prod(extents) >= 1 << 31:
            raise Abstained(Reason.SIZES, "a choice among more than 2^31 elements")
        none = (tirx.const(-1, "int32"), least_of(self._op.combine, DTYPES[self._op.value.type]))

        def term(*at: Any) -> Any:
            env = self._counters(at) | {c: axes[c] + ranges[c][0] for c in self._op.reduced}
            place: Any = tirx.const(0, "int32")
            for c, extent in zip(choice.order, extents, strict=True):
                place = place * extent + axes[c]
            value = self.value(self._op.value, env)
            inside = guards(at, env)
            if inside:
                place, value = (
                    tirx.if_then_else(tirx.all(*inside), a, b) for a, b in zip((place, value), none, strict=True)
                )
            return extreme_of(self._op.combine, choice.first)((place, value), list(axes.values()))

        places, values = te.compute(self._shape, term, "extreme")
        return places, values

    def _at(self, choice: Chosen, place: Any) -> dict[str, Any]:
        """The reduced counters at a place."""
        domain = self._sized.at(self._op.domain)
        found = {}
        for c in reversed(choice.order):
            low, high = bounds(domain, self._op.loops.index(c))
            found[c] = tirx.floormod(place, high - low + 1) + low
            place = tirx.floordiv(place, high - low + 1)
        return found

    # --- where it writes

    def _counters(self, at: Sequence[Any]) -> dict[str, Any]:
        """The parallel counters in terms of the target's subscripts. Raises Abstained where they do not follow."""
        env: dict[str, Any] = {}
        for index, poly in zip(at, self._op.target.subscripts, strict=False):
            value = poly.substitute(self._sized.values)
            symbols = [c for c in self._op.kept if c in value.symbols]
            if not symbols:
                continue
            factor = value.coefficient(symbols[0]).constant if len(symbols) == 1 else None
            if factor not in (1, -1) or symbols[0] in env:
                raise Abstained(Reason.SUBSCRIPT, "a result whose subscripts are no plain counters")
            rest = value.without(symbols).constant or 0
            env[symbols[0]] = index - rest if factor == 1 else rest - index
        if any(c not in env for c in self._op.kept):
            raise Abstained(Reason.SUBSCRIPT, "a result that does not have all its counters")
        return env

    def _inside(self, at: Sequence[Any]) -> Any:
        """Whether the element at this place is written."""
        cover = self._sized.at(self._op.cover)
        parts = [membership(cover, self._op.kept, self._counters(at))] if self._op.kept else []
        for index, poly in zip(at, self._op.target.subscripts, strict=False):
            constant = poly.substitute(self._sized.values).constant
            if constant is not None:
                parts.append(index == constant)
        return tirx.all(*parts)

    # --- values

    def value(self, expr: Expr, env: Mapping[str, Any], reduced: Any = None) -> Any:
        """A value by the counters; `reduced` stands for what a reduction leaves. Raises Abstained."""
        kind = DTYPES.get(expr.type, "bool")
        if expr.op == ACCUMULATED:
            return reduced
        if expr.op == "const":
            return tirx.const(expr.value, kind)
        if expr.op == "param":
            return self._tensors[expr.value][0]
        if expr.op == "index":
            return self.index(expr.value, env).astype(kind)
        if expr.op == "read":
            at = [self.index(p, env) for p in expr.value.subscripts] or [0]
            return self._tensors[expr.value.base](*at)
        if expr.op == "select":
            a, b = (self.value(arg, env, reduced) for arg in expr.args)
            return tirx.if_then_else(self._condition(expr.value, env, reduced), a, b)
        args = [self.value(arg, env, reduced) for arg in expr.args]
        if expr.op == "call":
            return called(expr.value, args)
        if expr.op in CASTS or (expr.op in ("zext", "uitofp") and "nneg" in expr.flags):
            return args[0].astype(kind)
        if expr.op in OPERATORS:
            return OPERATORS[expr.op](*args)
        raise Abstained(Reason.OPERATOR, f"the operator {expr.op} is not raised")

    def index(self, poly: Poly, env: Mapping[str, Any]) -> Any:
        """A polynomial of counters and sizes. Raises Abstained where one is not known."""
        value = poly.substitute(self._sized.values)
        total: Any = tirx.const(value.constant_term, "int32")
        for monomial, factor in value.terms:
            if not monomial:
                continue
            if len(monomial) > 1 or monomial[0] not in env:
                raise Abstained(Reason.SIZES, f"no size is given for {monomial[0]}")
            total = total + env[monomial[0]] * factor
        return total

    def _condition(self, condition: Condition, env: Mapping[str, Any], reduced: Any) -> Any:
        kind = condition.kind
        if kind in ("true", "false"):
            return tirx.const(kind == "true", "bool")
        if kind in ("and", "or"):
            parts = [self._condition(part, env, reduced) for part in condition.parts]
            return tirx.all(*parts) if kind == "and" else tirx.any(*parts)
        negated = kind == "not"
        if negated:
            [condition] = condition.parts
        if condition.poly is not None:
            value = self.index(condition.poly, env)
            return value >= 0 if kind == "ge" else value.equal(0) if kind == "eq" else tirx.NE(value, 0)
        assert condition.value is not None
        a, b = (self.value(arg, env, reduced) for arg in condition.value.args)
        return compared(condition.value.value, a, b, negated)
