"""Operations that belong together: the start of a reduction, its terms, and what is made of it at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from kernels.raising.access import Element
from kernels.raising.expressions import Expr, rebuilt
from kernels.raising.memory import CELL
from kernels.raising.ops import ACCUMULATED, Operation, elements
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.substitution import substituted_value


def joined(found: Sequence[Operation], is_private: Callable[[str], bool]) -> list[Operation]:
    """Starts and finishes joined to their reductions; cells that nobody reads dropped. `is_private`: whether only the
    function itself sees an array.
    """
    operations_left = list(found)
    changed = True
    while changed:
        changed = False
        for step in (_with_beginning, _with_start, partial(_with_finish, is_private=is_private), _without_copies):
            after = step(operations_left)
            if after is not None:
                operations_left, changed = after, True
                break
    read = {e.base for op in operations_left for e in op.reads}
    return [op for op in operations_left if any(not base.startswith(CELL) or base in read for base in op.written)]


def _write_map(op: Operation) -> isl.Map:
    counters = frozenset(op.kept)
    forms = [_text(poly, counters) for poly in op.target.subscripts]
    fixed = [c for c in op.kept if c in op.fixed]
    return isl.Map(f"{{ [{', '.join(op.kept)}] -> [{', '.join([*forms, *fixed])}] }}")


def _writes(op: Operation) -> isl.Set:
    return op.cover.apply(_write_map(op))


def _text(poly: Poly, counters: frozenset[str]) -> str:
    parts = []
    for monomial, factor in poly.terms:
        if monomial and (len(monomial) > 1 or monomial[0] not in counters):
            raise Abstained(Reason.SUBSCRIPT, "a subscript by a parameter")
        parts.append(f"{'-' if factor < 0 else '+'} {abs(factor)}{'*' + monomial[0] if monomial else ''}")
    return " ".join(parts).removeprefix("+ ") or "0"


def _inverse(op: Operation, target: Element) -> dict[str, Poly] | None:
    """The counters of a map in terms of the subscripts of another element of the same array."""
    values: dict[str, Poly] = {}
    for mine, theirs in zip(op.target.subscripts, target.subscripts, strict=True):
        symbols = [s for s in mine.symbols if s in op.loops]
        if not symbols:
            if mine != theirs:
                return None
            continue
        if len(symbols) != 1 or mine.coefficient(symbols[0]).constant not in (1, -1):
            return None
        sign = mine.coefficient(symbols[0])
        value = (theirs - mine.without(symbols)) * sign
        if values.setdefault(symbols[0], value) != value:
            return None
    return values if all(c in values for c in op.loops if c not in op.fixed) else None


def _untouched(between: Sequence[Operation], bases: set[str]) -> bool:
    return not any(bases & {*op.written} for op in between)


def _with_start(ops: list[Operation]) -> list[Operation] | None:
    """A map that writes what a reduction then adds to, all of it and nothing else, is its start."""
    for j, op in enumerate(ops):
        if not op.combine or op.steps or op.start is not None or op.finish is not None:
            continue
        for i in range(j - 1, -1, -1):
            first = ops[i]
            base = op.target.base
            if first.steps and base in first.written:
                break
            if first.target.base == base:
                cover = _cover_by(first, op)
                if first.combine or first.fixed != op.fixed or cover is None:
                    break
                values = _inverse(first, op.target)
                between = ops[i + 1 : j]
                read = {e.base for e in elements(first.value)}
                if values is None or not _untouched(between, read) or (base in read and between):
                    break
                start = substituted_value(first.value, values)
                start_self = start == Expr("read", op.type, value=op.target)
                lines = tuple(sorted({*op.lines, *first.lines}))
                merged = replace(op, start=None if start_self else start, lines=lines, start_domain=cover)
                return [*ops[:i], *ops[i + 1 : j], merged, *ops[j + 1 :]]
            if any(e.base == base for e in first.reads):
                break
    return None


def _with_beginning(ops: list[Operation]) -> list[Operation] | None:
    """What a map writes and a choice or a running sum begins with is put in its place there; the map stays."""
    for j, op in enumerate(ops):
        element = _beginning(op)
        i = next((i for i in reversed(range(j)) if element is not None and element.base in ops[i].written), None)
        if element is None or i is None or ops[i].combine or ops[i].fixed != op.fixed:
            continue
        first, values = ops[i], _inverse(ops[i], element)
        if values is None or not _untouched(ops[i + 1 : j], {e.base for e in first.reads}):
            continue
        if not _writes(replace(op, target=element)).is_subset(_writes(first)):
            continue
        value = substituted_value(first.value, values)
        if op.choice is None:
            return [*ops[:j], replace(op, start=value), *ops[j + 1 :]]
        return [*ops[:j], replace(op, choice=replace(op.choice, best=value)), *ops[j + 1 :]]
    return None


def _beginning(op: Operation) -> Element | None:
    """The cell whose content a choice is compared with, or a running sum begins with."""
    if op.choice is not None:
        best = op.choice.best
        return best.value if best is not None and best.op == "read" and best.value.base.startswith(CELL) else None
    cells = [e for e in op.reads if e.base.startswith(CELL) and e.base in op.written]
    return cells[0] if op.combine.startswith("scan") and op.start is None and len(cells) == 1 else None


def _cover_by(start: Operation, op: Operation) -> isl.Set | None:
    """Where the op writes with what a start writes; None where that is not all of it, or more."""
    try:
        written, relation = _writes(start), _write_map(op)
    except Abstained:
        return None
    if not _writes(op).is_subset(written):
        return None
    cover = written.apply(relation.reverse())
    return cover if cover.apply(relation).is_equal(written) else None


def _same_writes(a: Operation, b: Operation) -> bool:
    try:
        return bool(_writes(a).is_equal(_writes(b)))
    except Abstained:
        return False


def _with_finish(ops: list[Operation], is_private: Callable[[str], bool]) -> list[Operation] | None:
    """A map of a private array that a reduction has left, element by element, is the reduction's finish."""
    for i, op in enumerate(ops):
        base = op.target.base
        if not op.combine or op.steps or not is_private(base):
            continue
        users = [(j, o) for j, o in enumerate(ops) if j != i and any(e.base == base for e in o.reads)]
        writers = [o for o in ops if o is not op and base in o.written]
        if len(users) != 1 or writers:
            continue
        j, user = users[0]
        if j < i or user.combine or user.fixed != op.fixed:
            continue
        read = {e for e in elements(user.value) if e.base == base}
        if len(read) != 1:
            continue
        values = _inverse_of_read(op, next(iter(read)), user)
        between = ops[i + 1 : j]
        mine = {e.base for e in op.reads}
        if values is None or not _untouched(between, mine) or not _covers(op, user, next(iter(read))):
            continue
        if user.target.base != base and user.target.base in {e.base for e in elements(op.value)}:
            continue

        def change(node: Expr) -> Expr | None:
            return replace(node, op=ACCUMULATED, value=None) if node.op == "read" and node.value in read else None  # noqa: B023

        finish = substituted_value(rebuilt(user.value, change), values)
        target = Element(user.target.base, tuple(p.substitute(values) for p in user.target.subscripts))
        finish_or_none = None if finish.op == ACCUMULATED else finish
        start = op.start
        if start == Expr("read", user.type, value=target) and finish_or_none is None:
            start = None
        lines = tuple(sorted({*op.lines, *user.lines}))
        merged = replace(op, target=target, finish=finish_or_none, start=start, lines=lines, place=user.place)
        return [*ops[:i], *between, merged, *ops[j + 1 :]]
    return None


