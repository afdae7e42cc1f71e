"""Maps of which one reads rows that another wrote, as one loop over rows: each a few rows behind the one before.

As kernels of their own each would go through memory: a stencil of ten steps of time reads and writes its arrays ten
times. Here a later map follows the earlier one at the distance that its subscripts need (loop shifting and fusion), and
the rows between them stay in a window that fits the cache. Elements that no map writes, the border, are copied; where
the caller's array is overwritten, onto themselves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from kernels.raising.access import Element
from kernels.raising.exact import scalars
from kernels.raising.memory import CELL, RESULT
from kernels.raising.ops import Operation
from kernels.raising.polyhedra import isl
from kernels.raising.scalars import DTYPES, size_of
from kernels.raising.shapes import Shapes
from kernels.raising.sizes import Sized
from kernels.raising.tensor_operators import bounds, box_text

WINDOW_BYTES = (1 << 19, 1 << 21)
"""Of the rows between maps, at most: half of a second-level cache, or, where fewer than `_ENOUGH` maps have their rows
in that, a small part of a third-level one."""

_ENOUGH = 4

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
    if len(op.kept) != len(shape) or len(op.target.subscripts) != len(shape):
        return None
    if any(math.prod(shapes.of[name]) >= 1 << 31 for name in (base, *(e.base for e in op.reads))):
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
class Version:
    """Where an array's content at some point of the function is: what it was at the beginning (None), or what a map
    left."""

    base: str
    writer: int | None


class Sweeps:
    """How maps are run behind each other: it takes `inputs`, by the names of arrays and scalars, and makes `outputs`.

    `lags`: how many rows each map is behind the first one. `windows`: how many rows are kept of what a map leaves, by
    its number; those who read another map's rows read its output. `parts`: of the rows, each `rows` long; `reach`: how
    many rows before a part and behind it a map computes, too, for the maps behind it. `window_bytes`: of the rows that
    are read again. `in_place`: which outputs may lie where the input of the same name lies.
    """

    def __init__(
        self, maps: Sequence[Rows], sized: Sized, shapes: Shapes, later: Collection[str], threads: int
    ) -> None:
        """`later`: arrays that are read afterwards, or belong to the caller."""
        self.maps, self.sized, self.shapes = tuple(maps), sized, shapes
        self._reads = [self._read_by(number) for number in range(len(self.maps))]
        self.lags, self.windows = _lags(self)
        self.window_bytes = sum(
            size * math.prod(self.inner(number)) * size_of(self.maps[number].op.type)
            for number, size in self.windows.items()
        )  # whether in windows or in outputs
        self.reach = self._halo()
        self.outputs = tuple(dict.fromkeys(m.base for m in self.maps if m.base in later))
        self._last = {m.base: number for number, m in enumerate(self.maps)}
        rows = max(self._extent(number) for number in range(len(self.maps)))
        halo = max(map(sum, self.reach))
        divided = threads > 1 and rows // threads >= _LEAST_ROWS_A_LAG * max(halo, 1)
        self.rows = -(-rows // threads) if divided else rows
        self.parts = -(-rows // self.rows)
        for number in range(len(self.maps)):
            if not self.is_last(number):
                self.windows.setdefault(number, 1)
            elif self.parts == 1:  # nobody else computes these rows: the output itself is what later maps read
                self.windows.pop(number, None)
        old = [v.base for n in range(len(self.maps)) for v in self._used(n) if v.writer is None]
        self._read = tuple(dict.fromkeys(old))
        self.inputs = tuple(dict.fromkeys([*self._read, *(s for m in self.maps for s in scalars(m.op))]))
        self.in_place = frozenset(base for base in self.outputs if base in self._read and self._is_in_place(base))

    # --- which map reads what

    def version(self, base: str, before: int) -> Version:
        """The content of an array as a map finds it."""
        writers = [n for n, m in enumerate(self.maps[:before]) if m.base == base]
        return Version(base, writers[-1] if writers else None)

    def border(self, number: int) -> Version | None:
        """Where the elements are that a map leaves as they are; None where there are none."""
        own = self.maps[number]
        if self.is_whole(number):
            return None
        found = self.version(own.base, number)
        while found.writer is not None and _lies_in(self.maps[found.writer].box, own.box):
            found = self.version(own.base, found.writer)
        return found

    def is_whole(self, number: int) -> bool:
        shape = self.shapes.of[self.maps[number].base]
        return self.maps[number].box == tuple((0, extent - 1) for extent in shape)

    def read(self, number: int) -> list[tuple[Version, int | None]]:
        """What a map reads, and how many rows behind the one that it writes."""
        return self._reads[number]

    def _read_by(self, number: int) -> list[tuple[Version, int | None]]:
        own = self.maps[number]
        found = [(self.version(e.base, number), own.row_of(e, self.sized)) for e in own.op.reads]
        edge = self.border(number)
        return found if edge is None else [*found, (edge, 0)]

    def _used(self, number: int) -> list[Version]:
        return [version for version, _ in self.read(number)]

    def _extent(self, number: int) -> int:
        return self.shapes.of[self.maps[number].base][0]

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
        if self.parts > 1:
            return False
        writers = [m for m in self.maps if m.base == base]
        for number in range(len(self.maps)):
            edge = self.border(number)
            for version, row in self.read(number):
                if version != Version(base, None):
                    continue
                if version == edge and row == 0 and all(_lies_in(m.box, self.maps[number].box) for m in writers):
                    continue  # never overwritten but by itself
                if row is None:
                    return False
                ends, begins = self.lags[number] - row, self.lags[last]
                if ends > begins or (ends == begins and number >= last and not (number == last and row == 0)):
                    return False
        return True

    def inner(self, number: int) -> tuple[int, ...]:
        """The shape of a row of a map's target."""
        return self.shapes.of[self.maps[number].base][1:]

    def dtype_of(self, base: str) -> str:
        """The dtype of an output."""
        return DTYPES[self.maps[self._last[base]].op.type]

    def is_last(self, number: int) -> bool:
        """Whether what a map writes is an output."""
        base = self.maps[number].base
        return base in self.outputs and self._last[base] == number


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
    most = 0
    for room in WINDOW_BYTES:
        if most < min(_ENOUGH, len(maps)):
            most = next((n for n in range(1, len(maps)) if not _fits(maps[: n + 1], sized, shapes, room)), len(maps))
    return maps[: -(-len(maps) // -(-len(maps) // most))] if maps else []


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


def _fits(maps: Sequence[Rows], sized: Sized, shapes: Shapes, room: int) -> bool:
    """Whether maps can be run behind each other, with windows of at most so many bytes."""
    if len(maps) > MOST_MAPS or any(len(shapes.of[m.base]) < 2 for m in maps):
        return False
    made = Sweeps(maps, sized, shapes, {m.base for m in maps}, 1)
    known = all(row is not None for n in range(len(maps)) for v, row in made.read(n) if v.writer is not None)
    return known and made.window_bytes <= room


def _pays(sweeps: Sweeps) -> bool:
    """Whether rows are read that are not those written; else tensor expressions are as good, which are fused."""
    return any(row for n in range(len(sweeps.maps)) for version, row in sweeps.read(n) if version.writer is not None)


def _lies_in(box: _Box, other: _Box) -> bool:
    return all(low >= first and high <= last for (low, high), (first, last) in zip(box, other, strict=True))
