"""Two statements that are one operation: running sums, and the place of the greatest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernels.raising.access import Normal
from kernels.raising.expressions import Condition, Expr
from kernels.raising.memory import CELL
from kernels.raising.ops import Chosen, Operation, elements, lines_of
from kernels.raising.reasons import Abstained
from kernels.raising.single import SCANNED, Single
from kernels.raising.updates import choice, takes_first


def scan(single: Single, group: Sequence[Normal], fixed: tuple[str, ...]) -> list[Operation]:
    """t = t op x[i]; y[i] = t. None where it is something else.

    What t is in the end is the second operation; it is dropped where nobody asks for it.
    """
    if len(group) != 2:
        return []
    for running, kept in (group, group[::-1]):
        if not running.target.base.startswith(CELL) or kept.target.base.startswith(CELL):
            continue
        try:
            total = single.classified(running, fixed)
        except Abstained:
            continue
        if total.combine not in SCANNED or len(total.reduced) != 1 or running.loops != kept.loops:
            continue
        own = Expr("read", running.type, value=running.target)
        if kept.value not in (running.value, own) or not single.is_injective(kept, fixed):
            continue
        if not running.domain.is_equal(kept.domain) or kept.target.base in {e.base for e in elements(total.value)}:
            continue
        free = single.order.independent(group)
        return [replace(total, target=kept.target, combine=f"scan-{total.combine}", lines=lines_of(group),
                        steps=tuple(group), free=free)]  # fmt: skip
    return []


def argument(single: Single, group: Sequence[Normal], fixed: tuple[str, ...]) -> list[Operation]:
    """m = max(m, x[i]) with the place of the greatest: one condition chooses both. None where it is something else.

    The second operation is the greatest itself; it is dropped where nobody asks for it.
    """
    if len(group) != 2:
        return []
    for best, place in (group, group[::-1]):
        if place.value.op != "select" or not isinstance(place.value.value, Condition):
            continue
        try:
            found = single.classified(best, fixed)
        except Abstained:
            continue
        own = Expr("read", place.type, value=place.target)
        index = [a for a in place.value.args if a != own]
        if found.combine not in ("max", "min") or len(index) != 1 or index[0].op not in ("index", "const"):
            continue
        greatest = Expr("read", best.type, value=best.target)
        same = replace(
            place.value, type=best.type, args=tuple(greatest if a == own else found.value for a in place.value.args)
        )
        if choice(same, greatest) != (found.combine, found.value, True):
            continue
        if any(e.base == place.target.base for e in elements(best.value)):
            continue
        order = tuple(c for c in best.source.target.loops if c in found.reduced)
        first = takes_first(same, greatest)
        if first is None or (set(order) != set(found.reduced) and len(found.reduced) > 1):
            continue
        chosen = Chosen(greatest, first, index[0], order if len(order) == len(found.reduced) else found.reduced)
        at = replace(single.operation(place, fixed, found.reduced, f"arg{found.combine}", found.value, found.domain),
                     choice=chosen, lines=lines_of(group))  # fmt: skip
        value = replace(
            found, combine=at.combine, choice=replace(chosen, best=None, place=None), lines=at.lines, reordered=True
        )
        return [at, value]
    return []
