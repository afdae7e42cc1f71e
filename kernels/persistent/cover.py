"""Whether a step of a reduction writes all of the shared memory that it reads, looked at element by element: TVM's own
analysis gives up where copies are guarded, because their elements are no multiple of the threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

from kernels.access.indices import Unknown, Values, evaluate, variables
from kernels.lowering import nodes
from kernels.nests.linear import loads

_MOST = 1 << 22
"""Accesses that are looked at one by one."""


@dataclass(frozen=True)
class _Access:
    """`order`: which statement of the step it is in."""

    order: int
    buffer: Any
    indices: Sequence[Any]
    store: bool
    guards: tuple[Any, ...]


def writes_what_it_reads(step: Any, threads: Sequence[Any]) -> bool:
    """Whether each element of shared memory that a step reads was written in the same step, by some thread, in an
    earlier one of its statements. `threads`: the loops around that are bound to threads. False where that depends on
    the tile, on the step or on data, and where it copies to other memory than shared."""
    while isinstance(step, SBlockRealize):
        step = step.block.body
    if not isinstance(step, tirx.SeqStmt):
        return False
    extents = {loop.loop_var: loop.extent for loop in [*threads, *nodes(step, tirx.For)]}
    found: list[_Access] = []
    for order, statement in enumerate(step.seq):
        _collect(statement, order, (), found)
    named = [r.source for leaf in nodes(step, SBlock) for r in leaf.reads if _is_staged(r.source)]
    known = [access.buffer for access in found]
    if any(isinstance(e.value, tvm.ir.Call) for e in nodes(step, tirx.Evaluate)) or not all(
        any(buffer.same_as(other) for other in known) for buffer in named
    ):
        return False
    try:
        return all(_is_covered(access, found, extents) for access in found if not access.store)
    except (Unknown, TypeError):
        return False


def _is_staged(buffer: Any) -> bool:
    return str(buffer.scope()).startswith("shared")


def _collect(statement: Any, order: int, guards: tuple[Any, ...], found: list[_Access]) -> None:
    if isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            _collect(part, order, guards, found)
    elif isinstance(statement, SBlockRealize):
        _collect(statement.block.body, order, (*guards, statement.predicate), found)
    elif isinstance(statement, tirx.IfThenElse):
        _collect(statement.then_case, order, (*guards, statement.condition), found)
        if statement.else_case is not None:
            _collect(statement.else_case, order, (*guards, tirx.Not(statement.condition)), found)
    elif isinstance(statement, tirx.BufferStore):
        found += [_Access(order, load.source, load.indices, store=False, guards=guards)
                  for load in loads(statement.value) if _is_staged(load.source)]  # fmt: skip
        if _is_staged(statement.buffer):
            found.append(_Access(order, statement.buffer, statement.indices, store=True, guards=guards))
    elif hasattr(statement, "body"):
        _collect(statement.body, order, guards, found)


def _is_covered(read: _Access, found: Sequence[_Access], extents: dict[Any, Any]) -> bool:
    stores = [other for other in found if other.store and other.buffer.same_as(read.buffer)]
    if any(store.order >= read.order for store in stores):
        return False
    written = np.zeros(math.prod(int(extent) for extent in read.buffer.shape), bool)
    for store in stores:
        written[_elements(store, extents, guarded=True)] = True
    return bool(written[_elements(read, extents, guarded=False)].all())


def _elements(access: _Access, extents: dict[Any, Any], guarded: bool) -> NDArray[np.int64]:
    """The places of all elements that an access is at. Raises Unknown where they depend on something else than loops
    of fixed length."""
    guards = access.guards if guarded else ()
    used = list(dict.fromkeys(v for part in (*access.indices, *guards) for v in variables(part)))
    if not all(variable in extents for variable in used):
        raise Unknown("an index that depends on the tile or the step")
    lengths = [int(extents[variable]) for variable in used]
    count = math.prod(lengths)
    if count > _MOST:
        raise Unknown("too many accesses to look at each")
    points, values = np.arange(count, dtype=np.int64), dict[Any, Values]()
    for variable, length in zip(used, lengths, strict=True):
        values[variable] = points % length
        points = points // length
    place = np.zeros(count, np.int64)
    for index, extent in zip(access.indices, access.buffer.shape, strict=True):
        place = place * int(extent) + np.broadcast_to(evaluate(index, values)[:, 0], (count,))
    run = np.ones(count, bool)
    for guard in guards:
        run &= np.broadcast_to(evaluate(guard, values)[:, 0] != 0, (count,))
    return place[run]
