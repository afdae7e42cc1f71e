"""Integers and addresses as polynomials over loop counters and parameters: affine recurrences solved.

An address is a polynomial with the symbol of its array in it (`&%x`), in bytes. What is not proven on the way is noted
as a requirement: a condition that must hold at every point of a domain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kernels.raising.arithmetic import BINARY, CASTS, Arithmetic
from kernels.raising.calls import is_allocation
from kernels.raising.comparisons import MINIMUM, Comparisons
from kernels.raising.definitions import PENDING, POINTER, Definitions
from kernels.raising.expressions import Condition
from kernels.raising.ir import Instruction, Operand
from kernels.raising.loops import Loop, incoming
from kernels.raising.polynomials import ZERO, Poly, TooManyTerms
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.scalars import elements_of, size_of
from kernels.raising.trip_counts import Exit, Exits

_INTEGER = re.compile(r"i\d+")
_Mark = tuple[set[str], set[str], int]


class Integers:
    """Evaluates on demand, so that a pointer that inner loops move is known before they are looked at."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._arithmetic = Arithmetic(definitions)
        self._comparisons = Comparisons(definitions, self.of)
        self._exits = Exits(definitions, self._comparisons)
        self._known: dict[str, Poly | None] = {}

    def condition(self, operand: Operand) -> Condition | None:
        """A condition of integers alone; None where data decide."""
        return self._comparisons.of(operand)

    def exit(self, loop: Loop) -> Exit:
        """Raises Abstained where the loop ends otherwise than by one test of integers, first or last."""
        return self._exits.of(loop)

    def of(self, operand: Operand) -> Poly | None:
        """The value of an integer or address; None where it is not a polynomial."""
        word, kind = operand.word, operand.type
        if word.startswith("@"):
            return Poly.of(POINTER + word)
        if not word.startswith("%"):
            return _constant(word, kind)
        if word in self.definitions.arguments:
            if kind == "ptr":
                return Poly.of(POINTER + word)
            return Poly.of(word) if _INTEGER.fullmatch(kind) else None
        if word not in self._known:
            try:
                value = self._computed(word, kind)
            except TooManyTerms as error:
                raise Abstained(Reason.LARGE, "a subscript of many terms") from error
            self._known.setdefault(word, value)
        return self._known[word]

    def _computed(self, word: str, kind: str) -> Poly | None:
        instruction, block = self.definitions.of(word)
        if instruction is None or not (kind == "ptr" or _INTEGER.fullmatch(kind)):
            return None
        opcode, operands = instruction.opcode, instruction.operands
        if opcode == "phi":
            return self._phi(instruction, block)
        if opcode == "alloca" or (opcode == "call" and self._is_allocation(instruction, block)):
            return Poly.of(POINTER + word)
        if opcode == "freeze" or (opcode == "bitcast" and instruction.type == operands[0].type):
            return self.of(operands[0])
        if opcode == "getelementptr":
            return self._address(instruction)
        if opcode in BINARY:
            a, b = map(self.of, operands)
            return None if a is None or b is None else self._arithmetic.binary(instruction, block, a, b)
        if opcode in CASTS:
            return None if operands[0].type == "i1" else self._arithmetic.cast(instruction, block, self.of(operands[0]))
        if opcode == "call" and (found := MINIMUM.match(instruction.callee)):
            return self._arithmetic.opaque(found[2], list(map(self.of, operands)), int(kind[1:]))
        return None

    def _is_allocation(self, call: Instruction, block: str) -> bool:
        """Memory that is got once is an array; what a loop gets anew is another one in each iteration."""
        return is_allocation(call.callee) and self.definitions.flow.innermost.get(block) is None

    def _address(self, instruction: Instruction) -> Poly | None:
        """A getelementptr, in bytes."""
        total, kind = self.of(instruction.operands[0]), instruction.source_type
        for number, operand in enumerate(instruction.operands[1:]):
            if number:
                array = elements_of(kind)
                if array is None:
                    raise Abstained(Reason.TYPE, f"a member of the type {kind[:40]}", instruction.line)
                kind = array[1]
            index = self.of(operand)
            if index is None or total is None:
                return None
            total = total + index * size_of(kind)
        return total

    # --- recurrences

    def _phi(self, phi: Instruction, block: str) -> Poly | None:
        """What all ways bring alike, or what is computed anew in each iteration."""
        loop = self.definitions.flow.innermost.get(block)
        if loop is not None and loop.header == block:
            return self._recurrence(phi, loop)
        pairs = zip(phi.operands, phi.targets, strict=True)
        values = [self.of(operand) for operand, way in pairs if (way, block) not in self.definitions.dead]
        if not values:
            return None
        if len(phi.operands) == 1:
            source = self.definitions.flow.innermost.get(phi.targets[0])
            if source is not None and source is not loop:
                return self._after(values[0], source)
        return values[0] if all(value == values[0] for value in values) else None

    def _recurrence(self, phi: Instruction, loop: Loop) -> Poly | None:
        """start + step * counter, where the value of the next iteration is this one's plus what the loop leaves alone.

        While that is found out, the phi stands for a symbol of its own; what was computed with it is corrected after.
        """
        outside, inside = incoming(phi, loop)
        if len(outside) != 1 or len(inside) != 1:
            return None
        start = self.of(outside[0])
        if start is None:
            return None
        mark: _Mark = (set(self._known), set(self._exits.trips), len(self.definitions.requirements))
        value = None
        try:
            step = self._step(phi, inside[0], loop)
            value = None if step is None else start + step * Poly.of(loop.symbol)
        finally:
            self._settle(mark, loop, {} if value is None else {PENDING + phi.name: value})
        return value

    def _step(self, phi: Instruction, following: Operand, loop: Loop) -> Poly | None:
        """By how much the phi moves in each iteration; None where that is not the same in all."""
        symbol = PENDING + phi.name
        self._known[phi.name] = Poly.of(symbol)
        self.definitions.pending += 1
        try:
            value = self.of(following)
        finally:
            self.definitions.pending -= 1
        step = None if value is None else value - Poly.of(symbol)
        moving = {symbol, *self.definitions.flow.inside(loop)}
        if step is None or any(s in moving or s.startswith(PENDING) for s in step.symbols):
            return None
        if phi.type in ("i8", "i16") and step.terms:
            raise Abstained(Reason.WRAP, f"a counter of {phi.type[1:]} bits", phi.line)
        return step

    def _settle(self, mark: _Mark, loop: Loop, values: Mapping[str, Poly]) -> None:
        """Put the phi's value into all that was computed while it was pending; forget that where there is no value."""
        known, trips, noted = mark
        _settle(self._known, known, values)
        _settle(self._exits.trips, trips, values)
        late = self.definitions.requirements[noted:] if values else []
        self.definitions.requirements[noted:] = [requirement.with_values(values) for requirement in late]
        self._exits.forget(loop)
        self._comparisons.forget()

    def _after(self, value: Poly | None, loop: Loop) -> Poly | None:
        """What a value of the last test of a loop is after the loop."""
        if value is None:
            return None
        moving = value.symbols & self.definitions.flow.inside(loop)
        if not moving:
            return value
        trip = self._exits.trip(loop) if moving == {loop.symbol} else None
        if trip is None:
            return None
        return value.substitute({loop.symbol: trip if self.exit(loop).tested_first else trip - 1})


def _constant(word: str, kind: str) -> Poly | None:
    if word in ("true", "false"):
        return Poly.of(int(word == "true"))
    if kind == "ptr" and word == "null":
        return ZERO
    return Poly.of(int(word)) if re.fullmatch(r"-?\d+", word) else None


def _settle(known: dict[str, Poly | None], before: set[str], values: Mapping[str, Poly]) -> None:
    for name in known.keys() - before:
        value = known.pop(name)
        if value is not None and values:
            known[name] = value.substitute(values)
