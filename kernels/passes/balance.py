"""Parallel loops whose threads have equal work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.lowering import nodes
from kernels.nests.dependences import available, meet_only_in_same_iteration
from kernels.nests.linear import substituted, uses
from kernels.nests.nest import Refused, trips
from kernels.nests.plain import counts_from_zero, is_plain_loop, outermost, plain, rewritten, serial
from kernels.nests.work import idle_share, work
from kernels.passes.base import Documentation, Example, Pass, Requirement
from kernels.passes.bounds import Bounds
from kernels.passes.lanes import Lanes

_IDLE = 0.02
"""Idle share that is not worth a change."""

_PARTS = 64
"""Parts from which on even 8 threads are idle for an eighth of a part each: under 2 % of their time."""


@dataclass(frozen=True)
class Balance(Pass):
    """Divide the iterations of parallel loops so that threads have about equal work, however many threads there are.

    Iterations whose work rises or falls along the loop, as in a triangle, are taken in pairs from both ends. Where a
    loop has few iterations of equal work, which threads cannot divide evenly, the loop inside of it is divided with it.
    """

    name: ClassVar[str] = "balance"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement("iterations of the parallel loop are independent", "it is parallel already"),
            Requirement(
                "so are those of the loop inside, where that is divided",
                "relations of iterations and elements, by the integer set library",
            ),
            Requirement("threads are idle for over 2 % of their time", "stores of each iteration are counted"),
        ),
        options={"on": "1 pairs iterations, and divides the loops inside of short parallel loops, where threads idle"},
        counters={
            "idle share": "of the threads' time, by the stores that each executes; the largest of any parallel loop",
            "parallel iterations": "of all parallel loops",
        },
        loses="Where neighbouring iterations share what is in a thread's cache.",
        elsewhere="OpenMP `schedule` and `collapse`, stream-K (Osama et al. 2023), Halide `fuse` with `parallel`",
        example=Example(examples.triangle, examples.parallel, "bounds{on=1}", "bounds{on=1} balance{on=1}"),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind == "llvm" else (cls(False),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        if Bounds.concerns(module):
            return True
        found = outermost(plain(module["main"]).body)
        return Lanes.concerns(module) and any(1 < trips(loop) < _PARTS for loop in found)

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.on:
            return ""
        given = plain(function)
        if _idle(given, target) < _IDLE:
            return "threads are idle for less than 2 % of their time"
        if _idle(self.on_function(given), target) >= _idle(given, target):
            return "no other division of the parallel loops leaves threads less idle"
        return ""

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        given = plain(function)
        iterations = sum(int(loop.extent) for loop in _parallel(given))
        return {"idle share": _idle(given, target), "parallel iterations": iterations}

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        if not self.on:
            return function
        given = plain(function)
        return given.with_body(rewritten(given.body, _balanced))


def _parallel(function: tirx.PrimFunc) -> list[Any]:
    loops = nodes(function.body, tirx.For)
    return [loop for loop in loops if loop.kind == tirx.ForKind.PARALLEL and counts_from_zero(loop)]


def _idle(function: tirx.PrimFunc, target: Target) -> float:
    """The largest idle share of any parallel loop; 0 where none can be counted."""
    threads = int(target.attrs.get("num-cores", 1))
    shares = [0.0]
    for loop in _parallel(function):
        try:
            shares.append(idle_share(work(loop), threads))
        except Refused:
            continue
    return max(shares)


def _balanced(loop: Any) -> Any | None:
    """A parallel loop divided otherwise; None where it stays."""
    if loop.kind != tirx.ForKind.PARALLEL or not counts_from_zero(loop):
        return None
    try:
        parts = work(loop)
        if parts != parts[::-1]:
            return _paired(loop)
        return _with_inner(loop) if 0 < len(parts) < _PARTS else None
    except Refused:
        return None


def _paired(loop: Any) -> Any | None:
    """The n-th iteration with the n-th from the end; one in the middle stays alone."""
    extent = int(loop.extent)
    if extent < 4:
        return None
    dtype = str(loop.loop_var.ty.dtype)
    near, end = tirx.Var(loop.loop_var.name, dtype), tirx.Var(f"{loop.loop_var.name}_end", dtype)
    last = tirx.const(extent - 1, dtype)
    # both iterations by one loop around the body, which is then compiled once
    which = near + end * (last - near - near)
    ends = tirx.const(2, dtype)
    if extent % 2:
        ends = tirx.Select(near < tirx.const(extent // 2, dtype), ends, tirx.const(1, dtype))
    both = tirx.For(
        end, tirx.const(0, dtype), ends, tirx.ForKind.SERIAL, substituted(loop.body, {loop.loop_var: which})
    )
    return serial(near, -(-extent // 2), both, tirx.ForKind.PARALLEL)


def _with_inner(loop: Any) -> Any | None:
    """A parallel loop of pairs: its iteration, and a part of the loop right inside of it."""
    inner = loop.body
    if not available() or not is_plain_loop(inner) or not counts_from_zero(inner) or uses(inner.extent, loop.loop_var):
        return None
    outer_extent, extent = int(loop.extent), int(inner.extent)
    parts = next((n for n in range(2, extent + 1) if extent % n == 0 and n * outer_extent >= _PARTS), extent)
    if parts == 1 or not meet_only_in_same_iteration(inner, inner):
        return None
    dtype = str(loop.loop_var.ty.dtype)
    both, one = tirx.Var(f"{loop.loop_var.name}_{inner.loop_var.name}", dtype), tirx.Var(inner.loop_var.name, dtype)
    count, length = tirx.const(parts, dtype), tirx.const(extent // parts, dtype)
    begin = tirx.floormod(both, count) * length
    body = substituted(inner.body, {loop.loop_var: tirx.floordiv(both, count), inner.loop_var: begin + one})
    return serial(both, outer_extent * parts, serial(one, extent // parts, body), tirx.ForKind.PARALLEL)
