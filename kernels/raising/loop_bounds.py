"""For which values of its counter the body of a loop runs."""

from __future__ import annotations

from kernels.raising.definitions import Definitions, Requirement
from kernels.raising.expressions import (
    TRUE,
    Condition,
    at_least_zero,
    both,
    conjuncts,
    either,
    equals_zero,
    substituted,
)
from kernels.raising.loops import Loop
from kernels.raising.polynomials import ZERO, Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.trip_counts import Exit


def bound_of(loop: Loop, ending: Exit, when: Condition, definitions: Definitions) -> Condition:
    """What holds in the body, from the condition under which the loop goes on. Raises Abstained.

    `when`: under which conditions the loop is reached; what has to hold there is noted in `definitions`.
    """
    return _Bound(loop, definitions).of(ending, when)


class _Bound:
    def __init__(self, loop: Loop, definitions: Definitions) -> None:
        self._loop, self._requirements = loop, definitions.requirements
        self._line = definitions.function.blocks[loop.header].terminator.line

    def of(self, ending: Exit, when: Condition) -> Condition:
        symbol = self._loop.symbol
        kept = [at_least_zero(Poly.of(symbol))]
        back = {symbol: Poly.of(symbol) - 1}
        for literal in conjuncts(ending.stays):
            bound = self._literal(literal, when)
            if bound is None:
                continue
            if ending.tested_first:
                kept.append(bound)
                continue
            kept.append(substituted(bound, back))
            # the first iteration is not tested: it must be one that would pass
            self._require(substituted(kept[-1], {symbol: ZERO}), when)
        if len(kept) == 1:
            raise Abstained(Reason.EXITS, "a loop without an end", self._line)
        return both(*kept)

    def _literal(self, literal: Condition, when: Condition) -> Condition | None:
        """A part of the condition that once false stays false; None where it holds from the start for ever."""
        poly, symbol = literal.poly, self._loop.symbol
        if literal.kind == "or":
            return either(*(self._way(part, when) for part in literal.parts))
        if poly is None:
            raise Abstained(Reason.DATA_BOUND, "a loop with a bound that is no inequality", self._line)
        try:
            factor = poly.coefficient(symbol).constant
        except ValueError:
            factor = None
        if factor is None or (literal.kind == "eq" and factor == 0):
            raise Abstained(Reason.DATA_BOUND, "a loop whose bound does not move evenly with its counter", self._line)
        if literal.kind == "eq":  # true once, at the start, or never
            return both(at_least_zero(-Poly.of(symbol)), equals_zero(poly.substitute({symbol: ZERO})))
        if literal.kind == "ne":
            return self._until_equal(poly, factor, when)
        if factor > 0:
            self._require(at_least_zero(poly.substitute({symbol: ZERO})), when)
            return None
        return at_least_zero(poly)

    def _until_equal(self, poly: Poly, factor: int, when: Condition) -> Condition:
        """Not zero until the counter gets there: it must not have passed it."""
        divided = poly.divided(abs(factor)) if factor else None
        if divided is None:
            raise Abstained(Reason.WRAP, "a loop that may step over its end", self._line)
        down = divided if factor < 0 else -divided
        self._require(at_least_zero(down.substitute({self._loop.symbol: ZERO})), when)
        return at_least_zero(down - 1)

    def _way(self, part: Condition, when: Condition) -> Condition:
        """One of several bounds, of which something that the loop leaves alone chooses."""
        literals = conjuncts(part)
        fixed = [p for p in literals if not any(self._loop.symbol in q.poly.symbols for q in p.leaves if q.poly)]
        if not all(p.is_affine for p in literals) or any(p.parts for p in literals if p not in fixed):
            raise Abstained(Reason.DATA_BOUND, "a loop with a bound that is no inequality", self._line)
        noted = len(self._requirements)
        bounds = [self._literal(p, both(when, *fixed)) for p in literals if p not in fixed]
        if None in bounds:  # true from its start on: not one of several
            del self._requirements[noted:]
            raise Abstained(Reason.DATA_BOUND, "a loop with a bound that is no inequality")
        return both(*fixed, *(bound for bound in bounds if bound is not None))

    def _require(self, holds: Condition, when: Condition) -> None:
        if holds != TRUE:
            self._requirements.append(Requirement("runs", holds, self._loop.symbols[:-1], when, self._line))
