"""Registers that a loop carries on, as memory of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernels.raising.expressions import TRUE, Condition, Expr, both, conjuncts, negated
from kernels.raising.ir import Instruction, Operand
from kernels.raising.loops import Loop, incoming
from kernels.raising.memory import CELL, Memory, Point, load
from kernels.raising.polynomials import ZERO
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.scalars import SCALARS
from kernels.raising.values import Values


@dataclass(frozen=True)
class Cell:
    """`loops`: those it has an element for. `start` is what it begins with, written where the block `guard` ends."""

    base: str
    loops: tuple[str, ...]
    start: Expr
    guard: str


Carried = Sequence[tuple[Instruction, Cell]]
"""The phis of a loop's header with their cells."""


class Cells:
    """`by_name`: the cell whose content a register is."""

    def __init__(self, values: Values, memory: Memory) -> None:
        self.by_name: dict[str, Cell] = {}
        self._values, self._memory = values, memory
        self._definitions = values.integers.definitions
        self._function, self._flow = self._definitions.function, self._definitions.flow

    def carried(self, loop: Loop) -> list[Instruction]:
        """The phis of the header that are no polynomials of counters."""
        integers, found = self._values.integers, []
        for phi in self._function.blocks[loop.header].instructions:
            if phi.opcode != "phi":
                break
            if phi.type == "i1" and integers.condition(Operand("i1", phi.name)) is not None:
                continue
            if integers.of(Operand(phi.type, phi.name)) is None:
                found.append(phi)
        return found

    # --- before the loop

    def begin(self, loop: Loop, phis: Sequence[Instruction], point: Point) -> Carried:
        """A cell for each, written with what it begins with; the one of the loop around where it goes on with that."""
        return [(phi, self._begun(loop, phi, point)) for phi in phis]

    def _begun(self, loop: Loop, phi: Instruction, point: Point) -> Cell:
        if phi.type == "ptr":
            raise Abstained(Reason.POINTER, "a pointer that does not move evenly", phi.line)
        if phi.type not in SCALARS:
            reason = Reason.VECTOR if phi.type.startswith("<") else Reason.TYPE
            raise Abstained(reason, f"a value of the type {phi.type}", phi.line)
        [start] = incoming(phi, loop)[0]
        shared = self._continued(loop, phi, start)
        if shared is not None:
            return shared
        value = self._values.of(start)
        preheader = self._flow.preheader(loop)
        guard = self._guard(preheader, loop, value)
        when = point.when if guard == preheader else self._before(guard, preheader, point.when)
        cell = Cell(CELL + phi.name, loop.symbols[:-1], value, guard)
        self._memory.store(cell.base, ZERO, value, phi.type, self._memory.next(Point(point.time, when)), phi.line)
        return cell

    def _guard(self, preheader: str, loop: Loop, value: Expr) -> str:
        """The block that decides whether the loop runs at all, where the start may as well be written before it."""
        if value.loads() or loop.parent is None:
            return preheader
        above = self._flow.dominator[preheader]
        if above == preheader or self._flow.innermost.get(above) is not loop.parent:
            return preheader
        terminator = self._function.blocks[above].terminator
        only = self._flow.predecessors[preheader] == (above,)
        return above if only and terminator.opcode == "br" and len(terminator.operands) == 1 else preheader

    def _before(self, guard: str, preheader: str, when: Condition) -> Condition:
        """The condition of the guard's block, which that of the preheader is a part of."""
        taken = self._values.condition(self._function.blocks[guard].terminator.operands[0])
        if self._values.edges.get((guard, preheader), TRUE) == TRUE:
            return when
        tested = {*conjuncts(taken), *conjuncts(negated(taken))}
        return both(*[part for part in conjuncts(when) if part not in tested])

    def _continued(self, loop: Loop, phi: Instruction, start: Operand) -> Cell | None:
        """The cell of the loop around, where this one begins with its value and leaves it its own."""
        cell = self.by_name.get(start.word)
        outer, block = self._definitions.of(start.word)
        if loop.parent is None or cell is None or outer is None:
            return None
        if block != loop.parent.header or outer.opcode != "phi":
            return None
        [following] = incoming(outer, loop.parent)[1]
        return cell if self._leads_to(following.word, (phi.name, _latched(phi, loop).word)) else None

    def _leads_to(self, word: str, ends: tuple[str, str]) -> bool:
        """Whether a register is one of two others, passed on by the phis by which values leave loops."""
        while word not in ends:
            instruction, block = self._definitions.of(word)
            if instruction is None or instruction.opcode != "phi":
                return False
            pairs = zip(instruction.operands, instruction.targets, strict=True)
            live = [operand for operand, target in pairs if (target, block) not in self._definitions.dead]
            if len(live) != 1:
                return False
            word = live[0].word
        return True

    # --- in the loop, and behind it

    def enter(self, carried: Carried, point: Point) -> None:
        """In an iteration the registers are what their cells hold at its beginning."""
        point = self._memory.next(point)
        for phi, cell in carried:
            self._values.known[phi.name] = load(cell.base, ZERO, phi.type, point, None)
            self.by_name[phi.name] = cell

    def carry(self, loop: Loop, carried: Carried, point: Point) -> None:
        """Write what the next iteration begins with, each before what it is computed from is overwritten."""
        following = [(phi, cell, self._values.of(_latched(phi, loop))) for phi, cell in carried]
        waiting = [entry for entry in following if not (entry[2].op == "load" and entry[2].value.base == entry[1].base)]
        while waiting:
            free = next((entry for entry in waiting if not _is_read(entry[1], entry, waiting)), None)
            if free is None:
                raise Abstained(Reason.CARRIED, "values that a loop exchanges", waiting[0][0].line)
            waiting.remove(free)
            phi, cell, value = free
            definition, _ = self._definitions.of(_latched(phi, loop).word)
            line = definition.line if definition is not None else phi.line
            self._memory.store(cell.base, ZERO, value, phi.type, self._memory.next(point), line)

    def leave(self, loop: Loop, carried: Carried, point: Point, tested_first: bool) -> None:
        """What may be used of a loop behind it: its cells, as they are then."""
        point = self._memory.next(point)
        live: dict[str, Expr] = {}
        for phi, cell in carried:
            name = phi.name if tested_first else _latched(phi, loop).word
            live[name] = load(cell.base, ZERO, phi.type, point, phi.line)
            self.by_name[name] = cell
        problem = Abstained(Reason.LIVE_OUT, "a value of the last iteration is used behind the loop")
        for block in loop.blocks:
            for instruction in self._function.blocks[block].instructions:
                if instruction.name:
                    self._values.known[instruction.name] = live.get(instruction.name, problem)


_Waiting = tuple[Instruction, Cell, Expr]


def _is_read(cell: Cell, own: _Waiting, waiting: Sequence[_Waiting]) -> bool:
    """Whether another of the values is computed from the cell."""
    return any(cell.base in {access.base for access in entry[2].loads()} for entry in waiting if entry is not own)


def _latched(phi: Instruction, loop: Loop) -> Operand:
    """What the iteration before passes on."""
    [operand] = incoming(phi, loop)[1]
    return operand
