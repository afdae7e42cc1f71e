"""Integers and addresses as polynomials over loop counters and parameters.

An address is a polynomial with the symbol of its array in it (`&%x`), in bytes. What is not proven on the way is noted
as a requirement: a condition that must hold at every point of a domain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kernels.raising.expressions import FALSE, TRUE, Condition, at_least_zero, both, either, equals_zero, negated
from kernels.raising.ir import Function, Instruction, Operand
from kernels.raising.loops import Flow, Loop
from kernels.raising.polynomials import ZERO, Poly, TooManyTerms
from kernels.raising.reasons import Abstained, Reason

POINTER = "&"
"""The first sign of the symbol of an array's address."""

_PENDING = "x:"
_SIZES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8, "ptr": 8, "half": 2, "bfloat": 2}
_HUGE = 1 << 40
"""With such a factor an index in 64 bits is there to lose its upper bits."""

_MINIMA = re.compile(r"llvm\.([su])(min|max)\.i(32|64)$")


def size_of(kind: str) -> int:
    """Bytes of a scalar or array type. Raises Abstained for others."""
    if kind in _SIZES:
        return _SIZES[kind]
    found = re.fullmatch(r"\[(\d+) x (.*)\]", kind)
    if found is None:
        raise Abstained(Reason.TYPE, f"an address computed by the type {kind[:40]}")
    return int(found[1]) * size_of(found[2])


@dataclass(frozen=True)
class Requirement:
    """`holds` must be true at every point of the loops `loops` where `when` is. `kind`: wrap, runs or guard."""

    kind: str
    holds: Condition
    loops: tuple[str, ...]
    when: Condition
    line: int | None

    def with_values(self, values: Mapping[str, Poly]) -> Requirement:
        return replace(self, holds=substituted(self.holds, values), when=substituted(self.when, values))


def substituted(condition: Condition, values: Mapping[str, Poly]) -> Condition:
    """The condition with symbols replaced in its bounds; values of data are left as they are."""
    if condition.parts:
        parts = [substituted(part, values) for part in condition.parts]
        return (
            both(*parts) if condition.kind == "and" else either(*parts) if condition.kind == "or" else
            replace(condition, parts=tuple(parts))
        )  # fmt: skip
    if condition.poly is None:
        return condition
    poly = condition.poly.substitute(values)
    if condition.kind == "ge":
        return at_least_zero(poly)
    equal = equals_zero(poly)
    return equal if condition.kind == "eq" else negated(equal)


@dataclass(frozen=True)
class Exit:
    """How a loop ends: where, in which form, and the condition under which it goes on.

    `tested_first`: the condition is asked before the body, else after it.
    """

    block: str
    tested_first: bool
    stays: Condition


