"""Registers that mirror memory: a compiler keeps a sum in a register and stores it in each iteration all the same.

Such a register is the memory that it mirrors: its cell is taken out again, and its reads are reads of that memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kernels.raising.expressions import Access, Condition, Expr, both, conjuncts, negated, rebuilt
from kernels.raising.memory import CELL, Statement


def without_mirrors(statements: Sequence[Statement], cells: Mapping[str, tuple[str, ...]]) -> list[Statement]:
    """The statements of a nest, cells that mirror an element of an array replaced by it."""
    left = list(statements)
    for base in dict.fromkeys(s.target.base for s in statements if s.target.base in cells):
        found = _mirrored(base, left)
        if found is None:
            continue
        store, gone = found
        read: dict[int, Expr] = {}

        def change(node: Expr) -> Expr | None:
            if node.op != "load" or node.value.base != base:  # noqa: B023
                return None
            access: Access = replace(node.value, base=store.target.base, offset=store.target.offset)  # noqa: B023
            return read.setdefault(id(node.value), replace(node, value=access))  # noqa: B023

        left = [replace(s, value=rebuilt(s.value, change)) for s in left if s not in gone]
    return left


def _mirrored(base: str, statements: Sequence[Statement]) -> tuple[Statement, list[Statement]] | None:
    """The store that a cell mirrors, and the statements of the cell."""
    own = [s for s in statements if s.target.base == base]
    starts = [s for s in own if not any(a.base == base for a in s.value.loads())]
    updates = [s for s in own if s not in starts]
    if len(starts) != 1 or len(updates) != 1 or len(updates[0].target.loops) <= len(starts[0].target.loops):
        return None
    start, update = starts[0], updates[0]
    for store in statements:
        if store.target.base.startswith(CELL) or store.target.loops != update.target.loops:
            continue
        inner = set(store.target.loops) - set(start.target.loops)
        if store.target.offset.symbols & inner or store.target.type != update.target.type:
            continue
        if store.place < update.place and _same_value(store, update, base) and _begun(start, store, statements):
            return store, own
    return None


def _same_value(store: Statement, update: Statement, base: str) -> bool:
    """Whether the cell is given what is stored, where it is stored, and else left alone."""
    if update.value == store.value:
        return store.target.when == update.target.when
    value = update.value
    if value.op != "select" or not isinstance(value.value, Condition):
        return False
    for kept, new, condition in (
        (value.args[1], value.args[0], value.value),
        (value.args[0], value.args[1], negated(value.value)),
    ):
        if kept.op != "load" or kept.value.base != base:
            continue
        if store.conditional:
            if new == store.value.args[0] and condition == store.value.value:
                return store.target.when == update.target.when
        elif new == store.value:
            return set(conjuncts(store.target.when)) == set(conjuncts(both(update.target.when, condition)))
    return False


def _begun(start: Statement, store: Statement, statements: Sequence[Statement]) -> bool:
    """Whether the memory has the cell's first value when the loop begins, and nobody else writes it."""
    target = store.target
    others = [s for s in statements if s.target.base == target.base and s is not store]
    value = start.value
    if value.op == "load" and value.value.base == target.base and value.value.offset == target.offset:
        # what is written before it is read there, in the same iteration, is what is read
        read: Access = value.value
        return all(o.target.loops == start.target.loops == read.loops and o.target.time < read.time for o in others)
    if len(others) != 1:
        return False
    [first] = others
    return (
        first.value == start.value
        and first.target.offset == target.offset
        and first.target.loops == start.target.loops
        and first.target.when == start.target.when
        and first.place < start.place
    )
