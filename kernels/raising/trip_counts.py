"""How loops end, and after how many iterations."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.raising.comparisons import Comparisons
from kernels.raising.definitions import Definitions
from kernels.raising.expressions import Condition, at_least_zero, negated
from kernels.raising.ir import Instruction
from kernels.raising.loops import Loop
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason


@dataclass(frozen=True)
class Exit:
    """How a loop ends: where, in which form, and the condition under which it goes on.

    `tested_first`: the condition is asked before the body, else after it.
    """

    block: str
    tested_first: bool
    stays: Condition


class Exits:
    """Exits and trip counts on demand. `trips`: those that are known, by loop symbol."""

    def __init__(self, definitions: Definitions, conditions: Comparisons) -> None:
        self._definitions, self._conditions = definitions, conditions
        self.trips: dict[str, Poly | None] = {}
        self._known: dict[str, Exit] = {}

    def forget(self, loop: Loop) -> None:
        """The exits of a loop and of those in it."""
        for symbol in self._definitions.flow.inside(loop):
            self._known.pop(symbol, None)

    def of(self, loop: Loop) -> Exit:
        """Raises Abstained where the loop ends otherwise than by one test of integers, first or last."""
        if loop.symbol in self._known:
            return self._known[loop.symbol]
        block, terminator = self._test(loop)
        line = terminator.line or self._line(loop)
        first = block == loop.header and block != loop.latches[0]
        if not first and block != loop.latches[0]:
            raise Abstained(Reason.EXITS, "a loop that is left from its middle", self._line(loop))
        stays = self._conditions.of(terminator.operands[0])
        if stays is None:
            raise Abstained(Reason.DATA_BOUND, "a loop whose end is not a bound of its counter", line)
        found = Exit(block, first, stays if terminator.targets[0] in loop.blocks else negated(stays))
        if not self._definitions.pending:
            self._known[loop.symbol] = found
        return found

    def _test(self, loop: Loop) -> tuple[str, Instruction]:
        """The one block from which the loop is left, and its branch."""
        line = self._line(loop)
        flow = self._definitions.flow
        leaving = [b for b in loop.blocks if any(t not in loop.blocks for t in flow.successors[b])]
        if len(loop.latches) != 1:
            raise Abstained(Reason.CONTROL, "a loop that continues from several places", line)
        if not leaving:
            raise Abstained(Reason.EXITS, "a loop without an end", line)
        if len(leaving) > 1:
            raise Abstained(Reason.EXITS, "a loop that is left from several places", line)
        [block] = leaving
        terminator = self._definitions.function.blocks[block].terminator
        if terminator.opcode != "br" or len(terminator.operands) != 1 or len(set(terminator.targets)) != 2:
            raise Abstained(Reason.CONTROL, "a loop that does not end by a test", line)
        return block, terminator

    def _line(self, loop: Loop) -> int | None:
        return self._definitions.function.blocks[loop.header].terminator.line

    def trip(self, loop: Loop) -> Poly | None:
        """How often the body runs, as a polynomial; None where it is none. At least 0 (tested first) is required."""
        if loop.symbol not in self.trips:
            ending = self.of(loop)
            least = 0 if ending.tested_first else 1
            count = _count(ending.stays, loop.symbol)
            if count is not None:
                count = count + least
                preheader = self._definitions.flow.preheader(loop)
                self._definitions.require("runs", at_least_zero(count - least), preheader, None)
            self.trips[loop.symbol] = count
        return self.trips[loop.symbol]


def _count(stays: Condition, symbol: str) -> Poly | None:
    """For how many iterations from 0 on the condition holds, where that is a polynomial."""
    if stays.kind not in ("ge", "ne", "eq") or stays.poly is None:
        return None
    poly = stays.poly
    try:
        factor = poly.coefficient(symbol).constant
    except ValueError:
        return None
    rest = poly.without([symbol])
    if factor is None or factor == 0:
        return None
    if stays.kind == "eq":
        return None if rest.constant is None else Poly.of(int(rest.constant == 0))
    if stays.kind == "ne":
        return rest.divided(-factor)
    return (rest + 1).divided(-factor) if factor < 0 else None