@dataclass
class Integers:
    """Evaluates on demand, so that a pointer that inner loops move is known before they are looked at.

    `opaque`: operator, operands and bits of what is computed of parameters alone, by symbol. `dead`: edges that are
    not taken under what was assumed.
    """

    function: Function
    flow: Flow
    requirements: list[Requirement] = field(default_factory=list)
    opaque: dict[str, tuple[str, tuple[Poly, ...], int]] = field(default_factory=dict)
    dead: set[tuple[str, str]] = field(default_factory=set)
    _known: dict[str, Poly | None] = field(default_factory=dict)
    _trips: dict[str, Poly | None] = field(default_factory=dict)
    _exits: dict[str, Exit] = field(default_factory=dict)
    _conditions: dict[str, Condition | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.definitions: dict[str, tuple[Instruction, str]] = {
            i.name: (i, block.name) for block in self.function.blocks.values() for i in block.instructions if i.name
        }
        self.arguments = {argument.name: argument for argument in self.function.arguments}
        self.counters = {loop.symbol for loop in self.flow.loops}
        self._pending = 0

    # --- values

    def of(self, operand: Operand) -> Poly | None:
        """The value of an integer or address; None where it is not a polynomial."""
        word, kind = operand.word, operand.type
        if kind == "ptr" and word == "null":
            return ZERO
        if re.fullmatch(r"-?\d+", word):
            return Poly.of(int(word))
        if word in ("true", "false"):
            return Poly.of(int(word == "true"))
        if word.startswith("@"):
            return Poly.of(POINTER + word)
        if not word.startswith("%"):
            return None
        if word in self.arguments:
            if kind == "ptr":
                return Poly.of(POINTER + word)
            return Poly.of(word) if re.fullmatch(r"i\d+", kind) else None
        if word not in self._known:
            try:
                value = self._computed(word, kind)
            except TooManyTerms as error:
                raise Abstained(Reason.LARGE, "a subscript of many terms") from error
            self._known.setdefault(word, value)
        return self._known[word]

    def _computed(self, word: str, kind: str) -> Poly | None:
        if word not in self.definitions or not (kind == "ptr" or re.fullmatch(r"i\d+", kind)):
            return None
        instruction, block = self.definitions[word]
        opcode = instruction.opcode
        if opcode == "phi":
            return self._phi(instruction, block)
        if opcode == "alloca":
            return Poly.of(POINTER + word)
        if opcode == "freeze" or (opcode == "bitcast" and instruction.type == instruction.operands[0].type):
            return self.of(instruction.operands[0])
        if opcode == "getelementptr":
            return self._address(instruction)
        if opcode in ("add", "sub", "mul", "shl", "or", "and", "sdiv", "udiv", "srem", "urem", "lshr", "ashr", "xor"):
            return self._arithmetic(instruction, block)
        if opcode in ("sext", "zext", "trunc", "ptrtoint"):
            return self._cast(instruction, block)
        if opcode == "call" and _MINIMA.match(instruction.callee):
            parts = [self.of(part) for part in instruction.operands]
            return self._opaque(_MINIMA.match(instruction.callee)[2], parts, instruction)  # type: ignore[index]
        return None

    def _address(self, instruction: Instruction) -> Poly | None:
        total = self.of(instruction.operands[0])
        kind = instruction.source_type
        for number, operand in enumerate(instruction.operands[1:]):
            if number:
                found = re.fullmatch(r"\[(\d+) x (.*)\]", kind)
                if found is None:
                    raise Abstained(Reason.TYPE, f"a member of the type {kind[:40]}", instruction.line)
                kind = found[2]
            index = self.of(operand)
            if index is None or total is None:
                return None
            total = total + index * size_of(kind)
        return total

    def _arithmetic(self, instruction: Instruction, block: str) -> Poly | None:
        a, b = (self.of(operand) for operand in instruction.operands)
        if a is None or b is None:
            return None
        opcode, bits = instruction.opcode, int(instruction.type[1:])
        if opcode == "and":
            return self._masked(a, b, instruction, block)
        if opcode == "add" or (opcode == "or" and "disjoint" in instruction.flags):
            result = a + b
        elif opcode == "sub":
            result = a - b
        elif opcode == "mul":
            result = a * b
        elif opcode == "shl" and b.constant is not None and 0 <= b.constant < bits:
            result = a * (1 << b.constant)
        else:
            return self._quotient(instruction, a, b)
        if bits == 64 and "nsw" not in instruction.flags and any(abs(c) >= _HUGE for m, c in result.terms if m):
            raise Abstained(Reason.WRAP, "an index that is shifted out of its type", instruction.line)
        if bits == 64 or "nsw" in instruction.flags or result.constant is not None:
            return result
        return self._in_range(result, bits, instruction, block)

    def _in_range(self, value: Poly, bits: int, instruction: Instruction, block: str, least: int | None = None) -> Poly:
        """The value, which must lie in the signed range of its type (or from `least`)."""
        if bits < 32 and value.constant is None:
            raise Abstained(Reason.WRAP, f"an index of {bits} bits", instruction.line)
        low = -(1 << (bits - 1)) if least is None else least
        high = (1 << (bits - 1)) - 1
        holds = both(at_least_zero(value - low), at_least_zero(Poly.of(high) - value))
        self.require("wrap", holds, block, instruction.line)
        return value

    def _masked(self, a: Poly, b: Poly, instruction: Instruction, block: str) -> Poly | None:
        if a.constant is not None:
            a, b = b, a
        if b.constant == 0xFFFFFFFF and instruction.type == "i64":
            holds = both(at_least_zero(a), at_least_zero(Poly.of(0x7FFFFFFF) - a))
            self.require("wrap", holds, block, instruction.line)
            return a
        if b.constant in (0xFF, 0xFFFF) and a.constant is None:
            raise Abstained(Reason.WRAP, "an index that wraps around in fewer bits", instruction.line)
        return self._opaque("and", [a, b], instruction)

    def _quotient(self, instruction: Instruction, a: Poly, b: Poly) -> Poly | None:
        if instruction.opcode == "sdiv" and b.constant and (exact := a.divided(b.constant)) is not None:
            return exact
        if instruction.opcode in ("ashr", "lshr") and b.constant is not None and "exact" in instruction.flags:
            shifted, _ = self.definitions.get(instruction.operands[0].word, (None, ""))
            if shifted is not None and shifted.opcode == "shl" and "nsw" not in shifted.flags:
                raise Abstained(Reason.WRAP, "an index that wraps around in fewer bits", instruction.line)
            return a.divided(1 << b.constant)
        if instruction.opcode == "xor" and b.constant == -1:
            return -a - 1
        return self._opaque(instruction.opcode, [a, b], instruction)

    def _opaque(self, opcode: str, parts: Sequence[Poly | None], instruction: Instruction) -> Poly | None:
        """A symbol for what is computed of parameters alone."""
        known = [part for part in parts if part is not None]
        symbols = {s for part in known for s in part.symbols}
        if len(known) < len(parts) or any(s not in self.arguments and s not in self.opaque for s in symbols):
            return None
        bits = int(instruction.type[1:])
        for symbol, definition in self.opaque.items():
            if definition == (opcode, tuple(known), bits):
                return Poly.of(symbol)
        symbol = f"q{len(self.opaque)}"
        self.opaque[symbol] = (opcode, tuple(known), bits)
        return Poly.of(symbol)

    def _cast(self, instruction: Instruction, block: str) -> Poly | None:
        operand = instruction.operands[0]
        if operand.type == "i1":
            return None
        value = self.of(operand)
        if value is None or (value.constant is not None and instruction.opcode == "sext"):
            return value
        if instruction.opcode == "zext":
            if "nneg" in instruction.flags:
                return value
            bits = int(operand.type[1:])
            if bits < 32:
                raise Abstained(Reason.WRAP, f"an index of {bits} bits", instruction.line)
            self.require("wrap", at_least_zero(value), block, instruction.line)
        elif instruction.opcode == "trunc":
            if instruction.type == "i1":
                return None
            if "nsw" not in instruction.flags:
                return self._in_range(value, int(instruction.type[1:]), instruction, block)
        elif operand.type != "ptr" and int(operand.type[1:]) < 32:
            raise Abstained(Reason.WRAP, f"an index of {operand.type[1:]} bits", instruction.line)
        return value

    def require(self, kind: str, holds: Condition, block: str, line: int | None, when: Condition = TRUE) -> None:
        if holds == TRUE:
            return
        loop = self.flow.innermost.get(block)
        loops = tuple(o.symbol for o in loop.around) if loop else ()
        self.requirements.append(Requirement(kind, holds, loops, when, line))

    # --- recurrences

    def _phi(self, instruction: Instruction, block: str) -> Poly | None:
        loop = self.flow.innermost.get(block)
        if loop is not None and loop.header == block:
            return self._recurrence(instruction, loop)
        ways = [
            p for p in zip(instruction.operands, instruction.targets, strict=True) if (p[1], block) not in self.dead
        ]
        if not ways:
            return None
        values = [self.of(operand) for operand, _ in ways]
        if len(instruction.operands) == 1:
            source = self.flow.innermost.get(instruction.targets[0])
            if source is not None and source is not loop:
                return self._after(values[0], source)
        first = values[0]
        return first if all(value == first for value in values) else None

    def _recurrence(self, instruction: Instruction, loop: Loop) -> Poly | None:
        """start + step * counter, where the value of the next iteration is this one's plus what the loop leaves alone.

        While that is found out, the phi stands for a symbol of its own; what was computed with it is corrected after.
        """
        by_block = dict(zip(instruction.targets, instruction.operands, strict=True))
        outside = [operand for target, operand in by_block.items() if target not in loop.blocks]
        inside = [operand for target, operand in by_block.items() if target in loop.blocks]
        if len(outside) != 1 or len(inside) != 1:
            return None
        start = self.of(outside[0])
        if start is None:
            return None
        symbol = _PENDING + instruction.name
        before = set(self._known)
        trips = set(self._trips)
        noted = len(self.requirements)
        self._known[instruction.name] = Poly.of(symbol)
        self._pending += 1
        following = self.of(inside[0])
        self._pending -= 1
        step = None if following is None else following - Poly.of(symbol)
        moving = {loop.symbol, symbol} | {o.symbol for o in self.flow.loops if loop in o.around}
        if step is None or any(s in moving or s.startswith(_PENDING) for s in step.symbols):
            for name in set(self._known) - before:
                del self._known[name]
            for name in set(self._trips) - trips:
                del self._trips[name]
            self._forget_bounds(loop)
            del self.requirements[noted:]
            return None
        if instruction.type in ("i8", "i16") and step.terms:
            raise Abstained(Reason.WRAP, f"a counter of {instruction.type[1:]} bits", instruction.line)
        value = start + step * Poly.of(loop.symbol)
        for name in (set(self._known) - before) - {instruction.name}:
            known = self._known[name]
            if known is None:
                del self._known[name]
            else:
                self._known[name] = known.substitute({symbol: value})
        for name in set(self._trips) - trips:
            trip = self._trips[name]
            if trip is None:
                del self._trips[name]
            else:
                self._trips[name] = trip.substitute({symbol: value})
        self._forget_bounds(loop)
        self.requirements[noted:] = [r.with_values({symbol: value}) for r in self.requirements[noted:]]
        self._known[instruction.name] = value
        return value

    def _forget_bounds(self, loop: Loop) -> None:
        """Exits that were computed while a phi was pending are computed again when they are asked for."""
        for inner in self.flow.loops:
            if loop in inner.around:
                self._exits.pop(inner.symbol, None)
        self._conditions.clear()

    def _after(self, value: Poly | None, loop: Loop) -> Poly | None:
        """What a value of the last test of a loop is after the loop."""
        if value is None:
            return None
        inner = {o.symbol for o in self.flow.loops if loop in o.around}
        if not value.symbols & inner:
            return value
        if value.symbols & (inner - {loop.symbol}):
            return None
        trip = self.trip(loop)
        if trip is None:
            return None
        return value.substitute({loop.symbol: trip if self.exit(loop).tested_first else trip - 1})

    # --- how loops end

    def exit(self, loop: Loop) -> Exit:
        """Raises Abstained where the loop ends otherwise than by one test of integers, first or last."""
        known = self._exits.get(loop.symbol)
        if known is not None:
            return known
        line = self.function.blocks[loop.header].terminator.line
        leaving = [b for b in loop.blocks if any(t not in loop.blocks for t in self.flow.successors[b])]
        if len(loop.latches) != 1:
            raise Abstained(Reason.CONTROL, "a loop that continues from several places", line)
        if not leaving:
            raise Abstained(Reason.EXITS, "a loop without an end", line)
        if len(leaving) > 1:
            raise Abstained(Reason.EXITS, "a loop that is left from several places", line)
        [block] = leaving
        terminator = self.function.blocks[block].terminator
        if terminator.opcode != "br" or len(terminator.operands) != 1 or len(set(terminator.targets)) != 2:
            raise Abstained(Reason.CONTROL, "a loop that does not end by a test", line)
        first = block == loop.header and block != loop.latches[0]
        if not first and block != loop.latches[0]:
            raise Abstained(Reason.EXITS, "a loop that is left from its middle", line)
        stays = self.condition(terminator.operands[0])
        if stays is None:
            raise Abstained(
                Reason.DATA_BOUND, "a loop whose end is not a bound of its counter", terminator.line or line
            )
        if terminator.targets[0] not in loop.blocks:
            stays = negated(stays)
        found = Exit(block, first, stays)
        if not self._pending:
            self._exits[loop.symbol] = found
        return found

    def trip(self, loop: Loop) -> Poly | None:
        """How often the body runs, as a polynomial; None where it is none. At least 0 (tested first) is required."""
        if loop.symbol not in self._trips:
            ending = self.exit(loop)
            count = _count(ending.stays, loop.symbol)
            if count is not None and not ending.tested_first:
                count = count + 1
            self._trips[loop.symbol] = count
            if count is not None:
                preheader = next(p for p in self.flow.predecessors[loop.header] if p not in loop.blocks)
                least = 0 if ending.tested_first else 1
                self.require("runs", at_least_zero(count - least), preheader, None)
        return self._trips[loop.symbol]

    # --- conditions

    def condition(self, operand: Operand) -> Condition | None:
        """A condition of integers alone; None where data decide."""
        word = operand.word
        if word in ("true", "false"):
            return TRUE if word == "true" else FALSE
        if word not in self.definitions:
            return None
        if word in self._conditions:
            return self._conditions[word]
        instruction, block = self.definitions[word]
        found = self._condition(instruction, block)
        if not self._pending:
            self._conditions[word] = found
        return found

    def _condition(self, instruction: Instruction, block: str) -> Condition | None:
        opcode = instruction.opcode
        if opcode == "freeze":
            return self.condition(instruction.operands[0])
        if opcode in ("and", "or", "select") and instruction.type == "i1":
            parts = [self.condition(part) for part in instruction.operands]
            known = [part for part in parts if part is not None]
            if len(known) < len(parts):
                return None
            if opcode == "select":
                return either(both(known[0], known[1]), both(negated(known[0]), known[2]))
            return both(*known) if opcode == "and" else either(*known)
        if opcode == "xor" and instruction.operands[1].word == "true":
            inner = self.condition(instruction.operands[0])
            return None if inner is None else negated(inner)
        if opcode == "icmp":
            return self._comparison(instruction, block)
        if opcode == "phi":
            return self._first_time(instruction, block)
        return None

    def _first_time(self, phi: Instruction, block: str) -> Condition | None:
        """A boolean that tells a loop's first iteration from the others."""
        loop = self.flow.innermost.get(block)
        if loop is None or loop.header != block or len(phi.operands) != 2:
            return None
        [start] = [o.word for o, t in zip(phi.operands, phi.targets, strict=True) if t not in loop.blocks] or [""]
        [later] = [o.word for o, t in zip(phi.operands, phi.targets, strict=True) if t in loop.blocks] or [""]
        if {start, later} != {"true", "false"}:
            return None
        first = at_least_zero(-Poly.of(loop.symbol))
        return first if start == "true" else negated(first)

    def _comparison(self, instruction: Instruction, block: str) -> Condition | None:
        predicate = instruction.predicate
        a, b = instruction.operands
        if a.type == "i1":
            return None
        split = self._by_choice(instruction, block)
        if split is not None:
            return split
        if predicate in ("eq", "ne"):
            left, right = self.of(a), self.of(b)
            if left is None and b.word == "0" and (parts := self._united(a)) is not None:
                none = both(*map(equals_zero, parts))
                return none if predicate == "eq" else negated(none)
            if left is None or right is None:
                return None
            equal = equals_zero(left - right)
            return equal if predicate == "eq" else negated(equal)
        if predicate[1:] in ("gt", "ge"):
            a, b = b, a
        lefts, rights = self._alternatives(a, "max"), self._alternatives(b, "min")
        if lefts is None or rights is None:
            return None
        strict = int(predicate[1:] in ("gt", "lt"))
        bounds = [at_least_zero(right - left - strict) for left in lefts for right in rights]
        if predicate[0] == "u" and "samesign" not in instruction.flags:
            for right in rights:
                self.require("wrap", at_least_zero(right), block, instruction.line)
            bounds = [
                *(at_least_zero(left) for left in lefts if not self._is_positive(left, block, instruction)),
                *bounds,
            ]
        return both(*bounds)

    def _by_choice(self, instruction: Instruction, block: str) -> Condition | None:
        """A comparison with c ? x : y, where data do not decide and it is no minimum or maximum."""
        for position, operand in enumerate(instruction.operands):
            chosen, _ = self.definitions.get(operand.word, (None, ""))
            if (
                chosen is None
                or chosen.opcode != "select"
                or self._chosen(chosen, "min")
                or self._chosen(chosen, "max")
            ):
                continue
            condition = self.condition(chosen.operands[0])
            if condition is None or None in [self.of(arm) for arm in chosen.operands[1:]]:
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

    def _united(self, operand: Operand) -> list[Poly] | None:
        """The parts of a | b, which is zero if both are."""
        instruction, _ = self.definitions.get(operand.word, (None, ""))
        if instruction is None or instruction.opcode != "or":
            return None
        parts = [self.of(part) for part in instruction.operands]
        return [part for part in parts if part is not None] if None not in parts else None

    def _is_positive(self, value: Poly, block: str, instruction: Instruction) -> bool:
        """Whether a value is not negative: counters are not, of parameters it is required."""
        if value.symbols <= self.counters and all(factor > 0 for _, factor in value.terms):
            return True
        if value.symbols & self.counters or any(s.startswith(_PENDING) for s in value.symbols):
            return False
        self.require("wrap", at_least_zero(value), block, instruction.line)
        return True

    def _chosen(self, instruction: Instruction, which: str) -> list[Poly] | None:
        """The two values of a < b ? a : b."""
        condition = self.condition(instruction.operands[0])
        a, b = (self.of(operand) for operand in instruction.operands[1:])
        if condition is None or condition.kind != "ge" or a is None or b is None:
            return None
        smaller = b - a if which == "min" else a - b
        return [a, b] if _is_difference(condition.poly, smaller) else None

    def _alternatives(self, operand: Operand, which: str) -> list[Poly] | None:
        """The values of which the operand is the least (`which` min) or the greatest (max); one where it is plain."""
        value = self.of(operand)
        if value is not None:
            return [value]
        if operand.word not in self.definitions:
            return None
        instruction, _ = self.definitions[operand.word]
        if instruction.opcode in ("sext", "zext", "freeze"):
            return self._alternatives(instruction.operands[0], which)
        if instruction.opcode == "select":
            return self._chosen(instruction, which)
        found = _MINIMA.match(instruction.callee) if instruction.opcode == "call" else None
        if found is None or found[2] != which or found[1] != "s":
            return None
        parts = [self._alternatives(part, which) for part in instruction.operands]
        return [p for part in parts if part is not None for p in part] if None not in parts else None


def _is_difference(poly: Poly | None, difference: Poly) -> bool:
    """Whether `poly >= 0` is `difference >= 0` or `difference > 0`."""
    return poly is not None and poly in (difference, difference - 1)


def _count(stays: Condition, symbol: str) -> Poly | None:
    """For how many iterations from 0 on the condition holds, where that is a polynomial."""
    if stays.kind not in ("ge", "ne") or stays.poly is None:
        return None
    poly = stays.poly
    try:
        factor = poly.coefficient(symbol).constant
    except ValueError:
        return None
    rest = poly.without([symbol])
    if factor is None or factor == 0:
        return None
    if stays.kind == "ne":
        return rest.divided(-factor)
    return (rest + 1).divided(-factor) if factor < 0 else None
