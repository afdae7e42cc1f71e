"""A scheduled function without its blocks: loops, conditions and stores, which passes on loop nests rewrite."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import s_tir, tirx

from kernels.lowering import nodes


@functools.lru_cache(maxsize=8)
def plain(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function with its blocks lowered as TVM's own pipeline begins; one without blocks is returned as it is."""
    if not has_blocks(function):
        return function
    lowering = tvm.ir.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.LowerOpaqueBlock(),
        ]
    )
    return lowering(tvm.IRModule({"main": function}))["main"]


def has_blocks(function: tirx.PrimFunc) -> bool:
    return bool(nodes(function.body, s_tir.SBlockRealize))


def rewritten(statement: Any, change: Callable[[Any], Any | None]) -> Any:
    """A statement in which `change` was tried on every loop, outer ones first; where it gives a statement, that takes
    the loop's place, and nothing inside of it is tried."""
    if isinstance(statement, tirx.For):
        changed = change(statement)
        if changed is not None:
            return changed
        body = rewritten(statement.body, change)
        return statement if body is statement.body else with_body(statement, body)
    if isinstance(statement, tirx.SeqStmt):
        parts = [rewritten(part, change) for part in statement.seq]
        return sequence(parts)
    if isinstance(statement, tirx.AttrStmt):
        body = rewritten(statement.body, change)
        return tirx.AttrStmt(statement.node, statement.attr_key, statement.value, body)
    if isinstance(statement, tirx.IfThenElse):
        other = None if statement.else_case is None else rewritten(statement.else_case, change)
        return tirx.IfThenElse(statement.condition, rewritten(statement.then_case, change), other)
    return statement


def outermost(statement: Any) -> list[Any]:
    """The loops of a statement that are in no other loop."""
    found: list[Any] = []

    def look(loop: Any) -> Any:
        found.append(loop)
        return loop

    rewritten(statement, look)
    return found


def with_body(loop: Any, body: Any) -> Any:
    """The loop around another body."""
    return tirx.For(
        loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, loop.annotations, loop.step
    )


def sequence(parts: Sequence[Any]) -> Any:
    """Statements one after another, as one statement."""
    flat: list[Any] = []
    for part in parts:
        flat.extend(part.seq if isinstance(part, tirx.SeqStmt) else [part])
    return flat[0] if len(flat) == 1 else tirx.SeqStmt(flat)


def serial(name: Any, extent: Any, body: Any, kind: Any = tirx.ForKind.SERIAL) -> Any:
    """A loop from zero, of a number of iterations or of as many as an expression says."""
    dtype = str(name.ty.dtype)
    length = tirx.const(extent, dtype) if isinstance(extent, int) else extent
    return tirx.For(name, tirx.const(0, dtype), length, kind, body)


def is_plain_loop(statement: Any) -> bool:
    """Whether a statement is a serial loop in steps of one."""
    plain_kind = isinstance(statement, tirx.For) and statement.kind == tirx.ForKind.SERIAL
    return plain_kind and not statement.annotations and _steps_by_one(statement)


def counts_from_zero(loop: Any) -> bool:
    """Whether a loop goes from zero to a number in steps of one."""
    whole = isinstance(loop.min, tirx.IntImm) and int(loop.min) == 0 and isinstance(loop.extent, tirx.IntImm)
    return whole and _steps_by_one(loop)


def _steps_by_one(loop: Any) -> bool:
    return loop.step is None or (isinstance(loop.step, tirx.IntImm) and int(loop.step) == 1)
