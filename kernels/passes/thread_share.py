"""Which loop's iterations are divided among the threads, without a change to the order in which a thread works."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import tvm_ffi
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.lowering import nodes
from kernels.nests.linear import substituted
from kernels.passes.base import Documentation, Example, Pass, Requirement

_UNEVEN = 1.2
"""How many times an equal part the largest one may be: seven tiles of rows can be divided in two."""


@dataclass(frozen=True)
class ThreadShare(Pass):
    """Give each of `count` threads about an equal part of loop `level` of every parallel nest, and all of the others.

    Level 0 leaves the threads what the schedule gave them: parts of the outermost loop. Kernels whose threads take the
    same rows of every tensor find in their own caches what they wrote before; a convolution divided by its output
    channels, on the other hand, reads all that both threads have written, and a line that another CPU has read costs
    its writer up to a hundred times as much to write again as one of its own.
    """

    name: ClassVar[str] = "threads"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "the iterations of the level are independent",
                "threads whose boxes of written elements overlap are left out (`Shares.apart`)",
            ),
            Requirement("nearly equal parts", "the extent; refused where the largest is over 1.2 times an equal part"),
        ),
        options={
            "level": "the loop of every parallel nest that is divided among the threads; 0 leaves the schedule's",
            "count": "how many threads",
        },
        counters={"parallel nests": "of the scheduled program", "parallel iterations": "of all of them"},
        loses="Where a thread's part of the outermost loop is what its caches hold.",
        elsewhere="OpenMP `schedule(static)` and `collapse`, Halide `reorder` with `parallel`",
        example=Example(examples.planes, examples.parallel, "threads{level=0,count=0}", "threads{level=1,count=2}"),
    )
    level: int = 0
    count: int = 0

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.level or self.level in levels(function, self.count):
            return ""
        return f"{self.count} threads cannot have nearly equal parts of loop {self.level} of a parallel nest"

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        loops = parallel_loops(function)
        return {"parallel nests": len(loops), "parallel iterations": sum(int(loop.extent) for loop in loops)}

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        if not self.level:
            return function

        def divided(loop: Any) -> Any:
            if loop.kind != tirx.ForKind.PARALLEL:
                return loop
            return _divided(loop, self.level, self.count) or loop

        return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, divided)))


def levels(function: tirx.PrimFunc, count: int) -> tuple[int, ...]:
    """The levels above 0 of which `count` threads can have about equal parts in some parallel nest of a program."""
    found: set[int] = set()
    for loop in parallel_loops(function):
        nest = _Nest.of(loop)
        found.update(n for n, extent in enumerate(nest.extents) if n and _divisible(extent, count))
    return tuple(sorted(found))


def parallel_loops(function: tirx.PrimFunc) -> list[Any]:
    """The parallel loops of a scheduled program, in its order."""
    return [loop for loop in nodes(function.body, tirx.For) if loop.kind == tirx.ForKind.PARALLEL]


@dataclass(frozen=True)
class _Nest:
    """A parallel loop, taken apart into the loops that it was fused from, and the serial loops right inside of it.

    `fused` are extents; `serial` are loops. Loops of one iteration are in `serial` only. `body` is what they enclose:
    where that is one statement, the innermost of the loops is a part of it.
    """

    loop: Any
    fused: tuple[int, ...]
    serial: tuple[Any, ...]
    body: Any

    @property
    def extents(self) -> tuple[int, ...]:
        """Those of all levels."""
        return (*self.fused, *(e for loop in self.serial if (e := int(loop.extent)) > 1))

    @staticmethod
    def of(loop: Any) -> _Nest:
        serial, body = [], loop.body
        while isinstance(body, tirx.For) and body.kind == tirx.ForKind.SERIAL and not body.annotations:
            serial.append(body)
            body = body.body
        if serial and not isinstance(body, tirx.SeqStmt):
            body = serial.pop()
        return _Nest(loop, _fused_extents(loop), tuple(serial), body)


def _fused_extents(loop: Any) -> tuple[int, ...]:
    """The extents of the loops that a loop was fused from, as the quotients and remainders in its body tell."""
    steps = {int(loop.extent), 1}

    def look(expression: Any) -> None:
        inner = expression.a
        while isinstance(inner, (tirx.FloorDiv, tirx.FloorMod)):
            inner = inner.a
        if inner.same_as(loop.loop_var) and isinstance(expression.b, tirx.IntImm):
            steps.add(int(expression.b))

    tvm_ffi.structural_walk(loop.body, [(tirx.FloorDiv, look), (tirx.FloorMod, look)])
    order = sorted(steps, reverse=True)
    extents = [high // low for high, low in itertools.pairwise(order)]
    whole = all(high % low == 0 for high, low in itertools.pairwise(order))
    return tuple(extents) if whole and extents else (int(loop.extent),)


def _divisible(extent: int, count: int) -> bool:
    """Whether every one of `count` threads gets iterations, and none too many."""
    part = -(-extent // count)
    return (count - 1) * part < extent and part * count <= _UNEVEN * extent


def _part(extent: int, count: int, thread: Any, dtype: str) -> tuple[Any, Any]:
    """The begin and the extent of a thread's iterations."""
    part = -(-extent // count)
    begin = thread * tirx.const(part, dtype)
    whole = tirx.const(part, dtype)
    return begin, whole if extent % count == 0 else tirx.Min(whole, tirx.const(extent, dtype) - begin)


def _divided(loop: Any, level: int, count: int) -> Any:
    """The nest with `count` iterations of its parallel loop, each with its part of a level; None where it has no such
    parts."""
    nest = _Nest.of(loop)
    if level >= len(nest.extents) or not _divisible(nest.extents[level], count):
        return None
    dtype = str(loop.loop_var.ty.dtype)
    thread = tirx.Var("thread", dtype)
    names = [tirx.Var(f"{loop.loop_var.name}_{n}", dtype) for n in range(len(nest.fused))]
    extents = [tirx.const(extent, dtype) for extent in nest.fused]
    begins: dict[int, Any] = {}
    if level < len(nest.fused):
        begins[level], extents[level] = _part(nest.fused[level], count, thread, dtype)
    index = tirx.const(0, dtype)
    for n, (name, extent) in enumerate(zip(names, nest.fused, strict=True)):
        index = index * tirx.const(extent, dtype) + (begins[n] + name if n in begins else name)
    replaced: dict[Any, Any] = {loop.loop_var: index}
    outer = list(zip(names, extents, strict=True))
    at = len(nest.fused)
    for serial in nest.serial:
        extent = serial.extent
        if int(extent) > 1:
            if at == level:
                begin, part = _part(int(extent), count, thread, dtype)
                inner = tirx.Var(serial.loop_var.name, dtype)
                replaced[serial.loop_var] = begin + inner
                outer.append((inner, part))
                at += 1
                continue
            at += 1
        outer.append((serial.loop_var, extent))
    body = substituted(nest.body, replaced)
    for name, extent in reversed(outer):
        body = tirx.For(name, tirx.const(0, dtype), extent, tirx.ForKind.SERIAL, body)
    zero = tirx.const(0, dtype)
    return tirx.For(
        thread, zero, tirx.const(count, dtype), tirx.ForKind.PARALLEL, body, annotations=dict(loop.annotations)
    )
