"""Maps of which one reads rows that another wrote, as one loop over rows: each a few rows behind the one before.

As kernels of their own each would go through memory: a stencil of ten steps of time reads and writes its arrays ten
times. Here a later map follows the earlier one at the distance that its subscripts need (loop shifting and fusion), and
the rows between them stay in a window that fits the cache. Elements that no map writes, the border, are copied; where
the caller's array is overwritten, onto themselves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx

from kernels.raising.access import Element
from kernels.raising.bodies import Body
from kernels.raising.exact import scalars
from kernels.raising.memory import CELL, RESULT
from kernels.raising.ops import Operation
from kernels.raising.polyhedra import isl
from kernels.raising.scalars import DTYPES, size_of
from kernels.raising.shapes import Shapes
from kernels.raising.sizes import Sized
from kernels.raising.tensor_operators import bounds, box_text

MOST_WINDOW_BYTES = 1 << 19
"""Of the rows between maps: half of a second-level cache."""

MOST_MAPS = 24
"""Maps of one function: its code grows with them."""

_LEAST_ROWS_A_LAG = 8
"""Rows that a thread has of its own for each row that its neighbours compute, too."""

_Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Rows:
    """A map that writes a box of its target's elements: `box` has the first and the last place by dimension; place
    `p` of dimension `d` is that of the counter `counters[d]` = p - `offsets[d]`."""

    op: Operation
    box: _Box
    counters: tuple[str, ...]
    offsets: tuple[int, ...]

    @property
    def base(self) -> str:
        return self.op.target.base

    def at(self, places: Sequence[Any]) -> dict[str, Any]:
        """The counters at a place."""
        return {c: p - o for c, p, o in zip(self.counters, places, self.offsets, strict=True)}

    def row_of(self, element: Element, sized: Sized) -> int | None:
        """How far the row that is read lies behind the row that is written; None where that differs."""
        if not element.subscripts:
            return None
        row = element.subscripts[0].substitute(sized.values)
        if row.symbols != {self.counters[0]} or row.coefficient(self.counters[0]).constant != 1:
            return None
        return int(row.without([self.counters[0]]).constant or 0) - self.offsets[0]


def rows_of(op: Operation, sized: Sized, shapes: Shapes) -> Rows | None:
    """The operation as a map over a box; None where it is none, or reads other elements of its own target."""
    base = op.target.base
    shape = shapes.of[base]
    if op.combine or op.steps or op.choice is not None or op.reduced or op.fixed or base.startswith((CELL, RESULT)):
        return None
    if len(op.kept) != len(shape) or len(op.target.subscripts) != len(shape) or math.prod(shape) >= 1 << 31:
        return None
    counters, offsets = [], []
    for poly in op.target.subscripts:
        value = poly.substitute(sized.values)
        [symbol, *more] = [*value.symbols, ""]
        if more != [""] or value.coefficient(symbol).constant != 1 or symbol in counters:
            return None
        counters.append(symbol)
        offsets.append(int(value.without([symbol]).constant or 0))
    if set(counters) != set(op.kept) or any(e.base == base and e != op.target for e in op.reads):
        return None
    cover = sized.at(op.cover)
    if cover.is_empty():
        return None
    ranges = {c: bounds(cover, op.kept.index(c)) for c in op.kept}
    whole = isl.Set(box_text(op.kept, ranges))
    if not whole.is_subset(cover) or not whole.is_subset(sized.at(op.domain)):
        return None
    box = tuple((ranges[c][0] + o, ranges[c][1] + o) for c, o in zip(counters, offsets, strict=True))
    return Rows(op, box, tuple(counters), tuple(offsets))


@dataclass(frozen=True)
class _Version:
    """Where an array's content at some point of the function is: what it was at the beginning (None), or what a map
    left."""

    base: str
    writer: int | None


@dataclass(frozen=True)
class _Array:
    """A buffer as `Body` reads tensors: the whole array, its elements one behind the other, or a window of rows."""

    buffer: Any
    shape: tuple[int, ...]
    flat: bool = False
    window: int = 0

    def place(self, at: Sequence[Any]) -> list[Any]:
        if self.window:
            return [tirx.bitwise_and(at[0], _number(self.window - 1)), *at[1:]]
        if not self.flat:
            return list(at)
        total = at[0]
        for index, extent in zip(at[1:], self.shape[1:], strict=True):
            total = total * extent + index
        return [total]

    def __call__(self, *at: Any) -> Any:
        return tirx.BufferLoad(self.buffer, self.place(at))

    def __getitem__(self, at: int) -> Any:
        return tirx.BufferLoad(self.buffer, [_number(at)])


class Sweeps:
    """The function of one or several maps. It takes `inputs`, by the names of arrays and scalars, and makes `outputs`.

    `in_place`: which of them may lie where the input of the same name lies.
    """

    def __init__(
        self, maps: Sequence[Rows], sized: Sized, shapes: Shapes, later: Collection[str], threads: int
    ) -> None:
        """`later`: arrays that are read afterwards, or belong to the caller."""
        self.maps, self._sized, self._shapes = tuple(maps), sized, shapes
        self._lags, self._windows = _lags(self)
        self._reach = self._halo()
        self.outputs = tuple(dict.fromkeys(m.base for m in self.maps if m.base in later))
        self._last = {m.base: number for number, m in enumerate(self.maps)}
        rows = max(self._extent(number) for number in range(len(self.maps)))
        halo = max(map(sum, self._reach))
        divided = threads > 1 and rows // threads >= _LEAST_ROWS_A_LAG * max(halo, 1)
        self._rows = -(-rows // threads) if divided else rows
        self._parts = -(-rows // self._rows)
        for number in range(len(self.maps)):
            if not self.is_last(number):
                self._windows.setdefault(number, 1)
            elif self._parts == 1:  # nobody else computes these rows: the output itself is what later maps read
                self._windows.pop(number, None)
        old = [v.base for n in range(len(self.maps)) for v in self._used(n) if v.writer is None]
        self._read = tuple(dict.fromkeys(old))
        self.inputs = tuple(dict.fromkeys([*self._read, *(s for m in self.maps for s in scalars(m.op))]))
        self.in_place = frozenset(base for base in self.outputs if base in self._read and self._is_in_place(base))

    # --- which map reads what

    def version(self, base: str, before: int) -> _Version:
        """The content of an array as a map finds it."""
        writers = [n for n, m in enumerate(self.maps[:before]) if m.base == base]
        return _Version(base, writers[-1] if writers else None)

    def border(self, number: int) -> _Version | None:
        """Where the elements are that a map leaves as they are; None where there are none."""
        own = self.maps[number]
        if self.is_whole(number):
            return None
        found = self.version(own.base, number)
        while found.writer is not None and _lies_in(self.maps[found.writer].box, own.box):
            found = self.version(own.base, found.writer)
        return found

    def is_whole(self, number: int) -> bool:
        shape = self._shapes.of[self.maps[number].base]
        return self.maps[number].box == tuple((0, extent - 1) for extent in shape)

    def read(self, number: int) -> list[tuple[_Version, int | None]]:
        """What a map reads, and how many rows behind the one that it writes."""
        own = self.maps[number]
        found = [(self.version(e.base, number), own.row_of(e, self._sized)) for e in own.op.reads]
        edge = self.border(number)
        return found if edge is None else [*found, (edge, 0)]

    def _used(self, number: int) -> list[_Version]:
        return [version for version, _ in self.read(number)]

    def _extent(self, number: int) -> int:
        return self._shapes.of[self.maps[number].base][0]

    def _halo(self) -> list[tuple[int, int]]:
        """By map: how many rows before a part's own first one, and behind its last one, it computes for others."""
        reach = [(0, 0)] * len(self.maps)
        for number in reversed(range(len(self.maps))):
            for version, row in self.read(number):
                if version.writer is not None and row is not None:
                    before, behind = reach[number]
                    known = reach[version.writer]
                    reach[version.writer] = (max(known[0], before - row), max(known[1], behind + row))
        return reach

    def _is_in_place(self, base: str) -> bool:
        """Whether each row of the old content is read for the last time before it is overwritten."""
        last = self._last[base]
        if self._parts > 1:
            return False
        writers = [m for m in self.maps if m.base == base]
        for number in range(len(self.maps)):
            edge = self.border(number)
            for version, row in self.read(number):
                if version != _Version(base, None):
                    continue
                if version == edge and row == 0 and all(_lies_in(m.box, self.maps[number].box) for m in writers):
                    continue  # never overwritten but by itself
                if row is None:
                    return False
                ends, begins = self._lags[number] - row, self._lags[last]
                if ends > begins or (ends == begins and number >= last and not (number == last and row == 0)):
                    return False
        return True

    # --- the function

    def function(self, kinds: Mapping[str, str], flat: Mapping[str, int]) -> Any:
        """`kinds` are the dtypes of arrays and scalars by name; `flat` has the arrays that end at their last element
        accessed, with the number of their elements."""
        self._flat = flat

        def declared(base: str, kind: str, name: str) -> _Array:
            shape = self._shapes.of.get(base, (1,))
            own = (flat[base],) if base in flat else shape
            # the caller's arrays lie where they lie
            buffer = tirx.decl_buffer(own, kind, name, data_alignment=tvm.DataType(kind).bits // 8)
            return _Array(buffer, shape, base in flat)

        given = {name: declared(name, kinds[name], f"given{k}") for k, name in enumerate(self.inputs)}
        made = {
            base: declared(base, DTYPES[self.maps[self._last[base]].op.type], f"made{k}")
            for k, base in enumerate(self.outputs)
        }
        windows = {
            number: _Array(
                tirx.decl_buffer((size, *self._inner(number)), DTYPES[self.maps[number].op.type], f"window{number}"),
                self._shapes.of[self.maps[number].base], window=size,
            )
            for number, size in self._windows.items()
        }  # fmt: skip
        buffers = [a.buffer for a in (*given.values(), *made.values())]
        root = s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", self._block(given, made, windows)))
        return tirx.PrimFunc(buffers, root).with_attr({"s_tir": True, "tirx.noalias": True})

    def _inner(self, number: int) -> tuple[int, ...]:
        return self._shapes.of[self.maps[number].base][1:]

    def _block(
        self, given: Mapping[str, _Array], made: Mapping[str, _Array], windows: Mapping[int, _Array]
    ) -> Any:
        part = tirx.Var("v_part", "int32")
        iters = [tirx.IterVar(tvm.ir.Range(0, self._parts), part, 0)]
        code = _Code(self, self._sized, self._shapes, given, made, windows, self._flat)
        rooms = [array.buffer for array in windows.values()]
        body = code.of_part(part)
        names = {a.buffer: a.buffer for a in (*given.values(), *made.values())}
        reads, writes, _ = s_tir.analysis.get_sblock_access_region(
            s_tir.SBlock(iters, [], [], "sweeps", body, alloc_buffers=rooms), names
        )
        block = s_tir.SBlock(iters, reads, writes, "sweeps", body, alloc_buffers=rooms)
        counter = tirx.Var("i_part", "int32")
        return _loop(counter, self._parts, s_tir.SBlockRealize([counter], True, block))

    @property
    def lags(self) -> Sequence[int]:
        return self._lags

    @property
    def reach(self) -> Sequence[tuple[int, int]]:
        return self._reach

    @property
    def rows(self) -> int:
        """Rows of a part."""
        return self._rows

    def is_last(self, number: int) -> bool:
        """Whether what a map writes is an output."""
        base = self.maps[number].base
        return base in self.outputs and self._last[base] == number

    @property
    def window_bytes(self) -> int:
        return sum(
            size * math.prod(self._inner(number)) * size_of(self.maps[number].op.type)
            for number, size in self._windows.items()
        )


def _lags(sweeps: Sweeps) -> tuple[list[int], dict[int, int]]:
    """How many rows each map is behind the first one, and how many rows of each are kept for those that read them."""
    lags: list[int] = []
    for number in range(len(sweeps.maps)):
        needed = [lags[v.writer] + row for v, row in sweeps.read(number) if v.writer is not None and row is not None]
        lags.append(max([0, *needed]))
    windows: dict[int, int] = {}
    for number in range(len(sweeps.maps)):
        for version, row in sweeps.read(number):
            if version.writer is not None and row is not None:
                rows = lags[number] - lags[version.writer] - row + 1
                windows[version.writer] = max(windows.get(version.writer, 1), 1 << (rows - 1).bit_length())
    return lags, windows


@dataclass(frozen=True)
class _Code:
    """The statements of a part of the rows."""

    sweeps: Sweeps
    sized: Sized
    shapes: Shapes
    given: Mapping[str, _Array]
    made: Mapping[str, _Array]
    windows: Mapping[int, _Array]
    flat: Mapping[str, int]

    def of_part(self, part: Any) -> Any:
        sweeps = self.sweeps
        low, high = part * sweeps.rows, (part + 1) * sweeps.rows
        begins = min(lag - before for lag, (before, _) in zip(sweeps.lags, sweeps.reach, strict=True))
        ends = max(lag + behind for lag, (_, behind) in zip(sweeps.lags, sweeps.reach, strict=True))
        time = tirx.Var("time", "int32")
        steps = []
        for number, (lag, (before, behind)) in enumerate(zip(sweeps.lags, sweeps.reach, strict=True)):
            row = low + time + (begins - lag)
            extent = self.shapes.of[sweeps.maps[number].base][0]
            inside = tirx.all(row >= tirx.max(low - before, 0), row < tirx.min(high + behind, _number(extent)))
            steps.append(tirx.IfThenElse(inside, self.row(number, row, low, high), None))
        return _sequence([*self._begun(), _loop(time, sweeps.rows + ends - begins, _sequence(steps))])

    def _begun(self) -> Iterator[Any]:
        """A store to each window, so that TVM sees that it is there before the loop, and goes on to be."""
        for array in self.windows.values():
            zero = tirx.const(0, str(array.buffer.dtype))
            yield tirx.BufferStore(array.buffer, zero, [_number(0)] * len(array.buffer.shape))

    # --- a row

    def row(self, number: int, row: Any, low: Any, high: Any) -> Any:
        """One row of a map's target, its border too."""
        [first, last] = self.sweeps.maps[number].box[0]
        inner = self._within(number, [row], True)
        extent = self.shapes.of[self.sweeps.maps[number].base][0]
        if (first, last) == (0, extent - 1):
            made = inner
        else:
            made = tirx.IfThenElse(
                tirx.all(row >= first, row <= last), inner, self._within(number, [row], False)
            )  # fmt: skip
        if number not in self.windows or not self.sweeps.is_last(number):
            return made
        kept = self._copied(number, [row])
        return _sequence([made, tirx.IfThenElse(tirx.all(row >= low, row < high), kept, None)])

    def _between(self, low: Any, high: Any, body: Callable[[Any], Any]) -> Any:
        counter = tirx.Var("k", "int32")
        return _loop(counter, high - low, body(low + counter))

    def _within(self, number: int, at: Sequence[Any], inside: bool) -> Any:
        """The elements from a place on, by the dimensions that are left."""
        own = self.sweeps.maps[number]
        shape = self.shapes.of[own.base]
        if len(at) == len(shape):
            return self._computed(number, at) if inside else self._kept(number, at)
        if not inside:
            return self._all(own.base, at, lambda place: self._kept(number, place))
        first, last = own.box[len(at)]
        parts = list(self._strips(number, at, first, last))
        inner = self._between(_number(first), _number(last + 1), lambda k: self._within(number, [*at, k], True))
        return _sequence([*parts, inner])

    def _strips(self, number: int, at: Sequence[Any], first: int, last: int) -> Iterator[Any]:
        """The border before and behind, in the next dimension."""
        base = self.sweeps.maps[number].base
        extent = self.shapes.of[base][len(at)]
        for low, high in ((0, first), (last + 1, extent)):
            if low < high:
                end = self._end(base, at, high) if high == extent else _number(high)
                yield self._between(
                    _number(low), end, lambda k: self._all(base, [*at, k], lambda place: self._kept(number, place))
                )

    def _all(self, base: str, at: Sequence[Any], body: Callable[[Sequence[Any]], Any]) -> Any:
        shape = self.shapes.of[base]
        if len(at) == len(shape):
            return body(at)
        end = self._end(base, at, shape[len(at)])
        return self._between(_number(0), end, lambda k: self._all(base, [*at, k], body))

    def _end(self, base: str, at: Sequence[Any], end: int) -> Any:
        """Where a loop over the last dimension ends: with the array."""
        shape = self.shapes.of[base]
        if base not in self.flat or len(at) + 1 < len(shape):
            return _number(end)
        place: Any = at[0] if at else _number(0)
        for index, extent in zip(at[1:], shape[1:-1], strict=True):
            place = place * extent + index
        rest = self.flat[base] - place * shape[-1] if at else _number(self.flat[base])
        return tirx.min(_number(end), rest)

    # --- an element

    def _computed(self, number: int, at: Sequence[Any]) -> Any:
        own = self.sweeps.maps[number]
        names = [*(e.base for e in own.op.reads), *scalars(own.op)]
        tensors: dict[str, Any] = {name: self._array(self.sweeps.version(name, number)) for name in names}
        body = Body(own.op, tensors, self.sized, self.shapes)
        return self._stored(number, at, body.value(own.op.value, own.at(at)))

    def _kept(self, number: int, at: Sequence[Any]) -> Any:
        border = self.sweeps.border(number)
        assert border is not None
        return self._stored(number, at, self._array(border)(*at))

    def _stored(self, number: int, at: Sequence[Any], value: Any) -> Any:
        array = self.windows.get(number) or self.made[self.sweeps.maps[number].base]
        return tirx.BufferStore(array.buffer, value, array.place(at))

    def _copied(self, number: int, at: Sequence[Any]) -> Any:
        """From the window to the output."""
        base = self.sweeps.maps[number].base
        window, to = self.windows[number], self.made[base]
        return self._all(base, at, lambda place: tirx.BufferStore(to.buffer, window(*place), to.place(place)))

    def _array(self, version: _Version) -> _Array:
        if version.writer is None:
            return self.given[version.base]
        return self.windows.get(version.writer) or self.made[version.base]


def grouped(
    ops: Sequence[Operation], sized: Sized, shapes: Shapes, wanted: Collection[str], threads: int
) -> list[Operation | Sweeps]:
    """The operations in order, with those that are better run over rows put together. `wanted`: the caller's arrays."""
    rows = {id(op): rows_of(op, sized, shapes) for op in {id(op): op for op in ops}.values()}
    found: list[Operation | Sweeps] = []
    position = 0
    while position < len(ops):
        maps = _next_maps([rows[id(op)] for op in ops[position:]], sized, shapes)
        here = ops[position : position + max(len(maps), 1)]
        position += len(here)
        rest = [(op, rows[id(op)]) for op in ops[position:]]
        needed = {m.base for m in maps if _is_needed(m.base, [n.box for n in maps if n.base == m.base], rest, wanted)}
        made = Sweeps(maps, sized, shapes, needed, threads) if maps else None
        found.extend(here if made is None or not _pays(made) else [made])
    return found


def _next_maps(rows: Sequence[Rows | None], sized: Sized, shapes: Shapes) -> list[Rows]:
    """The maps at the beginning that are run behind each other: where all do not fit, an even part of them."""
    maps = [one for one in itertools.takewhile(lambda one: one is not None, rows) if one is not None]
    most = next((n for n in range(1, len(maps)) if not _fits(maps[: n + 1], sized, shapes)), len(maps))
    if most < 2:
        return maps[:most]
    return maps[: -(-len(maps) // -(-len(maps) // most))]


def _is_needed(
    base: str, boxes: Sequence[_Box], rest: Sequence[tuple[Operation, Rows | None]], wanted: Collection[str]
) -> bool:
    """Whether what maps wrote to boxes of an array is read later, before it is overwritten."""
    for op, rows in rest:
        if any(e.base == base for e in op.reads):
            return True
        if base in op.written:
            return rows is None or not all(_lies_in(box, rows.box) for box in boxes)
    return base in wanted


def _fits(maps: Sequence[Rows], sized: Sized, shapes: Shapes) -> bool:
    """Whether maps can be run behind each other, in a window of a bearable size."""
    if len(maps) > MOST_MAPS or any(len(shapes.of[m.base]) < 2 for m in maps):
        return False
    made = Sweeps(maps, sized, shapes, (), 1)
    known = all(row is not None for n in range(len(maps)) for v, row in made.read(n) if v.writer is not None)
    return known and made.window_bytes <= MOST_WINDOW_BYTES


def _pays(sweeps: Sweeps) -> bool:
    """Whether rows are read that are not those written; else tensor expressions are as good, which are fused."""
    return any(row for n in range(len(sweeps.maps)) for version, row in sweeps.read(n) if version.writer is not None)


def _lies_in(box: _Box, other: _Box) -> bool:
    return all(low >= first and high <= last for (low, high), (first, last) in zip(box, other, strict=True))


def _number(value: int) -> Any:
    return tirx.const(value, "int32")


def _sequence(statements: Sequence[Any]) -> Any:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def _loop(counter: Any, extent: Any, body: Any) -> Any:
    length = _number(extent) if isinstance(extent, int) else extent
    return tirx.For(counter, _number(0), length, tirx.ForKind.SERIAL, body)