def _inverse_of_read(op: Operation, read: Element, user: Operation) -> dict[str, Poly] | None:
    """The user's counters in terms of the reduction's parallel ones; the cell is read one to one."""
    values: dict[str, Poly] = {}
    for mine, theirs in zip(op.target.subscripts, read.subscripts, strict=True):
        symbols = [s for s in theirs.symbols if s in user.loops]
        if len(symbols) != 1 or theirs != Poly.of(symbols[0]):
            if mine == theirs and not symbols:
                continue
            return None
        if values.setdefault(symbols[0], mine) != mine:
            return None
    return values if all(c in values for c in user.loops if c not in user.fixed) else None


def _covers(op: Operation, user: Operation, read: Element) -> bool:
    """Whether the user reads each element that the reduction leaves, and no other."""
    probe = replace(user, target=read)
    return _same_writes(op, probe)


def _without_copies(ops: list[Operation]) -> list[Operation] | None:
    """A cell that is a map's value and read by one later map, element by element, is put in its place."""
    for i, op in enumerate(ops):
        base = op.target.base
        if op.combine or not base.startswith(CELL) or [o for o in ops if o is not op and base in o.written]:
            continue
        users = [(j, o) for j, o in enumerate(ops) if j != i and any(e.base == base for e in o.reads)]
        if len(users) != 1 or users[0][0] < i:
            continue
        j, user = users[0]
        mine = {e.base for e in elements(op.value)}
        if user.steps or not _untouched(ops[i + 1 : j], mine) or (user.combine and user.target.base in mine):
            continue
        reads = {e for e in user.reads if e.base == base}
        solved = {e: _inverse(op, e) for e in reads}
        if any(v is None for v in solved.values()) or op.fixed != user.fixed:
            continue
        if not all(_writes(replace(user, target=e)).is_subset(_writes(op)) for e in reads):
            continue

        def change(node: Expr) -> Expr | None:
            if node.op == "read" and node.value in solved:  # noqa: B023
                return substituted_value(op.value, solved[node.value] or {})  # noqa: B023
            return None

        merged = replace(
            user, value=rebuilt(user.value, change), start=None if user.start is None else rebuilt(user.start, change),
            finish=None if user.finish is None else rebuilt(user.finish, change),
            choice=None if user.choice is None else replace(
                user.choice, best=None if user.choice.best is None else rebuilt(user.choice.best, change)
            ),
        )  # fmt: skip
        return [*ops[:i], *ops[i + 1 : j], merged, *ops[j + 1 :]]
    return None
