"""Elements that are kept, in loops of their own."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.nests import memory
from kernels.nests.calls import named
from kernels.nests.conditions import CHOICE, Box, box_of, chosen
from kernels.nests.linear import loads, same_element, substituted
from kernels.nests.nest import Nest, Refused, nest_of
from kernels.nests.plain import plain, rewritten, sequence, serial
from kernels.nests.vectors import branches
from kernels.passes.base import Documentation, Example, Pass, Requirement

_LEAST_BYTES = 4 << 20
"""Outputs of which stores may go past the caches: smaller ones are still there for the next reader."""


@dataclass(frozen=True)
class Borders(Pass):
    """Compute what is inside of a border without a condition on every element, and copy the border by itself.

    A stencil that leaves the border of its result as it was is written as a choice for each element: `inside ? new :
    old`. The condition is solved for the loops' variables, and each loop is divided into the part before, inside and
    behind. What is inside becomes vectors, and reads nothing of the old result. The border is copied, unless the result
    is in the place of the old one. With `stream` the inside is stored past the caches, whole vectors at their
    multiples: memory then is not read before it is overwritten.
    """

    name: ClassVar[str] = "borders"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement("no element is made twice", "strides of the store's subscripts, each less than the next"),
            Requirement("the border is kept", "the other value is the same element of an argument"),
            Requirement("the inside is a box", "comparisons of one variable with a number; others stay conditions"),
            Requirement(
                "stores past the caches are whole vectors, and seen by others",
                "a row's first elements and its last are stored one by one, by its address; a fence at the end",
            ),
        ),
        options={
            "on": "1 divides loops at borders that are kept",
            "stream": "1 stores what is inside past the caches; x86, results of 4 MB and more",
        },
        counters={"conditions": "on elements, in the program", "streams": "stores past the caches, in the program"},
        loses="`stream` where the result is read again soon, and is small enough to be in a cache then.",
        elsewhere="TVM `LoopPartition`, Halide `specialize` and boundary conditions, LLVM `IRCE`; non-temporal stores",
        example=Example(examples.smoothed, examples.untouched, "borders{on=0}", "borders{on=1}"),
    )
    on: bool = False
    stream: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(True, True), cls()) if target_kind == "llvm" else (cls(),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        return bool(_divided(plain(module["main"]), False)[1])

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.on:
            return "only what is inside of a border is stored past the caches" if self.stream else ""
        if not _divided(plain(function), False)[1]:
            return "no element is kept at a border that is a range of a loop"
        if self.stream and not str(target.attrs.get("mtriple", "x86_64")).startswith("x86_64"):
            return "stores past the caches are those of x86"
        if self.stream and not _divided(plain(function), True)[1]:
            return "no large result whose rows are whole vectors"
        return ""

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        body = plain(function).body
        streams = [call for call in named(body, "tirx.call_extern") if "stream_" in str(call.args[0])]
        return {"conditions": len(named(body, CHOICE)), "streams": len(streams)}

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        return _divided(plain(function), self.stream)[0] if self.on else function


@functools.lru_cache(maxsize=8)
def _divided(function: tirx.PrimFunc, stream: bool) -> tuple[tirx.PrimFunc, int]:
    """A plain function with loops divided at borders, and how many nests: with `stream`, of those that are streamed."""
    arguments = list(function.params)
    count = 0

    def change(loop: Any) -> Any | None:
        nonlocal count
        try:
            made = _Kept.of(nest_of(loop), arguments)
            streamed = stream and made.lanes > 0
        except Refused:
            return None
        count += streamed or not stream
        return made.statement(streamed)

    body = rewritten(function.body, change)
    return (function.with_body(body), count) if count else (function, 0)


def forget() -> None:
    """For tests that change what is large."""
    _divided.cache_clear()


@dataclass(frozen=True)
class _Kept:
    """A nest that stores `new` inside of a box, and `old`, which is what is there, elsewhere."""

    nest: Nest
    box: Box
    new: Any
    old: Any

    @staticmethod
    def of(nest: Nest, arguments: Sequence[Any]) -> _Kept:
        """Raises Refused for another kind of nest."""
        found = None if nest.combiner or nest.first is not None else chosen(nest.store.value)
        if found is None or not any(nest.store.buffer.same_as(buffer) for buffer in arguments):
            raise Refused("no choice of an element's value")
        condition, new, old = found
        if not (isinstance(old, tvm.ir.TensorLoad) and same_element(old.indices, nest.store.indices)):
            raise Refused("an element that is not kept")
        box = box_of(condition, nest.loops)
        if all(low == 0 and high == int(loop.extent) for (low, high), loop in zip(box.ranges, nest.loops, strict=True)):
            raise Refused("a border that is no range of a loop")
        if box.rest:
            new = tirx.if_then_else(tirx.all(*box.rest), new, old)
        return _Kept(nest, box, new, old)

    # --- loops

    def statement(self, streamed: bool) -> Any:
        body = self._inside(0, {}, streamed)
        return sequence([body, memory.fence()]) if streamed else body

    def _inside(self, depth: int, at: Mapping[Any, Any], streamed: bool) -> Any:
        """The loops from a depth on, where all loops around are inside of the box."""
        if depth == len(self.nest.loops):
            return self._stored(self.new, at)
        loop, (low, high) = self.nest.loops[depth], self.box.ranges[depth]
        parts = [self._edge(depth, 0, low, at)]
        if streamed and depth == len(self.nest.loops) - 1:
            parts += self._streamed(low, high, at)
        else:
            parts.append(self._loop(depth, low, high, at, lambda inner: self._inside(depth + 1, inner, streamed)))
        parts.append(self._edge(depth, high, int(loop.extent), at))
        return sequence([part for part in parts if part is not None])

    def _edge(self, depth: int, begin: int, end: int, at: Mapping[Any, Any]) -> Any | None:
        """The iterations of a loop that are outside, with all of the loops in it."""
        if begin >= end:
            return None
        kept = self._loop(depth, begin, end, at, lambda inner: self._kept(depth + 1, inner))
        old = self.old.source
        if self.box.rest or any(load.source.same_as(old) for load in loads(self.new)):
            return kept  # elements are kept inside of the box, too; or a kernel that relies on buffers apart reads them
        return tirx.IfThenElse(memory.apart(self.nest.store.buffer, old), kept, None)

    def _kept(self, depth: int, at: Mapping[Any, Any]) -> Any:
        if depth == len(self.nest.loops):
            return self._stored(self.old, at)
        extent = int(self.nest.loops[depth].extent)
        return self._loop(depth, 0, extent, at, lambda inner: self._kept(depth + 1, inner))

    def _loop(self, depth: int, begin: int, end: int, at: Mapping[Any, Any], body: Any) -> Any | None:
        """Iterations of a loop, with a variable of their own."""
        if begin >= end:
            return None
        loop = self.nest.loops[depth]
        counter = tirx.Var(loop.loop_var.name, str(loop.loop_var.ty.dtype))
        inside = body({**at, loop.loop_var: counter + tirx.const(begin, counter.ty.dtype)})
        return serial(counter, end - begin, inside, loop.kind)

    def _stored(self, value: Any, at: Mapping[Any, Any]) -> Any:
        indices = [substituted(index, at) for index in self.nest.store.indices]
        return tirx.BufferStore(self.nest.store.buffer, substituted(value, at), indices)

    # --- vectors past the caches

    @functools.cached_property
    def lanes(self) -> int:
        """Elements of a vector that is stored past the caches; 0 where there is none."""
        store, innermost = self.nest.store, self.nest.loops[-1]
        size = math.prod(int(extent) for extent in store.buffer.shape)
        bits = int("".join(filter(str.isdigit, str(store.buffer.dtype))) or 8)
        if size * bits // 8 < _LEAST_BYTES or self.nest.stride(store, innermost) != 1 or self.box.rest:
            return 0
        if branches(self.new, innermost) or any(self.nest.stride(x, innermost) not in (0, 1) for x in loads(self.new)):
            return 0
        low, high = self.box.ranges[-1]
        lanes = memory.lanes_of(str(store.buffer.dtype))
        return lanes if high - low >= 2 * lanes else 0

    def _streamed(self, low: int, high: int, at: Mapping[Any, Any]) -> list[Any]:
        """The innermost loop: elements up to one that a vector can be stored at, vectors, and the rest."""
        depth, lanes = len(self.nest.loops) - 1, self.lanes
        loop, store = self.nest.loops[depth], self.nest.store
        dtype = str(loop.loop_var.ty.dtype)

        def places(element: Any) -> list[Any]:
            return [substituted(index, {**at, loop.loop_var: element}) for index in store.indices]

        whole_row = tirx.const(high - low, dtype)
        peeled = tirx.Var(f"{loop.loop_var.name}_before", dtype)
        distance = tirx.min(memory.distance(store.buffer, places(tirx.const(low, dtype))).astype(dtype), whole_row)
        count = tirx.floordiv(whole_row - peeled, tirx.const(lanes, dtype))
        vector = tirx.decl_buffer((lanes,), store.buffer.dtype, f"{store.buffer.name}_vector")
        number, lane = tirx.Var(f"{loop.loop_var.name}_vector", dtype), tirx.Var("lane", dtype)
        begin = number * tirx.const(lanes, dtype) + peeled + tirx.const(low, dtype)
        value = substituted(self.new, {**at, loop.loop_var: begin + lane})
        made = serial(lane, lanes, tirx.BufferStore(vector, value, [lane]), tirx.ForKind.VECTORIZED)
        whole = tirx.BufferLoad(vector, [tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), lanes)])
        body = tirx.SeqStmt([tirx.AllocBuffer(vector), made, memory.stored(store.buffer, places(begin), whole, lanes)])

        def rest(first: Any, end: Any) -> Any:
            one = tirx.Var(loop.loop_var.name, dtype)
            return serial(one, end - first, self._stored(self.new, {**at, loop.loop_var: one + first}))

        ends = tirx.const(low, dtype) + peeled + count * tirx.const(lanes, dtype)
        return [
            tirx.Bind(peeled, distance),
            rest(tirx.const(low, dtype), tirx.const(low, dtype) + peeled),
            serial(number, count, body),
            rest(ends, tirx.const(high, dtype)),
        ]
