"""How much work each iteration of a loop is, counted, and which share of the threads' time is idle for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import tirx

from kernels.lowering import nodes
from kernels.nests.linear import substituted, uses
from kernels.nests.nest import Refused

_MOST = 1 << 11
"""Iterations that are counted one by one, at most."""


def work(loop: Any) -> list[int]:
    """The stores that each iteration of a loop from zero executes; a condition counts as if it held.

    Raises Refused where that depends on data, or would take long to count.
    """
    extent = int(loop.extent)
    if not any(_varies(inner, loop.loop_var) for inner in nodes(loop.body, tirx.For)):
        return [_stores(loop.body)] * extent
    if extent > _MOST:
        raise Refused("iterations that vary, and too many of them to count")
    dtype = str(loop.loop_var.ty.dtype)
    bodies = (substituted(loop.body, {loop.loop_var: tirx.const(n, dtype)}) for n in range(extent))
    return [_stores(body) for body in bodies]


def idle_share(parts: Sequence[int], threads: int) -> float:
    """The share of the threads' time that passes without work, where each takes as many of the parts as the others, in
    their order (the last fewer), as TVM's runtime divides a parallel loop."""
    if not any(parts):
        return 0.0
    size = -(-len(parts) // threads)
    sums = [sum(parts[begin : begin + size]) for begin in range(0, len(parts), size)]
    return 1.0 - sum(sums) / (threads * max(sums))


def _stores(statement: Any) -> int:
    if isinstance(statement, tirx.For):
        extent = tvm.sym.Analyzer().simplify(statement.extent)
        if not isinstance(extent, tirx.IntImm):
            raise Refused("iterations that depend on data")
        if any(_varies(inner, statement.loop_var) for inner in nodes(statement.body, tirx.For)):
            return sum(work(tirx.For(statement.loop_var, 0, extent, tirx.ForKind.SERIAL, statement.body)))
        return int(extent) * _stores(statement.body)
    if isinstance(statement, tirx.SeqStmt):
        return sum(map(_stores, statement.seq))
    if isinstance(statement, tirx.IfThenElse):
        other = 0 if statement.else_case is None else _stores(statement.else_case)
        return max(_stores(statement.then_case), other)
    return _stores(statement.body) if hasattr(statement, "body") else int(isinstance(statement, tirx.BufferStore))


def _varies(loop: Any, variable: Any) -> bool:
    return uses(loop.extent, variable)
