"""Pointers as an array and a byte in it, or why they are none."""

from __future__ import annotations

from kernels.raising.definitions import POINTER
from kernels.raising.integers import Integers
from kernels.raising.ir import Instruction, Operand
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason

_MOST_STEPS = 20


def address_of(pointer: Operand, integers: Integers) -> tuple[str, Poly]:
    """The array and the offset in bytes. Raises Abstained where the pointer is none of one array."""
    address = integers.of(pointer)
    if address is None:
        raise why_no_address(integers.definitions.of(pointer.word)[0], integers)
    bases = [symbol for symbol in address.symbols if symbol.startswith(POINTER)]
    if len(bases) != 1 or address.coefficient(bases[0]).constant != 1:
        raise Abstained(Reason.POINTER, "an address that is not one of one array")
    return bases[0].removeprefix(POINTER), address.without(bases)


def why_no_address(instruction: Instruction | None, integers: Integers) -> Abstained:
    """The reason why what an instruction computes is no polynomial, as a problem of an address."""
    for _ in range(_MOST_STEPS):
        if instruction is None:
            break
        line = instruction.line
        if instruction.opcode == "load" and instruction.type == "ptr":
            return Abstained(Reason.POINTER, "a pointer that is read from memory", line)
        if instruction.opcode == "load":
            return Abstained(Reason.INDIRECT, "a subscript that is read from memory", line)
        if instruction.opcode in ("phi", "select"):
            return Abstained(Reason.POINTER, "an address that depends on the way to it", line)
        if instruction.opcode == "call":
            return Abstained(Reason.POINTER, "an address that a call returns", line)
        instruction = _unknown_operand(instruction, integers)
    return Abstained(Reason.SUBSCRIPT, "an address that is no polynomial of counters and parameters")


def _unknown_operand(instruction: Instruction, integers: Integers) -> Instruction | None:
    """What gives the first operand that is no polynomial."""
    for operand in instruction.operands:
        definition, _ = integers.definitions.of(operand.word)
        if definition is not None and integers.of(Operand(definition.type, operand.word)) is None:
            return definition
    return None
