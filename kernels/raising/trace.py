"""A function as a list of stores: which element, what value, in which loops, under which conditions, in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from kernels.raising.assumptions import assume_work
from kernels.raising.cells import Cells
from kernels.raising.definitions import Definitions
from kernels.raising.evaluation import Evaluator
from kernels.raising.expressions import FALSE, TRUE, Condition, both, either, negated, without_data
from kernels.raising.integers import Integers
from kernels.raising.ir import Block, Function, Instruction
from kernels.raising.loop_bounds import bound_of
from kernels.raising.loops import Loop, flow_of
from kernels.raising.memory import RESULT, Memory, Point, Statement
from kernels.raising.polynomials import ZERO
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.values import Values


@dataclass
class Nest:
    """What a loop at the top of a function does, or why that is not known. `place`: its number among all stores."""

    loop: Loop
    place: int
    statements: list[Statement] = field(default_factory=list)
    problem: Abstained | None = None


@dataclass
class Trace:
    """`bounds`: by loop symbol, what holds in its body. `cells`: the loops that a cell has an element for. `problem`:
    why what stands outside of loops is not known. `loose` are its stores, `barriers` the places of what is
    not known."""

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
    return _Tracer(Definitions(function, flow_of(function))).run()


class _Tracer:
    """Goes through the blocks of a function in order, inner loops as wholes."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions, self.function, self.flow = definitions, definitions.function, definitions.flow
        self.integers = Integers(definitions)
        self.values = Values(self.integers)
        self.memory = Memory()
        self.cells = Cells(self.values, self.memory)
        self.evaluator = Evaluator(self.values, self.memory, self.cells)
        self.bounds: dict[str, Condition] = {}
        self.reached: dict[str, Condition] = {}
        self.problem: Abstained | None = None
        self.nests: list[Nest] = []
        self.barriers: list[int] = []
        self.in_nest = False

    def run(self) -> Trace:
        assume_work(self.definitions, self.integers)
        self._region(None, Point((), TRUE))
        self.definitions.requirements = [
            replace(r, when=both(r.when, self.reached.get(r.block, TRUE))) for r in self.definitions.requirements
        ]
        return Trace(
            self.definitions, self.integers, self.bounds, self.nests, self.memory.statements, self.problem,
            {cell.base: cell.loops for cell in self.cells.by_name.values()}, self.barriers,
        )  # fmt: skip

    # --- regions: the blocks of a function or a loop

    def _region(self, loop: Loop | None, point: Point) -> None:
        for name, condition in self._reached(loop):
            inner = self.flow.innermost.get(name)
            here = Point(point.time, both(point.when, condition))
            self.reached[name] = without_data(here.when)
            if inner is not loop:
                if inner is not None and inner.header == name and inner.parent is loop:
                    self._loop(inner, here, condition)
            elif condition != FALSE:  # else it is not reached, under what was assumed
                self._block(self.function.blocks[name], here)
                self._branch(self.function.blocks[name], loop, condition)

    def _reached(self, loop: Loop | None) -> Iterator[tuple[str, Condition]]:
        """Blocks in order, and under which condition each is reached in the region; asked for when it is its turn."""
        inside = [name for name in self.flow.order if loop is None or name in loop.blocks]
        yield inside[0], TRUE
        for name in inside[1:]:
            yield name, either(*(self.values.edge(before, name) for before in self.flow.predecessors[name]))

    def _branch(self, block: Block, loop: Loop | None, condition: Condition) -> None:
        """Note under which condition each edge from a block is taken."""
        terminator, edges = block.terminator, self.values.edges
        targets = terminator.targets
        if terminator.opcode == "br" and len(self.flow.successors[block.name]) < len(set(targets)):
            self._require_no_end(block)
            edges[block.name, self.flow.successors[block.name][0]] = condition
            return
        branches = terminator.opcode == "br" and terminator.operands and len(set(targets)) > 1
        if not branches or (loop is not None and self.integers.exit(loop).block == block.name):
            edges.update(dict.fromkeys(((block.name, target) for target in targets), condition))
            if terminator.opcode not in ("br", "ret", "unreachable"):
                self._trouble(Abstained(Reason.CONTROL, f"the instruction {terminator.opcode}", terminator.line))
            return
        chosen = self.values.condition(terminator.operands[0])
        for target, way in zip(targets, (chosen, negated(chosen)), strict=True):
            if (block.name, target) in self.definitions.dead:
                edges[block.name, target] = FALSE
            elif any((block.name, other) in self.definitions.dead for other in targets):
                edges[block.name, target] = condition
            else:
                edges[block.name, target] = both(condition, way)

    def _require_no_end(self, block: Block) -> None:
        """Note that the way of a branch on which the program ends is not taken."""
        [tested] = block.terminator.operands
        holds = self.integers.condition(tested)
        if holds is None:
            self._trouble(Abstained(Reason.DATA_CONTROL, "data may end the program here", block.terminator.line))
            return
        ends = block.terminator.targets[0] in self.flow.ends
        self.definitions.require("guard", negated(holds) if ends else holds, block.name, block.terminator.line)

    def _block(self, block: Block, point: Point) -> None:
        for instruction in block.instructions[:-1]:
            try:
                self.evaluator.run(instruction, block.name, self.memory.next(point))
            except Abstained as problem:
                problem.line = problem.line or instruction.line
                if self.in_nest:
                    raise
                self.values.known[instruction.name] = problem
                if instruction.opcode in ("store", "call") or "volatile" in instruction.flags:
                    self._trouble(problem)
        if block.terminator.opcode == "ret" and block.terminator.operands:
            self._returned(block.terminator, self.memory.next(point))

    def _returned(self, terminator: Instruction, point: Point) -> None:
        [operand] = terminator.operands
        try:
            if point.when != TRUE:
                raise Abstained(Reason.CONTROL, "a value that is returned from several places", terminator.line)
            value = self.values.of(operand)
        except Abstained as problem:
            self._trouble(problem)
            return
        self.memory.store(RESULT, ZERO, value, operand.type, point, terminator.line)

    def _trouble(self, problem: Abstained) -> None:
        """Something outside of loops that is not understood: the nests around it are read all the same."""
        if self.in_nest:
            raise problem
        self.problem = self.problem or problem
        self.barriers.append(self.memory.tick())

    # --- loops

    def _loop(self, loop: Loop, point: Point, local: Condition) -> None:
        """`local`: the condition in the region around, which is that of the edges out of the loop, too."""
        if loop.parent is not None:
            self._inner_loop(loop, point)
        else:
            self._nest(loop, point)
        for block in loop.blocks:
            for target in self.flow.successors[block]:
                if target not in loop.blocks:
                    self.values.edges[block, target] = local

    def _nest(self, loop: Loop, point: Point) -> None:
        nest = Nest(loop, self.memory.tick())
        self.nests.append(nest)
        loose, self.memory.statements = self.memory.statements, nest.statements
        noted = len(self.definitions.requirements)
        self.in_nest = True
        try:
            self._inner_loop(loop, point)
        except Abstained as problem:
            line = problem.line or self.function.blocks[loop.header].terminator.line
            nest.problem = Abstained(problem.reason, problem.detail, line)
        except RecursionError:
            nest.problem = Abstained(Reason.LARGE, "a chain of instructions that is too long to follow")
        self.in_nest = False
        self.memory.statements = loose
        if nest.problem is not None:
            nest.statements = []
            del self.definitions.requirements[noted:]
            for block in loop.blocks:
                for instruction in self.function.blocks[block].instructions:
                    self.values.known[instruction.name] = nest.problem

    def _inner_loop(self, loop: Loop, point: Point) -> None:
        if not point.when.is_affine:
            raise Abstained(Reason.DATA_CONTROL, "a loop that runs or not as data decide")
        ending = self.integers.exit(loop)
        self.bounds[loop.symbol] = bound_of(loop, ending, point.when, self.definitions)
        header = self.function.blocks[loop.header]
        if ending.tested_first and any(i.opcode == "store" for i in header.instructions):
            raise Abstained(Reason.CONTROL, "a store in the test of a loop")
        carried = self.cells.begin(loop, self.cells.carried(loop), point)
        inside = Point((*point.time, self.memory.tick(), loop.symbol), point.when)
        self.cells.enter(carried, inside)
        self._region(loop, inside)
        self.cells.carry(loop, carried, inside)
        self.cells.leave(loop, carried, point, ending.tested_first)
