"""The order of reads and writes: whether a value is still the same at its store, and what depends on what."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kernels.raising.access import Accesses, Normal
from kernels.raising.expressions import Access
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason


@dataclass
class Order:
    """Whether values read early are still those at the time of the store, and which statement depends on which."""

    accesses: Accesses
    statements: Sequence[Normal]

    def __post_init__(self) -> None:
        self._depth = max((len(a.time) for s in self.statements for a in self._all(s)), default=1)

    def _all(self, s: Normal) -> list[Access]:
        return [s.source.target, *s.source.value.loads()]

    def check(self) -> None:
        """Raises Abstained where a store lies between a load and the store of what was computed from it."""
        for s in self.statements:
            for load in dict.fromkeys(s.source.value.loads()):
                for other in self.statements:
                    if other.target.base == load.base and self._between(load, other, s):
                        raise Abstained(
                            Reason.MEMORY_ORDER,
                            "a value is read, overwritten, and its old state used",
                            load.line or s.line,
                        )

    def _between(self, load: Access, other: Normal, s: Normal) -> bool:
        target = s.source.target
        if self._same_iteration(load, other, s):
            return False
        uses = self._relation(load, target, [f"{c}_ = {c}" for c in load.loops])
        written = self._same_place(
            load, other.original[id(other.source.target)], other.source.target, s.original[id(load)]
        )
        before = written.intersect(self._earlier(load, other.source.target))
        after = self._earlier(other.source.target, target)
        return not before.apply_range(after).intersect(uses).is_empty()

    def _same_iteration(self, load: Access, other: Normal, s: Normal) -> bool:
        """The plain case: one store, in the loops of the load, after it, and it is the user."""
        return other is s and load.loops == s.source.target.loops and load.time[:-1] == s.source.target.time[:-1]

    def depends(self, first: Normal, second: Normal, fixed: Sequence[str]) -> bool:
        """Whether an execution of `second` must come after one of `first`, in one iteration of the loops `fixed`."""
        return any(not relation.is_empty() for relation in self.relations(first, second, fixed))

    def independent(self, statements: Sequence[Normal]) -> tuple[str, ...]:
        """Loops around all of some statements whose iterations do not depend on each other's."""
        pairs = [(a, b, relation) for a in statements for b in statements for relation in self.relations(a, b, ())]
        plain = [{*s.loops} & {*s.source.target.loops} for s in statements]
        common = [c for c in statements[0].loops if all(c in loops for loops in plain)]

        def is_free(symbol: str) -> bool:
            places = [(a.source.target.loops.index(symbol), b.source.target.loops.index(symbol)) for a, b, _ in pairs]
            return all(
                relation.is_subset(relation.equate(isl.dim_type.in_, here, isl.dim_type.out, there))
                for (here, there), (_, _, relation) in zip(places, pairs, strict=True)
            )

        return tuple(c for c in common if is_free(c))

    def relations(self, first: Normal, second: Normal, fixed: Sequence[str]) -> list[Any]:
        found = []
        for a in self._all(first):
            for b in self._all(second):
                if a.base != b.base or (a is not first.source.target and b is not second.source.target):
                    continue
                # at the time of the stores: `check` has moved the reads there
                relation = self._same_place_of(first, a, second, b)
                relation = relation.intersect(self._earlier(first.source.target, second.source.target))
                for symbol in fixed:
                    position = (first.source.target.loops.index(symbol), second.source.target.loops.index(symbol))
                    relation = relation.equate(isl.dim_type.in_, position[0], isl.dim_type.out, position[1])
                found.append(relation)
        return found

    def _same_place_of(self, first: Normal, a: Access, second: Normal, b: Access) -> isl.Map:
        here, there = first.source.target, second.source.target
        return self._places(here, first.original[id(a)], there, second.original[id(b)])

    def _same_place(self, load: Access, written: Sequence[Poly], store: Access, read: Sequence[Poly]) -> isl.Map:
        return self._places(load, read, store, written)

    def _places(self, a: Access, a_subscripts: Sequence[Poly], b: Access, b_subscripts: Sequence[Poly]) -> isl.Map:
        polyhedra = self.accesses.polyhedra
        renamed = {c: Poly.of(c + "_") for c in b.loops}
        counters = frozenset((*a.loops, *(c + "_" for c in b.loops)))
        equal = [
            f"{polyhedra.text(x, counters)} = {polyhedra.text(y.substitute(renamed), counters)}"
            for x, y in zip(a_subscripts, b_subscripts, strict=True)
        ]
        return self._relation(a, b, equal)

    def _relation(self, a: Access, b: Access, constraints: Sequence[str]) -> isl.Map:
        polyhedra = self.accesses.polyhedra
        before, after = polyhedra.set_of(a.loops, a.when), polyhedra.set_of(b.loops, b.when)
        inside, outside = ", ".join(a.loops), ", ".join(c + "_" for c in b.loops)
        text = f"{polyhedra.header()}{{ [{inside}] -> [{outside}] : {' and '.join(constraints) or '0 = 0'} }}"
        return isl.Map(text).intersect_domain(before).intersect_range(after)

    def _earlier(self, a: Access, b: Access) -> isl.Map:
        """Executions of a and later ones of b: at the first place where their times differ, a's is less."""
        ways: list[str] = []
        equal: list[str] = []
        for x, y in itertools.zip_longest(a.time, b.time):
            if x is None or y is None:
                break
            if isinstance(x, int) and isinstance(y, int):
                if x != y:
                    if x < y:
                        ways.append(" and ".join(equal) or "0 = 0")
                    break
                continue
            ways.append(" and ".join([*equal, f"{x} < {y}_"]))
            equal.append(f"{x} = {y}_")
        body = " or ".join(f"({way})" for way in ways) or "1 = 0"
        inside, outside = ", ".join(a.loops), ", ".join(c + "_" for c in b.loops)
        return isl.Map(f"{self.accesses.polyhedra.header()}{{ [{inside}] -> [{outside}] : {body} }}")
