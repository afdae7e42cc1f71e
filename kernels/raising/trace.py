"""A function as a list of stores: which element, what value, in which loops, under which conditions, in which order.

A register that a loop carries on (a sum) is written as memory of its own, a *cell*, one element for each iteration of
the loops around. So a sum in a register and a sum in memory are the same thing from here on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kernels.raising.definitions import POINTER, Definitions, Requirement
from kernels.raising.expressions import (
    FALSE,
    MOST_NODES,
    TRUE,
    Access,
    Condition,
    Expr,
    at_least_zero,
    both,
    either,
    negated,
    substituted,
    without_data,
)
from kernels.raising.integers import Integers
from kernels.raising.ir import Block, Function, Instruction, Operand
from kernels.raising.loops import Flow, Loop, flow_of
from kernels.raising.polynomials import ZERO, Poly
from kernels.raising.reasons import Abstained, Reason

CELL = "cell:"
RESULT = "result:"

_IGNORED = re.compile(
    r"llvm\.(dbg|lifetime|assume|experimental\.noalias|donothing|annotation|invariant|sideeffect|stacksave|stackrestore)"
)
_MATH = {
    name + suffix: name
    for name in ["exp", "log", "sqrt", "tanh", "sin", "cos", "pow", "fabs", "floor", "ceil", "exp2", "log2", "erf"]
    for suffix in ("", "f")
} | {"fmax": "maxnum", "fmaxf": "maxnum", "fmin": "minnum", "fminf": "minnum"}
_INTRINSIC = re.compile(
    r"llvm\.(exp|exp2|log|log2|sqrt|pow|fabs|floor|ceil|sin|cos|tanh|maxnum|minnum|fmuladd|fma|smax|smin|umax|umin|abs)"
    r"\.\w+$"
)
_FLOATS = ("float", "double")
_VALUES = {
    "fadd", "fsub", "fmul", "fdiv", "add", "sub", "mul", "sext", "zext", "trunc", "sitofp", "uitofp", "fpext",
    "fptrunc", "fneg", "fptosi", "shl", "and", "or", "xor", "ashr", "lshr", "sdiv", "udiv", "srem", "urem", "frem",
    "fptoui",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Statement:
    """`target` gets `value`, whose loads happen earlier than the store (see `access.Order`). `place`: its number.

    `filled`: the bytes from there on that are set to zero, where that is what it does; the type is not known then.
    `conditional`: data decide whether it happens; the value is then a choice of the new one and the old.
    """

    target: Access
    value: Expr
    place: int
    filled: Poly | None = None
    conditional: bool = False


@dataclass
class Nest:
    """What a loop at the top of a function does, or why that is not known."""

    loop: Loop
    statements: list[Statement] = field(default_factory=list)
    problem: Abstained | None = None
    place: int = 0


@dataclass
class Trace:
    """`bounds`: by loop symbol, what holds in its body. `cells`: the loops that a cell has an element for. `problem`:
    why what stands outside of loops is not known. `loose` are its stores, `barriers` the places of what is
    not known."""

    function: Function
    flow: Flow
    definitions: Definitions
    integers: Integers
    bounds: dict[str, Condition]
    nests: list[Nest]
    loose: list[Statement]
    problem: Abstained | None
    cells: dict[str, tuple[str, ...]]
    barriers: list[int]


def trace(function: Function) -> Trace:
    """Raises Abstained where the control flow is not made of loops and branches."""
    return _Tracer(function).run()


@dataclass(frozen=True)
class _Cell:
    """`access` reads it at the time of the access; `start` is what it begins with, written where `guard` ends."""

    base: str
    loops: tuple[str, ...]
    start: Expr
    guard: str


class _Tracer:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.flow = flow_of(function)
        self.definitions = Definitions(function, self.flow)
        self.integers = Integers(self.definitions)
        self.bounds: dict[str, Condition] = {}
        self.values: dict[str, Expr | Abstained] = {}
        self.data: dict[str, Condition | Abstained] = {}
        self.edges: dict[tuple[str, str], Condition] = {}
        self.statements: list[Statement] = []
        self.cells: dict[str, _Cell] = {}
        self.clock = 0
        self.loop: Loop | None = None
        self.problem: Abstained | None = None
        self.nests: list[Nest] = []
        self.barriers: list[int] = []

    def run(self) -> Trace:
        self._assumptions()
        loose: list[Statement] = []
        self.loose = loose
        self._region(None, (), TRUE)
        return Trace(
            self.function, self.flow, self.definitions, self.integers, self.bounds, self.nests, loose, self.problem,
            {cell.base: cell.loops for cell in self.cells.values()}, self.barriers,
        )  # fmt: skip

    # --- regions: the blocks of a function or a loop, inner loops as wholes

    def _region(self, loop: Loop | None, time: tuple[int | str, ...], when: Condition) -> None:
        inside = [name for name in self.flow.order if loop is None or name in loop.blocks]
        start = inside[0]
        for name in inside:
            inner = self.flow.innermost.get(name)
            if name == start:
                condition = TRUE
            else:
                known = [self.edges.get((p, name), FALSE) for p in self.flow.predecessors[name]]
                condition = either(*known)
            if inner is not loop:
                if inner is not None and inner.header == name and inner.parent is loop:
                    self._loop(inner, time, both(when, condition), condition)
                continue
            if condition == FALSE:
                continue  # not reached, under what was assumed
            self._block(self.function.blocks[name], loop, time, when, condition)
            self._branch(self.function.blocks[name], loop, condition)

    def _branch(self, block: Block, loop: Loop | None, condition: Condition) -> None:
        terminator = block.terminator
        targets = terminator.targets
        if terminator.opcode != "br" or not terminator.operands or len(set(targets)) < 2:
            for target in targets:
                self.edges[block.name, target] = condition
            if terminator.opcode not in ("br", "ret", "unreachable"):
                self._trouble(Abstained(Reason.CONTROL, f"the instruction {terminator.opcode}", terminator.line))
            return
        if loop is not None and self.integers.exit(loop).block == block.name:
            for target in targets:
                self.edges[block.name, target] = condition
            return
        chosen = self._condition(terminator.operands[0], block.name)
        for target, way in zip(targets, (chosen, negated(chosen)), strict=True):
            if (block.name, target) in self.definitions.dead:
                self.edges[block.name, target] = FALSE
            elif any((block.name, other) in self.definitions.dead for other in targets):
                self.edges[block.name, target] = condition
            else:
                self.edges[block.name, target] = both(condition, way)

    def _assumptions(self) -> None:
        """Where parameters alone decide whether there is any work, it is assumed that there is."""
        for block in self.function.blocks.values():
            terminator = block.terminator
            if terminator.opcode != "br" or not terminator.operands or len(set(terminator.targets)) < 2:
                continue
            if block.name not in self.flow.predecessors or not self._is_of_parameters(terminator.operands[0].word):
                continue
            works = [self._works(target, block.name) for target in terminator.targets]
            if works[0] == works[1]:
                continue
            chosen = self.integers.condition(terminator.operands[0])
            if chosen is None or chosen in (TRUE, FALSE):
                continue
            self.definitions.require("guard", chosen if works[0] else negated(chosen), block.name, terminator.line)
            self.definitions.dead.add((block.name, terminator.targets[0 if works[1] else 1]))

    def _is_of_parameters(self, word: str) -> bool:
        """Whether a condition is computed of arguments, without phis and memory."""
        work, seen = [word], 0
        while work:
            word = work.pop()
            seen += 1
            if not word.startswith("%") or word in self.definitions.arguments:
                continue
            instruction, _ = self.definitions.of(word)
            if instruction is None or instruction.opcode in ("phi", "load", "call", "alloca") or seen > 64:
                return False
            work += [operand.word for operand in instruction.operands]
        return True

    def _works(self, target: str, source: str) -> bool:
        """Whether a branch leads to loops that the other way does not."""
        if self.flow.predecessors[target] != (source,):
            return False
        below = [name for name in self.flow.order if self.flow.dominates(target, name)]
        headers = {loop.header for loop in self.flow.loops}
        return any(name in headers for name in below)

    def _trouble(self, problem: Abstained) -> None:
        """Something outside of loops that is not understood: the nests around it are read all the same."""
        if self.loop is not None:
            raise problem
        self.problem = self.problem or problem
        self.clock += 1
        self.barriers.append(self.clock)

    # --- loops

    def _loop(self, loop: Loop, time: tuple[int | str, ...], when: Condition, local: Condition) -> None:
        if loop.parent is not None:
            self._inner_loop(loop, time, when)
        else:
            self._nest(loop, time, when)
        for block in loop.blocks:
            for target in self.flow.successors[block]:
                if target not in loop.blocks:
                    self.edges[block, target] = local

    def _nest(self, loop: Loop, time: tuple[int | str, ...], when: Condition) -> None:
        self.clock += 1
        nest = Nest(loop, place=self.clock)
        self.nests.append(nest)
        before, self.statements = self.statements, []
        noted = len(self.definitions.requirements)
        self.loop = loop
        try:
            self._inner_loop(loop, time, when)
        except Abstained as problem:
            nest.problem = problem if problem.line else Abstained(
                problem.reason, problem.detail, self.function.blocks[loop.header].terminator.line
            )  # fmt: skip
        except RecursionError:
            nest.problem = Abstained(Reason.LARGE, "a chain of instructions that is too long to follow")
        self.loop = None
        if nest.problem is not None:
            del self.definitions.requirements[noted:]
            for block in loop.blocks:
                for instruction in self.function.blocks[block].instructions:
                    self.values[instruction.name] = nest.problem
        else:
            nest.statements = self.statements
        self.statements = before

    def _inner_loop(self, loop: Loop, time: tuple[int | str, ...], when: Condition) -> None:
        if not when.is_affine:
            raise Abstained(Reason.DATA_CONTROL, "a loop that runs or not as data decide")
        ending = self.integers.exit(loop)
        self._bound(loop, ending.stays, ending.tested_first, when)
        header = self.function.blocks[loop.header]
        if ending.tested_first and any(i.opcode in ("store",) for i in header.instructions):
            raise Abstained(Reason.CONTROL, "a store in the test of a loop")
        carried = []
        for phi in header.instructions:
            if phi.opcode != "phi":
                break
            if phi.type == "i1" and self.integers.condition(Operand("i1", phi.name)) is not None:
                continue
            if self.integers.of(Operand(phi.type, phi.name)) is None:
                carried.append(phi)
        inner_when = both(when)
        starts = self._starts(loop, carried, time, when)
        self.clock += 1
        inside = (*time, self.clock, loop.symbol)
        loops = tuple(o.symbol for o in loop.around)
        self.clock += 1
        for phi, cell in starts:
            self.values[phi.name] = self._load(
                cell.base, ZERO, phi.type, (*inside, self.clock), loops, inner_when, None
            )
            self.cells[phi.name] = cell
        self._region(loop, inside, inner_when)
        self._carry(loop, starts, inside, loops, inner_when)
        self.clock += 1
        self._after(loop, starts, (*time, self.clock), when)

    def _bound(self, loop: Loop, stays: Condition, first: bool, when: Condition) -> None:
        """What holds in the body, from the condition under which the loop goes on."""
        symbol = loop.symbol
        kept = [at_least_zero(Poly.of(symbol))]
        back = {symbol: Poly.of(symbol) - 1}
        for literal in stays.parts if stays.kind == "and" else [stays]:
            bound = self._literal(loop, literal, first, when)
            if bound is None:
                continue
            kept.append(bound if first else substituted(bound, back))
            if not first:
                # the first iteration is not tested: it must be one that would pass
                self._require("runs", substituted(substituted(bound, back), {symbol: ZERO}), loop, when)
        if len(kept) == 1:
            raise Abstained(Reason.EXITS, "a loop without an end", self.function.blocks[loop.header].terminator.line)
        self.bounds[symbol] = both(*kept)

    def _literal(self, loop: Loop, literal: Condition, first: bool, when: Condition) -> Condition | None:
        """A part of the condition that once false stays false; None where it holds from the start for ever."""
        line = self.function.blocks[loop.header].terminator.line
        poly = literal.poly
        if literal.kind == "or":
            return either(*(self._way(loop, part, first, when) for part in literal.parts))
        if poly is None:
            raise Abstained(Reason.DATA_BOUND, "a loop with a bound that is no inequality", line)
        try:
            factor = poly.coefficient(loop.symbol).constant
        except ValueError:
            factor = None
        if factor is None or literal.kind == "eq":
            raise Abstained(Reason.DATA_BOUND, "a loop whose bound does not move evenly with its counter", line)
        start = poly.substitute({loop.symbol: ZERO if first else Poly.of(0)})
        if literal.kind == "ne":
            divided = poly.divided(abs(factor)) if factor else None
            if divided is None:
                raise Abstained(Reason.WRAP, "a loop that may step over its end", line)
            down = divided if factor < 0 else -divided
            # not equal until the counter gets there: it must not have passed it
            self._require("runs", at_least_zero(down.substitute({loop.symbol: ZERO})), loop, when)
            return at_least_zero(down - 1)
        if factor > 0:
            self._require("runs", at_least_zero(start), loop, when)
            return None
        return at_least_zero(poly)

    def _way(self, loop: Loop, part: Condition, first: bool, when: Condition) -> Condition:
        """One of several bounds, of which something that the loop leaves alone chooses."""
        literals = part.parts if part.kind == "and" else (part,)
        fixed = [p for p in literals if not any(loop.symbol in q.poly.symbols for q in p.leaves if q.poly)]
        if not all(p.is_affine for p in literals) or any(p.parts for p in literals if p not in fixed):
            line = self.function.blocks[loop.header].terminator.line
            raise Abstained(Reason.DATA_BOUND, "a loop with a bound that is no inequality", line)
        noted = len(self.definitions.requirements)
        bounds = [self._literal(loop, p, first, both(when, *fixed)) for p in literals if p not in fixed]
        if None in bounds:  # true from its start on: not one of several
            del self.definitions.requirements[noted:]
            raise Abstained(Reason.DATA_BOUND, "a loop with a bound that is no inequality")
        return both(*fixed, *(bound for bound in bounds if bound is not None))

    def _require(self, kind: str, holds: Condition, loop: Loop, when: Condition) -> None:
        if holds == TRUE:
            return
        outer = tuple(o.symbol for o in loop.around[:-1])
        line = self.function.blocks[loop.header].terminator.line
        self.definitions.requirements.append(Requirement(kind, holds, outer, when, line))

    # --- registers that a loop carries on

    def _starts(
        self, loop: Loop, carried: Sequence[Instruction], time: tuple[int | str, ...], when: Condition
    ) -> list[tuple[Instruction, _Cell]]:
        """A cell for each, written with what it begins with; the one of the loop around where it goes on with that."""
        outer = tuple(o.symbol for o in loop.around[:-1])
        preheader = next(p for p in self.flow.predecessors[loop.header] if p not in loop.blocks)
        found = []
        for phi in carried:
            if phi.type == "ptr":
                raise Abstained(Reason.POINTER, "a pointer that does not move evenly", phi.line)
            if phi.type not in (*_FLOATS, "i8", "i16", "i32", "i64"):
                reason = Reason.VECTOR if phi.type.startswith("<") else Reason.TYPE
                raise Abstained(reason, f"a value of the type {phi.type}", phi.line)
            [start] = [o for o, t in zip(phi.operands, phi.targets, strict=True) if t not in loop.blocks]
            shared = self._continued(loop, phi, start)
            if shared is not None:
                found.append((phi, shared))
                continue
            value = self._value(start)
            guard = self._guard(preheader, loop, value)
            cell = _Cell(CELL + phi.name, outer, value, guard)
            condition = when
            if guard != preheader:
                condition = self._entered(guard, when, preheader)
            self.clock += 1
            self._store(cell.base, ZERO, phi.type, (*time, self.clock), outer, condition, phi.line, value)
            found.append((phi, cell))
        return found

    def _guard(self, preheader: str, loop: Loop, value: Expr) -> str:
        """The block that decides whether the loop runs at all, where the start may as well be written before it."""
        if value.loads() or loop.parent is None:
            return preheader
        above = self.flow.dominator[preheader]
        if above == preheader or self.flow.innermost.get(above) is not loop.parent:
            return preheader
        terminator = self.function.blocks[above].terminator
        only = self.flow.predecessors[preheader] == (above,)
        return above if only and terminator.opcode == "br" and len(terminator.operands) == 1 else preheader

    def _entered(self, guard: str, when: Condition, preheader: str) -> Condition:
        """The condition of the guard's block, which that of the preheader is a part of."""
        edge = self.edges.get((guard, preheader), TRUE)
        chosen = self._condition(self.function.blocks[guard].terminator.operands[0], guard)
        literals = {*(chosen.parts if chosen.kind == "and" else [chosen])}
        literals |= {*(negated(chosen).parts if negated(chosen).kind == "and" else [negated(chosen)])}
        if edge == TRUE:
            return when
        kept = [p for p in (when.parts if when.kind == "and" else [when]) if p not in literals]
        return both(*kept)

    def _continued(self, loop: Loop, phi: Instruction, start: Operand) -> _Cell | None:
        """The cell of the loop around, where this one begins with its value and leaves it its own."""
        if loop.parent is None or start.word not in self.cells:
            return None
        outer, block = self.definitions.of(start.word)
        if outer is None or block != loop.parent.header or outer.opcode != "phi":
            return None
        [following] = [o for o, t in zip(outer.operands, outer.targets, strict=True) if t in loop.parent.blocks]
        word = following.word
        [latched] = [o for o, t in zip(phi.operands, phi.targets, strict=True) if t in loop.blocks]
        while word not in (phi.name, latched.word):  # through the phis by which values leave loops
            instruction, block = self.definitions.of(word)
            if instruction is None or instruction.opcode != "phi":
                return None
            pairs = zip(instruction.operands, instruction.targets, strict=True)
            live = [operand for operand, target in pairs if (target, block) not in self.definitions.dead]
            if len(live) != 1:
                return None
            word = live[0].word
        return self.cells[start.word]

    def _carry(
        self, loop: Loop, starts: Sequence[tuple[Instruction, _Cell]], inside: tuple[int | str, ...],
        loops: tuple[str, ...], when: Condition,
    ) -> None:  # fmt: skip
        """Write what the next iteration begins with, each before what it is computed from is overwritten."""
        waiting = []
        for phi, cell in starts:
            [latched] = [o for o, t in zip(phi.operands, phi.targets, strict=True) if t in loop.blocks]
            value = self._value(latched)
            if value.op == "load" and value.value.base == cell.base:
                continue  # it stands there already
            waiting.append((phi, cell, value))
        while waiting:
            free = [
                entry for entry in waiting
                if not any(o is not entry and entry[1].base in {a.base for a in o[2].loads()} for o in waiting)
            ]  # fmt: skip
            if not free:
                raise Abstained(Reason.CARRIED, "values that a loop exchanges", waiting[0][0].line)
            phi, cell, value = free[0]
            waiting.remove(free[0])
            self.clock += 1
            definition, _ = self.definitions.of(self._latched(loop, phi))
            line = definition.line if definition else phi.line
            self._store(cell.base, ZERO, phi.type, (*inside, self.clock), loops, when, line, value)

    def _latched(self, loop: Loop, phi: Instruction) -> str:
        return next(o.word for o, t in zip(phi.operands, phi.targets, strict=True) if t in loop.blocks)

    def _after(
        self, loop: Loop, starts: Sequence[tuple[Instruction, _Cell]], time: tuple[int | str, ...], when: Condition
    ) -> None:
        """What may be used of a loop behind it: its cells, as they are then."""
        outer = tuple(o.symbol for o in loop.around[:-1])
        first = self.integers.exit(loop).tested_first
        live: dict[str, Expr] = {}
        for phi, cell in starts:
            name = phi.name if first else self._latched(loop, phi)
            live[name] = self._load(cell.base, ZERO, phi.type, time, outer, when, phi.line)
            self.cells[name] = cell
        problem = Abstained(Reason.LIVE_OUT, "a value of the last iteration is used behind the loop")
        for block in loop.blocks:
            for instruction in self.function.blocks[block].instructions:
                if instruction.name and instruction.opcode not in ("store", "br"):
                    self.values[instruction.name] = live.get(instruction.name, problem)

    # --- blocks

    def _block(
        self, block: Block, loop: Loop | None, time: tuple[int | str, ...], when: Condition, condition: Condition
    ) -> None:
        loops = tuple(o.symbol for o in loop.around) if loop else ()
        full = both(when, condition)
        for instruction in block.instructions[:-1]:
            self.clock += 1
            try:
                self._instruction(instruction, block, loop, (*time, self.clock), loops, full)
            except Abstained as problem:
                if problem.line is None:
                    problem.line = instruction.line
                if loop is not None:
                    raise
                self.values[instruction.name] = problem
                if instruction.opcode in ("store", "call") or "volatile" in instruction.flags:
                    self._trouble(problem)
        terminator = block.terminator
        if terminator.opcode == "ret" and terminator.operands:
            self._returned(terminator, (*time, self.clock + 1), full)

    def _returned(self, terminator: Instruction, time: tuple[int | str, ...], when: Condition) -> None:
        [operand] = terminator.operands
        self.clock += 1
        try:
            if when != TRUE:
                raise Abstained(Reason.CONTROL, "a value that is returned from several places", terminator.line)
            value = self._value(operand)
        except Abstained as problem:
            self._trouble(problem)
            return
        self._store(RESULT, ZERO, operand.type, time, (), TRUE, terminator.line, value)

    def _instruction(
        self, i: Instruction, block: Block, loop: Loop | None, time: tuple[int | str, ...], loops: tuple[str, ...],
        when: Condition,
    ) -> None:  # fmt: skip
        if "volatile" in i.flags:
            raise Abstained(Reason.VOLATILE, "a volatile access")
        if "atomic" in i.flags or i.opcode in ("cmpxchg", "atomicrmw", "fence"):
            raise Abstained(Reason.ATOMIC, "an atomic access")
        if i.type.startswith("<") or any(o.type.startswith("<") for o in i.operands):
            raise Abstained(Reason.VECTOR, "vector instructions: compile with -fno-vectorize -fno-slp-vectorize")
        if i.opcode == "phi" and loop is not None and loop.header == block.name:
            return
        if i.opcode == "store":
            value, pointer = i.operands
            base, offset = self._place(pointer)
            self._store(base, offset, value.type, time, loops, when, i.line, self._value(value))
        elif i.opcode == "load":
            if i.type == "ptr":
                self.values[i.name] = Abstained(Reason.POINTER, "a pointer that is read from memory", i.line)
                return
            self.values[i.name] = self._read(i, i.operands[0], block, time, loops, when)
        elif i.opcode == "call":
            self._call(i, time, loops, when)
        elif i.type == "i1" or i.opcode in ("icmp", "fcmp"):
            pass  # conditions are made where they are used
        elif i.name and self.integers.of(Operand(i.type, i.name)) is None:
            self.values[i.name] = self._computed(i, block)

    def _read(
        self, i: Instruction, pointer: Operand, block: Block, time: tuple[int | str, ...], loops: tuple[str, ...],
        when: Condition,
    ) -> Expr:  # fmt: skip
        """A load; of one of two addresses, a choice of two loads."""
        chosen, where = self.definitions.of(pointer.word)
        if chosen is None or self.integers.of(pointer) is not None or chosen.opcode not in ("select", "phi"):
            base, offset = self._place(pointer)
            return self._load(base, offset, i.type, time, loops, when, i.line)
        if chosen.opcode == "select":
            a, b = (self._read(i, p, block, time, loops, when) for p in chosen.operands[1:])
            return self._chosen(self._condition(chosen.operands[0], block.name), i, a, b)
        loop = self.flow.innermost.get(where)
        if (loop is not None and loop.header == where) or len(chosen.operands) != 2:
            raise self._why_no_address(chosen)
        a, b = (self._read(i, p, block, time, loops, when) for p in chosen.operands)
        return self._chosen(self.edges.get((chosen.targets[0], where), FALSE), i, a, b)

    def _computed(self, i: Instruction, block: Block) -> Expr | Abstained:
        try:
            if i.opcode == "phi":
                return self._merged(i, block)
            if i.opcode == "select":
                return self._chosen(self._condition(i.operands[0], block.name), i, *map(self._value, i.operands[1:]))
            if i.opcode == "freeze":
                return self._value(i.operands[0])
            if i.opcode == "alloca":
                return Abstained(Reason.TYPE, "a local array of a type that is not read", i.line)
            if i.opcode in ("zext", "sext", "uitofp", "sitofp") and i.operands[0].type == "i1":
                one = Expr("const", i.type, value=1 if i.opcode != "sext" else -1)
                chosen = self._condition(i.operands[0], block.name)
                return self._chosen(chosen, i, one, Expr("const", i.type, value=0))
            if i.opcode not in _VALUES:
                return Abstained(Reason.OPERATOR, f"the instruction {i.opcode}", i.line)
            return self._node(i.opcode, i.type, tuple(map(self._value, i.operands)), i.flags, i.line)
        except Abstained as problem:
            return problem

    def _node(
        self, op: str, kind: str, args: tuple[Expr, ...], flags: frozenset[str], line: int | None, value: object = None
    ) -> Expr:
        size = 1 + sum(arg.size for arg in args)
        if size > MOST_NODES:
            raise Abstained(Reason.LARGE, "a value of very many operations", line)
        return Expr(op, kind, args, value, flags, size)

    def _chosen(self, condition: Condition, i: Instruction, a: Expr, b: Expr) -> Expr:
        if condition == TRUE or a == b:
            return a
        if condition == FALSE:
            return b
        return self._node("select", i.type, (a, b), i.flags, i.line, condition)

    def _merged(self, phi: Instruction, block: Block) -> Expr:
        """The value by the way on which the block was reached."""
        pairs = [
            (self.edges.get((target, block.name), FALSE), operand)
            for operand, target in zip(phi.operands, phi.targets, strict=True)
        ]
        pairs = [(edge, operand) for edge, operand in pairs if edge != FALSE]
        if not pairs:
            raise Abstained(Reason.CONTROL, "a value that comes from nowhere", phi.line)
        cell = self._guarded(phi, block)
        if cell is not None:
            return cell
        result = self._value(pairs[-1][1])
        for edge, operand in reversed(pairs[:-1]):
            result = self._chosen(edge, phi, self._value(operand), result)
        return result

    def _guarded(self, phi: Instruction, block: Block) -> Expr | None:
        """A cell behind a loop that may not have run: it has its start then, which the other way brings, too."""
        if len(phi.operands) != 2:
            return None
        for one, other in ((0, 1), (1, 0)):
            word = phi.operands[one].word
            definition, _ = self.definitions.of(word)
            inner = definition.operands[0].word if definition and definition.opcode == "phi" else word
            cell = self.cells.get(inner)
            if cell is None or cell.guard != phi.targets[other]:
                continue
            read = self.values.get(inner)
            if isinstance(read, Expr) and self._value(phi.operands[other]) == cell.start and read.op == "load":
                self.clock += 1
                guard = self.edges.get((phi.targets[one], block.name), TRUE)
                old = read.value
                kept = [p for p in (old.when.parts if old.when.kind == "and" else [old.when])
                        if p not in (guard.parts if guard.kind == "and" else [guard])]  # fmt: skip
                access = replace(old, time=(*old.time[:-1], self.clock), when=both(*kept))
                return replace(read, value=access)
        return None

    # --- values

    def _value(self, operand: Operand) -> Expr:
        word, kind = operand.word, operand.type
        if kind in _FLOATS and not word.startswith("%"):
            return Expr("const", kind, value=_float(word, kind))
        if word in ("undef", "poison"):
            raise Abstained(Reason.CONTROL, "a value that is not defined")
        if word in self.definitions.arguments and kind in _FLOATS:
            return Expr("param", kind, value=word)
        number = self.integers.of(operand) if kind.startswith("i") or kind == "ptr" else None
        if number is not None:
            if kind == "ptr":
                raise Abstained(Reason.POINTER, "an address used as a value")
            constant = number.constant
            return Expr("const", kind, value=constant) if constant is not None else Expr("index", kind, value=number)
        known = self.values.get(word)
        if isinstance(known, Abstained):
            raise known
        if known is None:
            definition, _ = self.definitions.of(word)
            if definition and definition.opcode == "phi" and len(definition.operands) == 1:
                return self._value(definition.operands[0])
            if kind.startswith("<"):
                raise Abstained(Reason.VECTOR, "vector instructions: compile with -fno-vectorize -fno-slp-vectorize")
            raise Abstained(Reason.TYPE, f"a value of the type {kind[:40]}")
        return known

    def _condition(self, operand: Operand, block: str) -> Condition:
        """A condition of integers, or of data."""
        affine = self.integers.condition(operand)
        if affine is not None:
            return affine
        word = operand.word
        i, where = self.definitions.of(word)
        if i is None:
            raise Abstained(Reason.DATA_CONTROL, "a condition that is not computed here")
        if word in self.data:
            known = self.data[word]
            if isinstance(known, Abstained):
                raise known
            return known
        found = self._data_condition(i, where)
        self.data[word] = found
        return found

    def _data_condition(self, i: Instruction, block: str) -> Condition:
        if i.opcode in ("fcmp", "icmp"):
            args = tuple(map(self._value, i.operands))
            return Condition("data", value=self._node(i.opcode, "i1", args, i.flags, i.line, i.predicate))
        if i.opcode in ("and", "or", "select"):
            parts = [self._condition(part, block) for part in i.operands]
            if i.opcode == "select":
                return either(both(parts[0], parts[1]), both(negated(parts[0]), parts[2]))
            return both(*parts) if i.opcode == "and" else either(*parts)
        if i.opcode == "xor" and i.operands[1].word == "true":
            return negated(self._condition(i.operands[0], block))
        raise Abstained(Reason.DATA_CONTROL, f"a condition by the instruction {i.opcode}", i.line)

    # --- memory

    def _place(self, pointer: Operand) -> tuple[str, Poly]:
        address = self.integers.of(pointer)
        if address is None:
            definition, _ = self.definitions.of(pointer.word)
            raise self._why_no_address(definition if definition else None)
        bases = [s for s in address.symbols if s.startswith(POINTER)]
        if len(bases) != 1 or address.coefficient(bases[0]).constant != 1:
            raise Abstained(Reason.POINTER, "an address that is not one of one array")
        return bases[0][1:], address.without(bases)

    def _why_no_address(self, i: Instruction | None) -> Abstained:
        seen = 0
        while i is not None and seen < 20:
            seen += 1
            if i.opcode == "load":
                reason = Reason.POINTER if i.type == "ptr" else Reason.INDIRECT
                words = "a pointer" if i.type == "ptr" else "a subscript"
                return Abstained(reason, f"{words} that is read from memory", i.line)
            if i.opcode in ("phi", "select"):
                return Abstained(Reason.POINTER, "an address that depends on the way to it", i.line)
            if i.opcode == "call":
                return Abstained(Reason.POINTER, "an address that a call returns", i.line)
            i = self._unknown(i)
        return Abstained(Reason.SUBSCRIPT, "an address that is no polynomial of counters and parameters")

    def _unknown(self, i: Instruction) -> Instruction | None:
        """What gives the first operand that is no polynomial."""
        for operand in i.operands:
            definition, _ = self.definitions.of(operand.word)
            if definition is not None and self.integers.of(Operand(definition.type, operand.word)) is None:
                return definition
        return None

    def _load(
        self, base: str, offset: Poly, kind: str, time: tuple[int | str, ...], loops: tuple[str, ...], when: Condition,
        line: int | None,
    ) -> Expr:  # fmt: skip
        if kind not in _SCALARS:
            raise Abstained(Reason.TYPE, f"elements of the type {kind[:40]}", line)
        return Expr("load", kind, value=Access(base, offset, kind, time, loops, without_data(when), line))

    def _store(
        self, base: str, offset: Poly, kind: str, time: tuple[int | str, ...], loops: tuple[str, ...],
        when: Condition, line: int | None, value: Expr,
    ) -> None:  # fmt: skip
        if kind not in _SCALARS:
            raise Abstained(Reason.TYPE, f"elements of the type {kind[:40]}", line)
        conditional = not when.is_affine
        if conditional:  # else the element stays as it is
            parts = when.parts if when.kind == "and" else (when,)
            when = both(*[part for part in parts if part.is_affine])
            kept = self._load(base, offset, kind, time, loops, when, line)
            chosen = both(*[part for part in parts if not part.is_affine])
            value = Expr("select", kind, (value, kept), chosen, size=value.size + 2)
        statement = Statement(Access(base, offset, kind, time, loops, when, line), value, self.clock, None, conditional)
        (self.statements if self.loop is not None else self.loose).append(statement)

    def _call(self, i: Instruction, time: tuple[int | str, ...], loops: tuple[str, ...], when: Condition) -> None:
        if _IGNORED.match(i.callee):
            return
        found = _INTRINSIC.match(i.callee)
        name = found[1] if found else _MATH.get(i.callee)
        if i.callee.startswith("llvm.memset") and self._filled(i, time, loops, when):
            return
        if i.callee.startswith(("llvm.memset", "llvm.memcpy", "llvm.memmove")):
            raise Abstained(Reason.CALL, f"a call of {i.callee.split('.')[1]}", i.line)
        if name is None or i.type not in (*_FLOATS, "i8", "i16", "i32", "i64"):
            raise Abstained(Reason.CALL, f"a call of {i.callee or 'a pointer'}", i.line)
        if i.type.startswith("i") and self.integers.of(Operand(i.type, i.name)) is not None:
            return
        args = tuple(self._value(operand) for operand in i.operands if operand.type != "i1")
        if name in ("fmuladd", "fma"):
            product = self._node("fmul", i.type, args[:2], i.flags, i.line)
            fused = frozenset(("fused",)) if name == "fma" else frozenset()
            self.values[i.name] = self._node("fadd", i.type, (product, args[2]), i.flags | fused, i.line)
        else:
            self.values[i.name] = self._node("call", i.type, args, i.flags, i.line, name)

    def _filled(self, i: Instruction, time: tuple[int | str, ...], loops: tuple[str, ...], when: Condition) -> bool:
        """Note a memset to zero of a known length."""
        length = self.integers.of(i.operands[2])
        if length is None or self.integers.of(i.operands[1]) != ZERO or not when.is_affine:
            return False
        base, offset = self._place(i.operands[0])
        target = Access(base, offset, "", time, loops, when, i.line)
        statement = Statement(target, Expr("const", "", value=0), self.clock, length)
        (self.statements if self.loop is not None else self.loose).append(statement)
        return True


_SCALARS = {"float", "double", "i8", "i16", "i32", "i64"}


def _float(word: str, kind: str) -> float:
    """A constant as LLVM prints it: decimal, or the bits of a double in hexadecimal."""
    if re.fullmatch(r"0x[0-9A-Fa-f]{16}", word):
        return float(struct.unpack(">d", bytes.fromhex(word[2:]))[0])
    try:
        return float(word)
    except ValueError as error:
        raise Abstained(Reason.TYPE, f"the constant {word[:40]}") from error


__all__ = ["CELL", "RESULT", "Nest", "Statement", "Trace", "trace"]
