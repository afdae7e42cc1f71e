"""The control flow of a function: order, dominators, and the tree of natural loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kernels.raising.ir import Function, Instruction, Operand
from kernels.raising.reasons import Abstained, Reason


@dataclass
class Loop:
    """A natural loop. `blocks` has those of inner loops too; `symbol` counts its iterations from 0."""

    header: str
    latches: list[str]
    blocks: set[str]
    symbol: str = ""
    parent: Loop | None = None

    @property
    def around(self) -> tuple[Loop, ...]:
        """The loops that enclose it, outermost first, itself last."""
        return (*(self.parent.around if self.parent else ()), self)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Those of the loops that enclose it, outermost first, its own last."""
        return tuple(loop.symbol for loop in self.around)


@dataclass(frozen=True)
class Flow:
    """Blocks in an order in which predecessors, but for back edges, come first. `ends` are blocks that end the program
    (a failed assertion, an index out of bounds): branches to them count as not taken, which has to be required."""

    order: tuple[str, ...]
    successors: Mapping[str, tuple[str, ...]]
    predecessors: Mapping[str, tuple[str, ...]]
    dominator: Mapping[str, str]
    loops: tuple[Loop, ...]
    innermost: Mapping[str, Loop]
    ends: frozenset[str] = frozenset()

    def dominates(self, upper: str, lower: str) -> bool:
        while lower != upper:
            above = self.dominator[lower]
            if above == lower:
                return False
            lower = above
        return True

    def inside(self, loop: Loop) -> set[str]:
        """The symbols of a loop and of those in it."""
        return {inner.symbol for inner in self.loops if loop in inner.around}

    def preheader(self, loop: Loop) -> str:
        """The block from which a loop is entered."""
        return next(name for name in self.predecessors[loop.header] if name not in loop.blocks)


def incoming(phi: Instruction, loop: Loop) -> tuple[list[Operand], list[Operand]]:
    """What a phi of a loop's header gets from outside, and from the iteration before."""
    pairs = list(zip(phi.operands, phi.targets, strict=True))
    outside = [operand for operand, block in pairs if block not in loop.blocks]
    return outside, [operand for operand, block in pairs if block in loop.blocks]


def flow_of(function: Function) -> Flow:
    """Raises Abstained for control flow that is not made of natural loops."""
    ends = frozenset(name for name, block in function.blocks.items() if block.terminator.opcode == "unreachable")
    successors = {name: _going_on(block.terminator, ends) for name, block in function.blocks.items()}
    if any(target not in successors for targets in successors.values() for target in targets):
        raise Abstained(Reason.CONTROL, "a branch of a form that is not read", function.line)
    order = _order(next(iter(function.blocks)), successors)
    predecessors: dict[str, list[str]] = {name: [] for name in order}
    for name in order:
        for target in successors[name]:
            predecessors[target].append(name)
    dominator = _dominators(order, predecessors)
    flow = Flow(tuple(order), successors, {k: tuple(v) for k, v in predecessors.items()}, dominator, (), {})
    loops = _loops(flow)
    innermost: dict[str, Loop] = {}
    for loop in sorted(loops, key=lambda found: -len(found.blocks)):
        for name in loop.blocks:
            innermost[name] = loop
    for number, loop in enumerate(loops):
        loop.symbol = f"c{number}"
    return Flow(flow.order, successors, flow.predecessors, dominator, tuple(loops), innermost, ends)


def _going_on(terminator: Instruction, ends: frozenset[str]) -> tuple[str, ...]:
    """Where a block leads, but for the ends of the program beside another way."""
    targets = tuple(dict.fromkeys(terminator.targets))
    return tuple(target for target in targets if target not in ends) or targets


def _order(entry: str, successors: Mapping[str, Sequence[str]]) -> list[str]:
    """Reverse postorder."""
    seen = {entry}
    done: list[str] = []
    stack: list[tuple[str, Iterator[str]]] = [(entry, iter(successors[entry]))]
    while stack:
        name, rest = stack[-1]
        target = next((t for t in rest if t not in seen), None)
        if target is None:
            done.append(name)
            stack.pop()
        else:
            seen.add(target)
            stack.append((target, iter(successors[target])))
    return done[::-1]


def _dominators(order: Sequence[str], predecessors: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Immediate dominators, the entry's being itself (Cooper, Harvey and Kennedy's iteration)."""
    place = {name: index for index, name in enumerate(order)}
    dominator = {order[0]: order[0]}
    changed = True
    while changed:
        changed = False
        for name in order[1:]:
            known = [p for p in predecessors[name] if p in dominator]
            best = known[0]
            for other in known[1:]:
                a, b = best, other
                while a != b:
                    if place[a] > place[b]:
                        a = dominator[a]
                    else:
                        b = dominator[b]
                best = a
            if dominator.get(name) != best:
                dominator[name] = best
                changed = True
    return dominator


def _loops(flow: Flow) -> list[Loop]:
    place = {name: index for index, name in enumerate(flow.order)}
    found: dict[str, Loop] = {}
    for name in flow.order:
        for target in flow.successors[name]:
            if place[target] > place[name]:
                continue
            if not flow.dominates(target, name):
                raise Abstained(Reason.CONTROL, "a loop with two entries")
            loop = found.setdefault(target, Loop(target, [], {target}))
            loop.latches.append(name)
            work = [name]
            while work:
                block = work.pop()
                if block not in loop.blocks:
                    loop.blocks.add(block)
                    work.extend(flow.predecessors[block])
    loops = sorted(found.values(), key=lambda loop: (place[loop.header], -len(loop.blocks)))
    for loop in loops:
        around = [o for o in loops if o is not loop and loop.header in o.blocks and loop.blocks <= o.blocks]
        if around:
            loop.parent = min(around, key=lambda o: len(o.blocks))
    return loops
