"""Sets of iterations and relations between them, for proofs by the integer set library.

A product of parameters, and a value computed of parameters alone, is a parameter of its own here: what is proven for
all its values is proven for the true one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import islpy as isl

from kernels.raising.expressions import Condition
from kernels.raising.polynomials import Monomial, Poly
from kernels.raising.reasons import Abstained, Reason

__all__ = ["Polyhedra", "isl"]

_PLAUSIBLE = 4
"""A condition on parameters that holds for no sizes of this and more is none that a user's sizes may satisfy."""


@dataclass
class Polyhedra:
    """The sets of one function. `bits`: of its parameters; `bounds`: conditions by loop symbol."""

    bits: dict[str, int]
    bounds: dict[str, Condition]
    names: dict[Monomial, str] = field(default_factory=dict)
    assumed: list[Condition] = field(default_factory=list)
    assumed_sets: list[isl.Set] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._domains: dict[tuple[tuple[str, ...], Condition], isl.Set] = {}
        self._context: tuple[tuple[int, int, int], isl.Set] | None = None

    def text(self, poly: Poly, counters: frozenset[str]) -> str:
        """An affine form in the library's syntax. Raises Abstained where counters are multiplied."""
        parts = []
        for monomial, factor in poly.terms:
            inside = [s for s in monomial if s in counters]
            if inside and len(monomial) > 1:
                raise Abstained(Reason.SUBSCRIPT, "a product of a loop counter")
            name = "" if not monomial else monomial[0] if inside else self.parameter(monomial)
            parts.append(f"{'-' if factor < 0 else '+'} {abs(factor)}{'*' if name else ''}{name}")
        return " ".join(parts).removeprefix("+ ") or "0"

    def parameter(self, monomial: Monomial) -> str:
        return self.names.setdefault(monomial, f"m{len(self.names)}")

    def constraint(self, condition: Condition, counters: frozenset[str]) -> str:
        kind = condition.kind
        if kind in ("true", "false"):
            return "0 = 0" if kind == "true" else "1 = 0"
        if kind in ("and", "or"):
            return "(" + f" {kind} ".join(self.constraint(part, counters) for part in condition.parts) + ")"
        if condition.poly is None:
            raise Abstained(Reason.DATA_CONTROL, "a condition of data")
        sign = {"ge": ">= 0", "eq": "= 0", "ne": "!= 0"}[kind]
        return f"{self.text(condition.poly, counters)} {sign}"

    def header(self) -> str:
        return "[" + ", ".join(self.names.values()) + "] -> "

    def set_of(self, loops: Sequence[str], condition: Condition, context: bool = True) -> isl.Set:
        """The iterations of loops in which a condition holds; `loops` are its dimensions, in order."""
        key = (tuple(loops), condition)
        known = self._domains.get(key) if context else None
        if known is not None:
            return known
        counters = frozenset(loops)
        parts = [self.constraint(self.bounds[symbol], counters) for symbol in loops]
        parts.append(self.constraint(condition, counters))
        body = " and ".join(parts)
        found = isl.Set(f"{self.header()}{{ [{', '.join(loops)}] : {body} }}")
        if context:
            found = found.intersect_params(self.context())
            self._domains[key] = found
        return found

    def context(self) -> isl.Set:
        """What is known and assumed of the parameters."""
        key = (len(self.names), len(self.assumed), len(self.assumed_sets))
        if self._context is None or self._context[0] != key:
            self._context = key, self._made_context()
        return self._context[1]

    def _made_context(self) -> isl.Set:
        none: frozenset[str] = frozenset()
        parts = [self.constraint(condition, none) for condition in self.assumed]
        found = isl.Set(f"{self.header()}{{ : {' and '.join(parts) or '0 = 0'} }}").intersect(self.context_of_types())
        for more in self.assumed_sets:
            found = found.intersect(more)
        return found

    def context_of_types(self) -> isl.Set:
        """What the types of parameters say of them."""
        parts = []
        for monomial, name in list(self.names.items()):
            bits = self.bits.get(monomial[0], 64) if len(monomial) == 1 else 64
            if bits <= 32:
                parts.append(f"-{1 << (bits - 1)} <= {name} < {1 << (bits - 1)}")
        return isl.Set(f"{self.header()}{{ : {' and '.join(parts) or '0 = 0'} }}")

    def assume(self, condition: Condition) -> None:
        """A condition of parameters alone, which a guard will test."""
        if condition not in self.assumed:
            self.assumed.append(condition)
            self._domains.clear()

    def assume_set(self, holds: isl.Set) -> None:
        self.assumed_sets.append(holds)
        self._domains.clear()

    def needs(self, violations: isl.Set) -> isl.Set | None:
        """The condition on parameters under which there are no such points: None where there are none in any case.

        Raises Abstained where no sizes worth the name avoid them.
        """
        if violations.is_empty():
            return None
        bad = violations.params().intersect(self.context())
        if bad.is_empty():
            return None
        large = isl.Set(
            f"{self.header()}{{ : {' and '.join(f'{n} >= {_PLAUSIBLE}' for n in self.names.values()) or '0 = 0'} }}"
        )
        if large.intersect(self.context()).is_subset(bad):
            raise Abstained(Reason.SUBSCRIPT, "subscripts that leave their row")
        return bad.gist(self.context()).complement().coalesce()  # what is known anyway has no part in it
