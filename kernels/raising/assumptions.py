"""What is taken for granted of parameters: that there is any work."""

from __future__ import annotations

from kernels.raising.definitions import Definitions
from kernels.raising.expressions import FALSE, TRUE, negated
from kernels.raising.integers import Integers
from kernels.raising.loops import Flow

_MOST_STEPS = 64


def assume_work(definitions: Definitions, integers: Integers) -> None:
    """Where parameters alone decide whether loops are reached, require that they are; the other edge is dead."""
    for name, block in definitions.function.blocks.items():
        terminator = block.terminator
        if terminator.opcode != "br" or not terminator.operands or len(set(terminator.targets)) < 2:
            continue
        [tested] = terminator.operands
        if not definitions.flow.predecessors.keys() >= {name, *terminator.targets}:
            continue  # it is not reached, or ends the program on one of the ways
        if not _is_of_parameters(tested.word, definitions):
            continue
        works = [_leads_to_loops(target, name, definitions.flow) for target in terminator.targets]
        if works[0] == works[1]:
            continue
        condition = integers.condition(tested)
        if condition is None or condition in (TRUE, FALSE):
            continue
        definitions.require("guard", condition if works[0] else negated(condition), name, terminator.line)
        definitions.dead.add((name, terminator.targets[0 if works[1] else 1]))


def _is_of_parameters(word: str, definitions: Definitions) -> bool:
    """Whether a condition is computed of arguments, without phis and memory."""
    work, seen = [word], 0
    while work:
        word = work.pop()
        seen += 1
        if not word.startswith("%") or word in definitions.arguments:
            continue
        instruction, _ = definitions.of(word)
        if instruction is None or instruction.opcode in ("phi", "load", "call", "alloca") or seen > _MOST_STEPS:
            return False
        work += [operand.word for operand in instruction.operands]
    return True


def _leads_to_loops(target: str, source: str, flow: Flow) -> bool:
    """Whether a branch leads to loops that the other way does not."""
    if flow.predecessors[target] != (source,):
        return False
    return any(flow.dominates(target, loop.header) for loop in flow.loops)
