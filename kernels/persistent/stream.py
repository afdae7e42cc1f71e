"""Stream-K: the steps of all tiles, or of those of the last wave, divided evenly among as many thread blocks as are
resident. A part of a tile is written to memory, and a second launch adds the parts of each tile in their order: no
atomics, the same bits every time (Osama et al., "Stream-K: Work-Centric Parallel Decomposition for Dense Matrix-Matrix
Multiplication on the GPU", 2023)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

from kernels.nests.linear import same_element, substituted
from kernels.nests.plain import sequence, serial
from kernels.persistent.cover import writes_what_it_reads
from kernels.persistent.launches import (
    Launch,
    Refused,
    launch_of,
    loads_of,
    mapped,
    opaque,
    resident,
    rewritten,
    tag,
    with_block,
    with_loads,
    work,
)
from kernels.persistent.pending import arrived
from kernels.persistent.sums import TileSum, always, covered, tile_sum
from kernels.persistent.walk import PENDING, bound_to_blocks
from kernels.waves import Division, divided

MOST_BYTES = 1 << 28
"""Of the parts of tiles between the two launches."""

MOST_ALONG_Y = 65535


@dataclass(frozen=True)
class Divided:
    """What became of a launch: how it was divided, and the bytes of its parts; or why it was not."""

    division: Division | None
    partial_bytes: int = 0
    reason: str = ""


@functools.lru_cache(maxsize=8)
def streamed(
    function: tirx.PrimFunc, arch: str, all_tiles: bool, blocks: int = 0
) -> tuple[tirx.PrimFunc, tuple[Divided, ...]]:
    """A scheduled function whose launches that sum are divided among as many blocks as are resident on an architecture
    (or `blocks`), and what became of each launch.

    The sum of a tile that is cut is rounded in another order than before, which is always the same. Launches that are
    not shown to be sums of their tiles stay. The last few programs are kept.
    """
    lowered, became, partials = opaque(function), list[Divided](), list[Any]()
    loads: list[list[float]] = []
    given = loads_of(function)
    whole, complete = covered(function), arrived(lowered)

    def change(loop: Any) -> Any:
        loads.append(given[len(became)])
        try:
            launch = launch_of(loop)
            if not complete:
                raise Refused(PENDING)
            made = _Stream.of(launch, arch, all_tiles, blocks)
            if not whole and not writes_what_it_reads(made.sum.loops[-1].body, launch.bound):
                raise Refused("what a step of its reduction reads is not shown to be written in that step")
        except Refused as error:
            became.append(Divided(None, reason=str(error)))
            return loop
        became.append(Divided(made.division, made.partial_bytes))
        partials.append(made.partial)
        loads[-1:] = made.loads()
        return tirx.SeqStmt([made.main(), made.second()])

    made = rewritten(lowered, change)
    if not partials:
        return function, tuple(became)
    return with_loads(_allocated(made, partials), loads), tuple(became)


def _allocated(function: tirx.PrimFunc, buffers: Sequence[Any]) -> tirx.PrimFunc:
    """The function with buffers that last for all of its launches."""
    if isinstance(function.body, SBlockRealize):
        return function.with_body(with_block(function.body, function.body.block.body, buffers))
    root = SBlock([], [], [], "root", function.body, None, list(buffers))
    return function.with_body(SBlockRealize([], True, root))


@dataclass(frozen=True)
class _Stream:
    """A launch that is divided; `partial` has a row for each part of a tile, two for each block, of `own`, the loops
    around the store of a result that are not the same thread, in their order in a row."""

    launch: Launch
    sum: TileSum
    division: Division
    partial: Any
    own: tuple[Any, ...]

    @staticmethod
    def of(launch: Launch, arch: str, all_tiles: bool, blocks: int) -> _Stream:
        """Raises Refused."""
        found = tile_sum(launch)
        division = divided(launch.tiles, found.steps, blocks or resident(launch, arch), all_tiles)
        if isinstance(division, str):
            raise Refused(division)
        own = _in_a_row(found)
        shape = [2 * division.blocks, math.prod(int(loop.extent) for loop in own)]
        partial = tirx.decl_buffer(shape, str(found.load.source.dtype), "partial", scope="global")
        made = _Stream(launch, found, division, partial, own)
        if made.partial_bytes > MOST_BYTES:
            raise Refused(f"the parts of its tiles need {made.partial_bytes} bytes")
        return made

    @property
    def partial_bytes(self) -> int:
        rows, length = (int(extent) for extent in self.partial.shape)
        return rows * length * int(tvm.DataType(str(self.partial.dtype)).itemsize)

    def _number(self, value: int) -> Any:
        return tirx.const(value, self.launch.dtype)

    # --- the division, as expressions: as `waves.Division` has it in numbers

    def begin(self, block: Any) -> Any:
        return block * self._number(self.division.length) + tirx.Min(block, self._number(self.division.longer))

    def owner(self, step: Any) -> Any:
        length, longer = self.division.length, self.division.longer
        if not longer:
            return tirx.floordiv(step, self._number(length))
        limit = self._number(longer * (length + 1))
        late = self._number(longer) + tirx.floordiv(step - limit, self._number(length))
        return tirx.Select(step < limit, tirx.floordiv(step, self._number(length + 1)), late)

    def _row(self, loops: Sequence[Any]) -> Any:
        """The place in a row of the element that some loops, those of `own` or copies of them, are at."""
        place = self._number(0)
        for loop in loops:
            place = place * self._number(int(loop.extent)) + loop.loop_var.astype(self.launch.dtype)
        return place

    # --- first launch

    def main(self) -> Any:
        """Every block with its whole tiles, then its parts of others."""
        whole, steps, dtype = self.division.whole, self._number(self.division.steps), self.launch.dtype
        block, number = tirx.Var("block", dtype), tirx.Var("number", dtype)
        first = tirx.floordiv(self.begin(block), steps)
        last = tirx.floordiv(self.begin(block + 1) - 1, steps)
        cut, tile, begin, end = (tirx.Var(name, dtype) for name in ("cut", "tile", "first_step", "end_step"))
        at = number - self._number(whole)
        values = {
            cut: first + at,
            tile: self._number(whole * self.division.blocks) + cut,
            begin: tirx.Max(self.begin(block) - cut * steps, self._number(0)),
            end: tirx.Min(self.begin(block + 1) - cut * steps, steps),
        }
        if whole:
            is_whole = number < self._number(whole)
            values[tile] = tirx.Select(is_whole, block + number * self._number(self.division.blocks), values[tile])
            values[begin] = tirx.Select(is_whole, self._number(0), values[begin])
            values[end] = tirx.Select(is_whole, steps, values[end])
        row = block * self._number(2) + tirx.Select(tirx.EQ(at, self._number(0)), self._number(0), self._number(1))
        body = substituted(self._part(begin, end, row), dict(self.launch.coordinates(tile)))
        named = [tirx.Bind(name, value) for name, value in values.items()]
        count = self._number(whole + 1) + last - first
        inside = sequence([*named, body, *self.launch.barrier()])
        return bound_to_blocks(block, self.division.blocks, serial(number, count, inside))

    def _part(self, begin: Any, end: Any, row: Any) -> Any:
        """The tile's body with some of its steps, and its result where these are all, else its sums, as a row."""
        steps = self._number(self.division.steps)
        store, outer = self.sum.store, self.sum.loops[0]
        is_whole = tirx.And(tirx.EQ(begin, self._number(0)), tirx.EQ(end, steps))
        sums = tirx.BufferStore(self.partial, self.sum.load, [row, self._row(self.own)])
        either = tirx.IfThenElse(is_whole, store, sums)
        some = self._steps(begin, end)

        def changed(statement: Any) -> Any | None:
            if statement.same_as(outer):
                return some
            return either if statement.same_as(store) else None

        return mapped(self.launch.body, changed)

    def _steps(self, begin: Any, end: Any) -> Any:
        """The loop over some steps, in place of those over all."""
        loops = self.sum.loops
        step = tirx.Var("step", self.launch.dtype)
        at, values = begin + step, {}
        for number, loop in reversed(list(enumerate(loops))):
            extent = self._number(int(loop.extent))
            values[loop.loop_var] = tirx.floormod(at, extent) if number else at
            at = tirx.floordiv(at, extent)
        typed = {name: value.astype(str(name.ty.dtype)) for name, value in values.items()}
        body = substituted(loops[-1].body, typed)
        return tirx.For(step, self._number(0), end - begin, tirx.ForKind.SERIAL, body, annotations=loops[0].annotations)

    # --- second launch

    def second(self) -> Any:
        """A block for each divided tile, and along y for each iteration of the outermost serial loop around its
        results. Each result is the sum of the parts of its tile in their order."""
        dtype, steps = self.launch.dtype, self._number(self.division.steps)
        cut = tirx.Var("cut", dtype)
        first, last = self.owner(cut * steps), self.owner(cut * steps + steps - 1)
        copies = self._copies()
        tile = self._number(self.division.whole * self.division.blocks) + cut
        values = {old.loop_var: new.loop_var for old, new in copies} | dict(self.launch.coordinates(tile))
        total = tirx.decl_buffer((1,), str(self.partial.dtype), "total", scope="local")
        row = self._row([next(new for old, new in copies if old.same_as(loop)) for loop in self.own])
        body = [
            tirx.AllocBuffer(total),
            tirx.BufferStore(total, tirx.const(0, str(self.partial.dtype)), [tirx.const(0, "int32")]),
            self._added(total, first, last, cut * steps, row),
            self._result(total, values),
        ]
        guards = [substituted(guard, values) for guard in self._guards()]
        made = tirx.IfThenElse(functools.reduce(tirx.And, guards, first < last), sequence(body), None)
        along_y, threads, rest = self._ordered(copies)
        for loop in reversed([*threads, *rest]):
            made = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, made, loop.thread_binding)
        if along_y is not None:
            made = bound_to_blocks(along_y.loop_var, int(along_y.extent), made, "y")
        return bound_to_blocks(cut, self.division.cut, made)

    def _added(self, total: Any, first: Any, last: Any, begin: Any, place: Any) -> Any:
        """The parts of a tile, from that of block `first` to that of `last`, added in this order."""
        part, zero = tirx.Var("part", self.launch.dtype), tirx.const(0, "int32")
        block = first + part
        second = tirx.Select(self.begin(block) < begin, self._number(1), self._number(0))  # as in `main`
        other = tirx.BufferLoad(self.partial, [block * self._number(2) + second, place])
        return serial(part, last - first + 1, tirx.BufferStore(total, tirx.BufferLoad(total, [zero]) + other, [zero]))

    def _result(self, total: Any, values: dict[Any, Any]) -> Any:
        """The store of a result with the sum of its parts in the place of the sum."""
        load, store = self.sum.load, self.sum.store
        summed = tirx.BufferLoad(total, [tirx.const(0, "int32")])

        def value(node: Any) -> Any:
            same = node.source.same_as(load.source) and same_element(node.indices, load.indices)
            return summed if same else node

        changed = tvm_ffi.structural_map(store.value, (tvm.ir.TensorLoad, value))
        return substituted(tirx.BufferStore(store.buffer, changed, store.indices), values)

    def _copies(self) -> list[tuple[Any, Any]]:
        """Each loop around the store of a result with one of its own; loops over the same threads share theirs."""
        found: list[tuple[Any, Any]] = []
        for old in (statement for statement in self.sum.around if isinstance(statement, tirx.For)):
            known = [new for _, new in found if tag(new) and tag(new) == tag(old)]
            variable = tirx.Var(str(old.loop_var.name), str(old.loop_var.ty.dtype))
            kind = old.kind if tag(old) else tirx.ForKind.SERIAL
            new = tirx.For(variable, old.min, old.extent, kind, tirx.Evaluate(0), old.thread_binding)
            found.append((old, known[0] if known else new))
        return found

    def _guards(self) -> list[Any]:
        """The conditions under which a result is stored."""
        guards = []
        for statement in self.sum.around:
            if isinstance(statement, tirx.IfThenElse):
                guards.append(statement.condition)
            elif isinstance(statement, SBlockRealize) and not always(statement):
                guards.append(statement.predicate)
        return guards

    def _ordered(self, copies: Sequence[tuple[Any, Any]]) -> tuple[Any | None, list[Any], list[Any]]:
        """The first serial loop that repeats, if any; the loops that are threads; the others."""
        loops: list[Any] = []
        for _, new in copies:
            if not any(new.same_as(other) for other in loops):
                loops.append(new)
        serial_ones = [loop for loop in loops if not tag(loop)]
        along_y = next((loop for loop in serial_ones if 1 < int(loop.extent) <= MOST_ALONG_Y), None)
        rest = [loop for loop in serial_ones if along_y is None or not loop.same_as(along_y)]
        return along_y, [loop for loop in loops if tag(loop)], rest

    # --- work

    def loads(self) -> list[list[float]]:
        """The work of each block of the two launches, in stores."""
        step = work(self.launch.body) / self.division.steps
        along_y, *_ = self._ordered(self._copies())
        rows = 1 if along_y is None else int(along_y.extent)
        results = int(self.partial.shape[1]) / rows
        parts = [self.division.parts(cut) for cut in range(self.division.cut)]
        second = [results * (count + 1) if count > 1 else 0.0 for count in parts]
        return [[step * load for load in self.division.loads()], second * rows]


def _in_a_row(found: TileSum) -> tuple[Any, ...]:
    """The loops around the store of a result in the order in which a row of parts has its elements: serial ones, then
    threads, so that neighbours lie beside one another, then vectors."""
    loops: list[Any] = []
    for loop in (statement for statement in found.around if isinstance(statement, tirx.For)):
        if not tag(loop):
            loops.append(loop)
            continue
        loops = [other for other in loops if tag(other) != tag(loop)]  # the same thread: the inner one is in use
        loops.append(loop)

    def place(loop: Any) -> int:
        if not tag(loop):
            return 3 if loop.kind == tirx.ForKind.VECTORIZED else 0
        return 1 if tag(loop).startswith("vthread") else 2

    z_first = sorted(loops, key=tag, reverse=True)  # a stable order: serial loops stay in theirs
    return tuple(sorted(z_first, key=place))
