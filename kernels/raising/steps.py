"""Loops that must stay in order, at given sizes: an operation for each step, one after the other.

What does not depend on the step is the same operation each time, so its kernel is made and tuned once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from kernels.raising.access import Element
from kernels.raising.expressions import Expr, rebuilt
from kernels.raising.memory import CELL
from kernels.raising.ops import Operation
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.sizes import Sized
from kernels.raising.substitution import substituted_value

MOST_STEPS = 400
"""Operations that a function is made of at most; each is a call."""

MOST_DIFFERENT = 24
"""Of these, how many may differ from all others: each is a kernel to be tuned."""


def unrolled(ops: Sequence[Operation], sized: Sized) -> list[Operation]:
    """Operations without loops that stay in order. Raises Abstained where there are too many."""
    if not any(op.fixed for op in ops):
        return list(ops)
    found: list[Operation] = []
    known: dict[tuple[object, ...], Operation] = {}
    for op in _steps(_without_own_dimensions(_gathered(ops)), sized, {}):
        same = known.setdefault(
            (op.target, op.value, op.start, op.finish, op.combine, str(op.domain), str(op.cover)), op
        )
        found.append(same)
        if len(found) > MOST_STEPS or len(known) > MOST_DIFFERENT:
            words = f"more than {MOST_STEPS} steps, or {MOST_DIFFERENT} that differ, in loops that must stay in order"
            raise Abstained(Reason.SEQUENTIAL, words, op.line)
    return found


def _steps(ops: Sequence[Operation], sized: Sized, at: Mapping[str, int]) -> Iterator[Operation]:
    """Operations next to each other that have a loop in common run one after the other in each of its iterations."""
    depth = len(at)
    for symbol, group in itertools.groupby(ops, lambda op: op.fixed[depth] if len(op.fixed) > depth else ""):
        some = list(group)
        if not symbol:
            yield from (made for op in some if (made := _at(op, sized, at)) is not None)
            continue
        ranges = [_range(op, symbol, sized, at) for op in some]
        ends = [ends for ends in ranges if ends is not None]
        if not ends:
            continue
        first, last = min(low for low, _ in ends), max(high for _, high in ends)
        for value in range(first, last + 1):
            yield from _steps(some, sized, {**at, symbol: value})


def _domain(op: Operation, domain: isl.Set, loops: Sequence[str], sized: Sized, at: Mapping[str, int]) -> isl.Set:
    """The iterations at one step, still with all dimensions."""
    fixed = sized.at(domain)
    for symbol, value in at.items():
        if symbol in loops:
            fixed = fixed.fix_val(isl.dim_type.set, loops.index(symbol), isl.Val(value))
    return fixed


def _range(op: Operation, symbol: str, sized: Sized, at: Mapping[str, int]) -> tuple[int, int] | None:
    """The first and the last value of a loop; None where the operation does nothing."""
    domain = _domain(op, op.cover, op.kept, sized, at)
    if domain.is_empty():
        return None
    position = op.kept.index(symbol)
    return int(domain.dim_min_val(position).to_python()), int(domain.dim_max_val(position).to_python())


def _at(op: Operation, sized: Sized, at: Mapping[str, int]) -> Operation | None:
    """The operation at one step; None where it does nothing there."""
    if not at:
        return op
    cover = _domain(op, op.cover, op.kept, sized, at)
    if cover.is_empty():
        return None
    values = {symbol: Poly.of(value) for symbol, value in at.items()}

    def fixed(domain: isl.Set, loops: Sequence[str]) -> isl.Set:
        for position in reversed(range(len(loops))):
            if loops[position] in at:
                domain = domain.project_out(isl.dim_type.set, position, 1)
        return domain

    target = Element(op.target.base, tuple(p.substitute(values) for p in op.target.subscripts))
    start, finish = (None if part is None else substituted_value(part, values) for part in (op.start, op.finish))
    return replace(
        op, target=target, value=substituted_value(op.value, values), start=start, finish=finish, fixed=(),
        loops=tuple(c for c in op.loops if c not in at), start_domain=fixed(cover, op.kept),
        domain=fixed(_domain(op, op.domain, op.loops, sized, at), op.loops),
    )  # fmt: skip


def _gathered(ops: Sequence[Operation]) -> list[Operation]:
    """What fills a cell that the steps of a loop use becomes part of these steps. They were one loop in the source."""
    steps = {
        (element.base, op.fixed[0]) for op in ops if op.fixed for element in (op.target, *op.reads)
        if element.base.startswith(CELL) and Poly.of(op.fixed[0]) in element.subscripts
    }  # fmt: skip
    return [
        replace(op, fixed=op.loops[:1]) if not op.fixed and op.kept[:1] and (op.target.base, op.kept[0]) in steps
        and op.kept[0] == op.loops[0] and Poly.of(op.kept[0]) in op.target.subscripts else op
        for op in ops
    ]  # fmt: skip


def _without_own_dimensions(ops: Sequence[Operation]) -> list[Operation]:
    """Cells that have an element for each step, written and read in the same one, as cells that every step uses."""
    wanted: dict[str, set[int]] = {}
    places: dict[str, set[int]] = {}
    runs = itertools.groupby(ops, lambda op: op.fixed[:1])
    for number, (fixed, some) in enumerate((fixed, list(group)) for fixed, group in runs):
        for element in (element for op in some for element in (op.target, *op.reads)):
            own = {k for k, p in enumerate(element.subscripts) if any(p == Poly.of(c) for c in fixed)}
            if element.base.startswith(CELL):
                wanted[element.base] = wanted.get(element.base, own) & own
                places.setdefault(element.base, set()).add(number)

    def kept(element: Element) -> Element:
        gone = wanted.get(element.base, set()) if len(places.get(element.base, ())) == 1 else set()
        return replace(element, subscripts=tuple(p for k, p in enumerate(element.subscripts) if k not in gone))

    def change(node: Expr) -> Expr | None:
        return replace(node, value=kept(node.value)) if node.op == "read" else None

    return [
        replace(
            op, target=kept(op.target), value=rebuilt(op.value, change),
            start=None if op.start is None else rebuilt(op.start, change),
            finish=None if op.finish is None else rebuilt(op.finish, change),
        )
        for op in ops
    ]  # fmt: skip
