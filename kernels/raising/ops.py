"""Operations: maps and reductions whose iterations may be taken in any order, and loops that must stay in theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernels.raising.access import Element, Normal
from kernels.raising.expressions import Expr
from kernels.raising.memory import CELL
from kernels.raising.polyhedra import isl
from kernels.raising.reasons import Abstained

ACCUMULATED = "accumulated"
"""The op of the node in a finish that stands for the reduced value."""


@dataclass(frozen=True)
class Chosen:
    """Which of several values is taken, the greatest (argmax) or the least (argmin), beginning with `best`
    (None: what the operation starts with).

    `first`: of equal ones the first, else the last. `place`: what is noted of it, over the reduced loops too; None
    where the result is the value itself. `order`: the reduced loops, outermost first.
    """

    best: Expr | None
    first: bool
    place: Expr | None
    order: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Operation:
    """target[subscripts] over `loops`: a map, or a reduction over `reduced` by `combine`.

    `combine`: "" for a map, add, mul, max, min, maximum and minimum (those of IEEE 754: NaN where there is one),
    argmax, argmin, scan-add, scan-mul, scan-max, scan-min, or loops: statements that must stay in order. `value` is the
    map's value or the reduction's term. `start`: what a reduction
    begins with, None for the target's old content. `finish`: what is made of the reduced value (a tree with one or
    more nodes `accumulated`), None for itself. `fixed`: loops around that stay in order. `domain` has `loops` as
    dimensions, the fixed ones too. `cover`, over `loops` but the reduced ones: where the target is written, which is
    more than the domain where some reductions have no terms. `reordered` says that iterations of a float reduction may
    be taken in another order: the IR's flags allow it, or the result does not depend on it.

    `choice` is what argmax and argmin have beside. `steps`: the statements of scans and of loops, which are run as they
    are; `start` is then what a scan's cell begins with. Each iteration of the loops `free` runs apart from the others.
    `problem`: why loops are nothing else.
    """

    target: Element
    type: str
    loops: tuple[str, ...]
    reduced: tuple[str, ...]
    domain: isl.Set
    combine: str
    value: Expr
    start: Expr | None
    finish: Expr | None
    fixed: tuple[str, ...]
    lines: tuple[int, ...]
    reordered: bool
    place: int
    start_domain: isl.Set | None = None
    choice: Chosen | None = None
    steps: tuple[Normal, ...] = ()
    free: tuple[str, ...] = ()
    problem: Abstained | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """All loops but the reduced ones."""
        return tuple(c for c in self.loops if c not in self.reduced)

    @property
    def cover(self) -> isl.Set:
        return self.start_domain if self.start_domain is not None else projected(self.domain, self.loops, self.reduced)

    @property
    def parallel(self) -> tuple[str, ...]:
        return tuple(c for c in self.loops if c not in self.reduced and c not in self.fixed)

    @property
    def line(self) -> int | None:
        """Where it begins in the source."""
        return self.lines[0] if self.lines else None

    @property
    def reads(self) -> list[Element]:
        if self.steps:
            found = [e for step in self.steps for e in elements(step.value)]
            if self.start is not None:
                found = [e for e in found if not (e.base.startswith(CELL) and e.base in self.written)]
            return list(dict.fromkeys([*found, *(elements(self.start) if self.start is not None else [])]))
        parts = [self.value, self.start, self.finish, None if self.choice is None else self.choice.best]
        return list(dict.fromkeys(e for part in parts if part is not None for e in elements(part)))

    @property
    def written(self) -> tuple[str, ...]:
        """The arrays of which it writes elements."""
        return tuple(dict.fromkeys(step.target.base for step in self.steps)) if self.steps else (self.target.base,)


def projected(domain: isl.Set, loops: Sequence[str], gone: Sequence[str]) -> isl.Set:
    """Iterations of loops, of which some are left out."""
    for position in reversed(range(len(loops))):
        if loops[position] in gone:
            domain = domain.project_out(isl.dim_type.set, position, 1)
    return domain


def elements(value: Expr) -> list[Element]:
    return [node.value for node in value.walk() if node.op == "read"]


def lines_of(statements: Sequence[Normal]) -> tuple[int, ...]:
    return tuple(sorted({s.line for s in statements if s.line is not None}))
