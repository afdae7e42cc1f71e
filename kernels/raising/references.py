"""Numbers that are handed over by their address, as Fortran does, taken as the numbers themselves.

They are the same numbers all the time as long as no array that the function writes lies there. That is taken for
granted as it is of arrays: the exported function tests it.
"""

from __future__ import annotations

from dataclasses import replace

from kernels.raising.ir import Argument, Block, Function, Instruction, Operand

_NUMBERS = ("i32", "i64")


def by_value(function: Function) -> Function:
    """The function with its pointers to single integers, which it only reads, as integers."""
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
    """The type of the number that an argument points to; "" where it is not used as a size."""
    used = [i for block in function.blocks.values() for i in block.instructions if _uses(i, argument.name)]
    kinds = {i.type for i in used}
    plain = all(i.opcode == "load" and not i.flags & {"volatile", "atomic"} for i in used)
    if not plain or len(kinds) != 1 or not kinds <= set(_NUMBERS):
        return ""
    return kinds.pop() if _decides({i.name for i in used}, function) else ""


_VALUES = ("br", "call", "store", "switch", "ret")
"""What hands on no integer that it was given."""


def _decides(names: set[str], function: Function) -> bool:
    """Whether values decide which way is gone, or which element is meant."""
    instructions = [i for block in function.blocks.values() for i in block.instructions]
    grown = True
    while grown:
        using = [i for i in instructions if any(operand.word in names for operand in i.operands)]
        if any(i.opcode in ("br", "switch", "getelementptr") for i in using):
            return True
        new = {i.name for i in using if i.type.startswith("i") and (i.opcode not in _VALUES or "llvm." in i.callee)}
        grown = not new <= names
        names = names | new
    return False


def _uses(instruction: Instruction, word: str) -> bool:
    """Whether a name is among the operands, or in the text of one that is an expression."""
    return any(operand.word == word or word in operand.word.split() for operand in instruction.operands)


def _using(instruction: Instruction, values: dict[str, Operand]) -> Instruction:
    if not any(operand.word in values for operand in instruction.operands):
        return instruction
    return replace(instruction, operands=tuple(values.get(o.word, o) for o in instruction.operands))
