"""What registers hold, as trees over reads of memory, and under which conditions branches are taken."""

from __future__ import annotations

import re
import struct

from kernels.raising.expressions import FALSE, MOST_NODES, TRUE, Condition, Expr, both, either, negated
from kernels.raising.integers import Integers
from kernels.raising.ir import Instruction, Operand
from kernels.raising.reasons import Abstained, Reason, vector_instructions
from kernels.raising.scalars import FLOATS


class Values:
    """`known`: by register, its value or why there is none. `edges`: by two blocks, when the branch is taken."""

    def __init__(self, integers: Integers) -> None:
        self.integers = integers
        self.known: dict[str, Expr | Abstained] = {}
        self.edges: dict[tuple[str, str], Condition] = {}
        self._conditions: dict[str, Condition] = {}

    def edge(self, source: str, target: str) -> Condition:
        return self.edges.get((source, target), FALSE)

    def of(self, operand: Operand) -> Expr:
        """Raises Abstained where it is not known."""
        word, kind = operand.word, operand.type
        if kind in FLOATS and not word.startswith("%"):
            return Expr("const", kind, value=_float(word))
        if word in ("undef", "poison"):
            raise Abstained(Reason.CONTROL, "a value that is not defined")
        if word in self.integers.definitions.arguments and kind in FLOATS:
            return Expr("param", kind, value=word)
        number = self.integers.of(operand) if kind.startswith("i") or kind == "ptr" else None
        if number is not None:
            if kind == "ptr":
                raise Abstained(Reason.POINTER, "an address used as a value")
            constant = number.constant
            return Expr("const", kind, value=constant) if constant is not None else Expr("index", kind, value=number)
        return self._register(operand)

    def _register(self, operand: Operand) -> Expr:
        word, kind = operand.word, operand.type
        known = self.known.get(word)
        if isinstance(known, Abstained):
            raise known
        if known is not None:
            return known
        definition, _ = self.integers.definitions.of(word)
        if definition is not None and definition.opcode == "phi" and len(definition.operands) == 1:
            return self.of(definition.operands[0])
        if kind.startswith("<"):
            raise vector_instructions()
        raise Abstained(Reason.TYPE, f"a value of the type {kind[:40]}")

    def condition(self, operand: Operand) -> Condition:
        """A condition of integers, or of data. Raises Abstained."""
        affine = self.integers.condition(operand)
        if affine is not None:
            return affine
        instruction, _ = self.integers.definitions.of(operand.word)
        if instruction is None:
            raise Abstained(Reason.DATA_CONTROL, "a condition that is not computed here")
        if operand.word not in self._conditions:
            self._conditions[operand.word] = self._of_data(instruction)
        return self._conditions[operand.word]

    def _of_data(self, i: Instruction) -> Condition:
        if i.opcode in ("fcmp", "icmp"):
            args = tuple(map(self.of, i.operands))
            return Condition("data", value=node(i.opcode, "i1", args, i, i.predicate))
        if i.opcode in ("and", "or", "select"):
            parts = list(map(self.condition, i.operands))
            if i.opcode == "select":
                return either(both(parts[0], parts[1]), both(negated(parts[0]), parts[2]))
            return both(*parts) if i.opcode == "and" else either(*parts)
        if i.opcode == "xor" and i.operands[1].word == "true":
            return negated(self.condition(i.operands[0]))
        raise Abstained(Reason.DATA_CONTROL, f"a condition by the instruction {i.opcode}", i.line)


def node(op: str, kind: str, args: tuple[Expr, ...], i: Instruction, value: object = None) -> Expr:
    """What an instruction computes, with its flags. Raises Abstained for a tree that is too large."""
    size = 1 + sum(arg.size for arg in args)
    if size > MOST_NODES:
        raise Abstained(Reason.LARGE, "a value of very many operations", i.line)
    return Expr(op, kind, args, value, i.flags, size)


def chosen(condition: Condition, i: Instruction, a: Expr, b: Expr) -> Expr:
    """a where the condition holds, else b."""
    if condition == TRUE or a == b:
        return a
    if condition == FALSE:
        return b
    return node("select", i.type, (a, b), i, condition)


def _float(word: str) -> float:
    """A constant as LLVM prints it: decimal, or the bits of a double in hexadecimal."""
    if re.fullmatch(r"0x[0-9A-Fa-f]{16}", word):
        return float(struct.unpack(">d", bytes.fromhex(word[2:]))[0])
    try:
        return float(word)
    except ValueError as error:
        raise Abstained(Reason.TYPE, f"the constant {word[:40]}") from error
