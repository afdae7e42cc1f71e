"""One statement as an operation: a map, a reduction, a recurrence, or none of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernels.raising.access import Accesses, Normal
from kernels.raising.expressions import Condition, Expr, negated
from kernels.raising.ops import Operation, elements
from kernels.raising.order import Order
from kernels.raising.polyhedra import isl
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.scalars import FLOATS
from kernels.raising.updates import update

SCANNED = ("add", "mul", "max", "min")
"""What running sums, products and the like are made by."""


@dataclass
class Single:
    """Statements of one nest, each by itself; `order` knows them all."""

    accesses: Accesses
    order: Order

    def classified(self, s: Normal, fixed: tuple[str, ...]) -> Operation:
        """The operation, in one iteration of the loops `fixed`. Raises Abstained where it is none."""
        own = [e for e in elements(s.value) if e.base == s.target.base]
        if s.loops and all(c in fixed for c in s.loops):
            raise Abstained(Reason.CARRIED, "iterations that depend on each other", s.line)
        injective = self.is_injective(s, fixed)
        if injective and not self.order.depends(s, s, fixed):
            return self.operation(s, fixed, (), "", s.value)
        if not own:
            raise Abstained(Reason.OVERWRITE, "an element that is written again and again", s.line)
        if any(e != s.target for e in own):
            running = self._recurrence(s, fixed)
            if running is not None:
                return running
            raise Abstained(Reason.CARRIED, "an array that is read and written at different places", s.line)
        reduced = tuple(c for c in s.loops if c not in fixed and not any(c in p.symbols for p in s.target.subscripts))
        if not reduced or not self.is_injective(s, tuple(c for c in s.loops if c in fixed or c in reduced), reduced):
            raise Abstained(Reason.CARRIED, "iterations that write the same element", s.line)
        return self._reduction(s, fixed, reduced)

    def is_injective(self, s: Normal, fixed: Sequence[str], free: Sequence[str] = ()) -> bool:
        """Whether iterations that differ, but not in `fixed`, write different elements. Those that differ in `free`
        alone may write the same."""
        polyhedra = self.accesses.polyhedra
        counters = frozenset(s.loops)
        kept = [c for c in fixed if c not in free]
        forms = [polyhedra.text(p, counters) for p in s.target.subscripts] + kept
        text = f"{polyhedra.header()}{{ [{', '.join(s.loops)}] -> [{', '.join(forms)}] }}"
        write = isl.Map(text).intersect_domain(s.domain)
        if not free:
            return bool(write.is_injective())
        pairs = write.apply_range(write.reverse())
        equal = [c for c in s.loops if c not in free]
        outside = ", ".join(c + "_" for c in s.loops)
        body = " and ".join(f"{c} = {c}_" for c in equal) or "0 = 0"
        same = isl.Map(f"{polyhedra.header()}{{ [{', '.join(s.loops)}] -> [{outside}] : {body} }}")
        return bool(pairs.is_subset(same))

    def operation(
        self, s: Normal, fixed: tuple[str, ...], reduced: tuple[str, ...], combine: str, value: Expr,
        domain: isl.Set | None = None, reordered: bool = True,
    ) -> Operation:  # fmt: skip
        lines = () if s.line is None else (s.line,)
        return Operation(
            s.target, s.type, s.loops, reduced, s.domain if domain is None else domain, combine, value, None, None,
            tuple(c for c in fixed if c in s.loops), lines, reordered, s.source.place,
        )  # fmt: skip

    def _reduction(self, s: Normal, fixed: tuple[str, ...], reduced: tuple[str, ...]) -> Operation:
        value, domain = s.value, s.domain
        own = Expr("read", s.type, value=s.target)
        while value.op == "select" and isinstance(value.value, Condition) and value.value.is_affine:
            # a guard: where it does not hold, the element stays as it is
            kept, condition = (
                (value.args[0], value.value) if value.args[1] == own else (value.args[1], negated(value.value))
            )
            if own not in value.args:
                break
            domain = domain.intersect(self._where(s.loops, condition))
            value = kept
        found = update(value, own)
        if found is None:
            raise Abstained(Reason.CARRIED, "an element that is updated by what is no reduction", s.line)
        combine, term, exact = found
        if any(e.base == s.target.base for e in elements(term)):
            raise Abstained(Reason.CARRIED, "a term that reads what is accumulated", s.line)
        neutral = {"add": 0, "mul": 1}.get(combine)
        if s.type not in FLOATS and term.op == "select" and term.value.is_affine:
            # what adds nothing in some iterations runs in the others only; a float zero has a sign
            for arm, condition in zip(term.args, (negated(term.value), term.value), strict=True):
                if arm.op == "const" and arm.value == neutral:
                    domain = domain.intersect(self._where(s.loops, condition))
                    term = next(other for other in term.args if other is not arm)
                    break
        if combine == "nan":
            raise Abstained(Reason.NAN, "a maximum whose result depends on the order if there are NaNs", s.line)
        return self.operation(s, fixed, reduced, combine, term, domain, reordered=exact)

    def _where(self, loops: Sequence[str], condition: Condition) -> isl.Set:
        polyhedra = self.accesses.polyhedra
        text = polyhedra.constraint(condition, frozenset(loops))
        return isl.Set(f"{polyhedra.header()}{{ [{', '.join(loops)}] : {text} }}")

    def _recurrence(self, s: Normal, fixed: tuple[str, ...]) -> Operation | None:
        """y[i] = y[i - 1] op x[i]. The element itself may be in x[i]: its old content is."""
        own = [e for e in dict.fromkeys(elements(s.value)) if e.base == s.target.base and e != s.target]
        if len(own) != 1:
            return None
        shifts = [a - b for a, b in zip(s.target.subscripts, own[0].subscripts, strict=True)]
        moved = [i for i, shift in enumerate(shifts) if shift.terms]
        if len(moved) != 1 or shifts[moved[0]].constant not in (1, -1):
            return None
        axis = s.target.subscripts[moved[0]]
        symbols = [c for c in s.loops if c in axis.symbols]
        found = update(s.value, Expr("read", s.type, value=own[0]))
        if found is None or len(symbols) != 1 or found[0] not in SCANNED or symbols[0] in fixed:
            return None
        if axis.coefficient(symbols[0]) != shifts[moved[0]] or own[0] in elements(found[1]):
            return None
        if any(symbols[0] in p.symbols for i, p in enumerate(s.target.subscripts) if i != moved[0]):
            return None
        if not self.is_injective(s, fixed):
            return None
        return replace(
            self.operation(s, fixed, (symbols[0],), f"scan-{found[0]}", found[1], reordered=found[2]),
            steps=(s,), free=self.order.independent([s]),
        )  # fmt: skip
