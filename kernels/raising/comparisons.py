"""Conditions of integers: what an i1 says about counters and parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from kernels.raising.definitions import PENDING, Definitions
from kernels.raising.expressions import FALSE, TRUE, Condition, at_least_zero, both, either, equals_zero, negated
from kernels.raising.ir import Instruction, Operand
from kernels.raising.loops import incoming
from kernels.raising.polynomials import Poly

MINIMUM = re.compile(r"llvm\.([su])(min|max)\.i(32|64)$")


class Comparisons:
    """Conditions on demand. `value` gives the polynomial of an integer, or None."""

    def __init__(self, definitions: Definitions, value: Callable[[Operand], Poly | None]) -> None:
        self._definitions, self._value = definitions, value
        self._known: dict[str, Condition | None] = {}

    def forget(self) -> None:
        self._known.clear()

    def of(self, operand: Operand) -> Condition | None:
        """A condition of integers alone; None where data decide."""
        word = operand.word
        if word in ("true", "false"):
            return TRUE if word == "true" else FALSE
        if word in self._known:
            return self._known[word]
        instruction, block = self._definitions.of(word)
        if instruction is None:
            return None
        found = self._condition(instruction, block)
        if not self._definitions.pending:
            self._known[word] = found
        return found

    def _condition(self, instruction: Instruction, block: str) -> Condition | None:
        opcode = instruction.opcode
        if opcode == "freeze":
            return self.of(instruction.operands[0])
        if opcode in ("and", "or", "select") and instruction.type == "i1":
            parts = [self.of(part) for part in instruction.operands]
            known = [part for part in parts if part is not None]
            if len(known) < len(parts):
                return None
            if opcode == "select":
                return either(both(known[0], known[1]), both(negated(known[0]), known[2]))
            return both(*known) if opcode == "and" else either(*known)
        if opcode == "xor" and instruction.operands[1].word == "true":
            inner = self.of(instruction.operands[0])
            return None if inner is None else negated(inner)
        if opcode == "icmp":
            return self._comparison(instruction, block)
        if opcode == "phi":
            return self._first_time(instruction, block)
        return None

    def _first_time(self, phi: Instruction, block: str) -> Condition | None:
        """A boolean that tells a loop's first iteration from the others."""
        loop = self._definitions.flow.innermost.get(block)
        if loop is None or loop.header != block:
            return None
        outside, inside = ([operand.word for operand in some] for some in incoming(phi, loop))
        if (outside, inside) not in ((["true"], ["false"]), (["false"], ["true"])):
            return None
        first = at_least_zero(-Poly.of(loop.symbol))
        return first if outside == ["true"] else negated(first)

    def _comparison(self, instruction: Instruction, block: str) -> Condition | None:
        predicate = instruction.predicate
        if instruction.operands[0].type == "i1":
            return None
        split = self._by_choice(instruction, block)
        if split is None:
            split = self._by_signs(instruction)
        if split is not None:
            return split
        return self._equality(instruction) if predicate in ("eq", "ne") else self._inequality(instruction, block)

    def _equality(self, instruction: Instruction) -> Condition | None:
        a, b = instruction.operands
        left, right = self._value(a), self._value(b)
        if left is None and b.word == "0" and (parts := self._united(a)) is not None:
            equal = both(*map(equals_zero, parts))
        elif left is None or right is None:
            return None
        else:
            equal = equals_zero(left - right)
        return equal if instruction.predicate == "eq" else negated(equal)

    def _inequality(self, instruction: Instruction, block: str) -> Condition | None:
        """a < b or a <= b, where a may be a maximum and b a minimum; those without signs as signed ones."""
        predicate = instruction.predicate
        a, b = instruction.operands
        if predicate[1:] in ("gt", "ge"):
            a, b = b, a
        lefts, rights = self._alternatives(a, "max"), self._alternatives(b, "min")
        if lefts is None or rights is None:
            return None
        strict = int(predicate[1:] in ("gt", "lt"))
        bounds = [at_least_zero(right - left - strict) for left in lefts for right in rights]
        if predicate[0] == "u" and "samesign" not in instruction.flags:
            for right in rights:
                self._definitions.require("wrap", at_least_zero(right), block, instruction.line)
            unsure = [left for left in lefts if not self._is_positive(left, block, instruction)]
            bounds = [*map(at_least_zero, unsure), *bounds]
        return both(*bounds)

    def _by_choice(self, instruction: Instruction, block: str) -> Condition | None:
        """A comparison with c ? x : y, where data do not decide and it is no minimum or maximum."""
        for position, operand in enumerate(instruction.operands):
            chosen, _ = self._definitions.of(operand.word)
            if chosen is None or chosen.opcode != "select":
                continue
            if self._chosen(chosen, "min") or self._chosen(chosen, "max"):
                continue
            condition = self.of(chosen.operands[0])
            if condition is None or None in [self._value(arm) for arm in chosen.operands[1:]]:
                return None
            ways = []
            for arm, when in zip(chosen.operands[1:], (condition, negated(condition)), strict=True):
                operands = tuple(arm if k == position else o for k, o in enumerate(instruction.operands))
                found = self._comparison(replace(instruction, operands=operands), block)
                if found is None:
                    return None
                ways.append(both(when, found))
            return either(*ways)
        return None

    def _by_signs(self, instruction: Instruction) -> Condition | None:
        """(a | b) < 0 where one is negative, (a & b) < 0 where both are; > -1 where not."""
        a, b = instruction.operands
        if (instruction.predicate, b.word) not in (("slt", "0"), ("sgt", "-1")):
            return None
        negative = self._sign(a)
        return negative if negative is None or instruction.predicate == "slt" else negated(negative)

    def _sign(self, operand: Operand) -> Condition | None:
        """Whether a | b, or a & b, is negative; None where it is no such integer."""
        combined, _ = self._definitions.of(operand.word)
        if combined is None or combined.opcode not in ("or", "and") or combined.type == "i1":
            return None
        parts = []
        for part in combined.operands:
            value = self._value(part)
            found = self._sign(part) if value is None else at_least_zero(-value - 1)
            if found is None:
                return None
            parts.append(found)
        return either(*parts) if combined.opcode == "or" else both(*parts)

    def _united(self, operand: Operand) -> list[Poly] | None:
        """The parts of a | b, which is zero if both are."""
        instruction, _ = self._definitions.of(operand.word)
        if instruction is None or instruction.opcode != "or":
            return None
        parts = [self._value(part) for part in instruction.operands]
        return [part for part in parts if part is not None] if None not in parts else None

    def _is_positive(self, value: Poly, block: str, instruction: Instruction) -> bool:
        """Whether a value is not negative: counters are not, of parameters it is required."""
        if value.symbols <= self._definitions.counters and all(factor > 0 for _, factor in value.terms):
            return True
        if value.symbols & self._definitions.counters or any(s.startswith(PENDING) for s in value.symbols):
            return False
        self._definitions.require("wrap", at_least_zero(value), block, instruction.line)
        return True

    def _chosen(self, instruction: Instruction, which: str) -> list[Poly] | None:
        """The two values of a < b ? a : b."""
        condition = self.of(instruction.operands[0])
        a, b = (self._value(operand) for operand in instruction.operands[1:])
        if condition is None or condition.kind != "ge" or a is None or b is None:
            return None
        smaller = b - a if which == "min" else a - b
        return [a, b] if _is_difference(condition.poly, smaller) else None

    def _alternatives(self, operand: Operand, which: str) -> list[Poly] | None:
        """The values of which the operand is the least (`which` min) or the greatest (max); one where it is plain."""
        value = self._value(operand)
        if value is not None:
            return [value]
        instruction, _ = self._definitions.of(operand.word)
        if instruction is None:
            return None
        if instruction.opcode in ("sext", "zext", "freeze"):
            return self._alternatives(instruction.operands[0], which)
        if instruction.opcode == "select":
            return self._chosen(instruction, which)
        found = MINIMUM.match(instruction.callee) if instruction.opcode == "call" else None
        if found is None or found[2] != which or found[1] != "s":
            return None
        parts = [self._alternatives(part, which) for part in instruction.operands]
        return [p for part in parts if part is not None for p in part] if None not in parts else None


def _is_difference(poly: Poly | None, difference: Poly) -> bool:
    """Whether `poly >= 0` is `difference >= 0` or `difference > 0`."""
    return poly is not None and poly in (difference, difference - 1)
