"""What the names in a function stand for, and what has to be proven of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kernels.raising.expressions import TRUE, Condition, substituted
from kernels.raising.ir import Function, Instruction
from kernels.raising.loops import Flow
from kernels.raising.polynomials import Poly

POINTER = "&"
"""The first sign of the symbol of an array's address."""

PENDING = "x:"
"""The first signs of the symbol of a phi whose recurrence is being found out."""


@dataclass(frozen=True)
class Requirement:
    """`holds` must be true at every point of the loops `loops` where `when` is. `kind`: wrap, runs or guard.

    `block`: where it is asked for, "" for everywhere. What is not reached may be anything.
    """

    kind: str
    holds: Condition
    loops: tuple[str, ...]
    when: Condition
    line: int | None
    block: str = ""

    def with_values(self, values: Mapping[str, Poly]) -> Requirement:
        return replace(self, holds=substituted(self.holds, values), when=substituted(self.when, values))


@dataclass
class Definitions:
    """Instructions by their names, and what is noted while they are evaluated.

    `opaque`: operator, operands and bits of what is computed of parameters alone, by symbol. `dead`: edges that are
    not taken under what was assumed. `pending`: how many phis are being found out; results are not final then.
    """

    function: Function
    flow: Flow
    requirements: list[Requirement] = field(default_factory=list)
    opaque: dict[str, tuple[str, tuple[Poly, ...], int]] = field(default_factory=dict)
    dead: set[tuple[str, str]] = field(default_factory=set)
    pending: int = 0

    def __post_init__(self) -> None:
        self._instructions: dict[str, tuple[Instruction, str]] = {
            i.name: (i, block.name) for block in self.function.blocks.values() for i in block.instructions if i.name
        }
        self.arguments = {argument.name: argument for argument in self.function.arguments}
        self.counters = {loop.symbol for loop in self.flow.loops}

    def of(self, word: str) -> tuple[Instruction | None, str]:
        """The instruction that gives the name its value, and its block; (None, "") where none does."""
        return self._instructions.get(word, (None, ""))

    def require(self, kind: str, holds: Condition, block: str, line: int | None) -> None:
        """Note what must hold in every iteration of the loops around a block."""
        if holds == TRUE:
            return
        loop = self.flow.innermost.get(block)
        self.requirements.append(Requirement(kind, holds, loop.symbols if loop else (), TRUE, line, block))
