"""Numbers that are handed over by their address, as Fortran does, taken as the numbers themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kernels.raising.calls import is_without_effect
from kernels.raising.ir import Argument, Block, Function, Instruction, Operand

_NUMBERS = ("i32", "i64")


def by_value(function: Function) -> Function:
    """The function with its pointers to single integers as integers, where it makes no difference when they are read:
    nobody else may write there while it runs (`noalias`), or all is read before anything is written."""
    found = {a.name: kind for a in function.arguments if a.type == "ptr" and (kind := _number(a, function))}
    if not found:
        return function
    values = {
        i.name: Operand(i.type, i.operands[0].word)
        for block in function.blocks.values()
        for i in block.instructions
        if i.opcode == "load" and i.operands[0].word in found
    }
    arguments = tuple(
        replace(a, type=found[a.name], noalias=False, reference=True) if a.name in found else a
        for a in function.arguments
    )
    blocks = {
        name: Block(name, [_using(i, values) for i in block.instructions if i.name not in values])
        for name, block in function.blocks.items()
    }
    return replace(function, arguments=arguments, blocks=blocks)


def _number(argument: Argument, function: Function) -> str:
    """The type of the number that an argument points to; "" where it is not used as one."""
    used = [i for block in function.blocks.values() for i in block.instructions if _uses(i, argument.name)]
    kinds = {i.type for i in used}
    plain = all(i.opcode == "load" and not i.flags & {"volatile", "atomic"} for i in used)
    if not plain or len(kinds) != 1 or not kinds <= set(_NUMBERS):
        return ""
    first = {i.name for i in _before_writes(next(iter(function.blocks.values())))}
    return kinds.pop() if argument.noalias or all(i.name in first for i in used) else ""


def _uses(instruction: Instruction, word: str) -> bool:
    """Whether a name is among the operands, or in the text of one that is an expression."""
    return any(operand.word == word or word in operand.word.split() for operand in instruction.operands)


def _before_writes(block: Block) -> Iterator[Instruction]:
    for instruction in block.instructions:
        if instruction.opcode == "call" and not is_without_effect(instruction.callee):
            return
        if instruction.opcode not in ("call", "load") and instruction.type == "void":
            return
        if instruction.opcode.startswith("unread") or instruction.opcode in ("cmpxchg", "atomicrmw"):
            return
        yield instruction


def _using(instruction: Instruction, values: dict[str, Operand]) -> Instruction:
    if not any(operand.word in values for operand in instruction.operands):
        return instruction
    return replace(instruction, operands=tuple(values.get(o.word, o) for o in instruction.operands))
