"""The TensorIR function of maps that are run behind each other over rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx

from kernels.raising.bodies import Body
from kernels.raising.exact import index_of, scalars, sequence, serial_loop
from kernels.raising.scalars import DTYPES
from kernels.raising.sweeps import Sweeps, Version


def function_of(sweeps: Sweeps, kinds: Mapping[str, str], flat: Mapping[str, int]) -> Any:
    """The function, of arguments `inputs` and `outputs`. `kinds` are the dtypes of arrays and scalars by name; `flat`
    has the arrays that end at their last element accessed, with the number of their elements: these have one dimension.
    Raises Abstained."""

    def declared(base: str, kind: str, name: str) -> _Array:
        shape = sweeps.shapes.of.get(base, (1,))
        own = (flat[base],) if base in flat else shape
        # the caller's arrays lie where they lie
        buffer = tirx.decl_buffer(own, kind, name, data_alignment=tvm.DataType(kind).bits // 8)
        return _Array(buffer, shape, base in flat)

    given = {name: declared(name, kinds[name], f"given{k}") for k, name in enumerate(sweeps.inputs)}
    made = {base: declared(base, sweeps.dtype_of(base), f"made{k}") for k, base in enumerate(sweeps.outputs)}
    windows = {}
    for number, size in sweeps.windows.items():
        own = sweeps.maps[number]
        buffer = tirx.decl_buffer((size, *sweeps.inner(number)), DTYPES[own.op.type], f"window{number}")
        windows[number] = _Array(buffer, sweeps.shapes.of[own.base], window=size)
    buffers = [array.buffer for array in (*given.values(), *made.values())]
    block = _block(_Code(sweeps, given, made, windows, flat), buffers)
    root = s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", block))
    return tirx.PrimFunc(buffers, root).with_attr({"s_tir": True, "tirx.noalias": True})


def _block(code: _Code, buffers: Sequence[Any]) -> Any:
    """The loop over parts, each of which has windows of its own."""
    part, counter = tirx.Var("v_part", "int32"), tirx.Var("i_part", "int32")
    parts = code.sweeps.parts
    iters = [tirx.IterVar(tvm.ir.Range(0, parts), part, 0)]
    rooms = [array.buffer for array in code.windows.values()]
    body = code.of_part(part)
    reads, writes, _ = s_tir.analysis.get_sblock_access_region(
        s_tir.SBlock(iters, [], [], "sweeps", body, alloc_buffers=rooms), {buffer: buffer for buffer in buffers}
    )
    block = s_tir.SBlock(iters, reads, writes, "sweeps", body, alloc_buffers=rooms)
    return serial_loop(counter, parts, s_tir.SBlockRealize([counter], True, block))


@dataclass(frozen=True)
class _Array:
    """A buffer as `Body` reads tensors: the whole array, its elements one behind the other, or a window of rows."""

    buffer: Any
    shape: tuple[int, ...]
    flat: bool = False
    window: int = 0

    def place(self, at: Sequence[Any]) -> list[Any]:
        if self.window:
            return [tirx.bitwise_and(at[0], index_of(self.window - 1)), *at[1:]]
        if not self.flat:
            return list(at)
        total = at[0]
        for index, extent in zip(at[1:], self.shape[1:], strict=True):
            total = total * extent + index
        return [total]

    def __call__(self, *at: Any) -> Any:
        return tirx.BufferLoad(self.buffer, self.place(at))

    def __getitem__(self, at: int) -> Any:
        return tirx.BufferLoad(self.buffer, [index_of(at)])


@dataclass(frozen=True)
class _Code:
    """The statements of a part of the rows."""

    sweeps: Sweeps
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
            extent = self.sweeps.shapes.of[sweeps.maps[number].base][0]
            inside = tirx.all(row >= tirx.max(low - before, 0), row < tirx.min(high + behind, index_of(extent)))
            steps.append(tirx.IfThenElse(inside, self.row(number, row, low, high), None))
        return sequence([*self._begun(), serial_loop(time, sweeps.rows + ends - begins, sequence(steps))])

    def _begun(self) -> Iterator[Any]:
        """A store to each window, so that TVM sees that it is there before the loop, and goes on to be."""
        for array in self.windows.values():
            zero = tirx.const(0, str(array.buffer.dtype))
            yield tirx.BufferStore(array.buffer, zero, [index_of(0)] * len(array.buffer.shape))

    # --- a row

    def row(self, number: int, row: Any, low: Any, high: Any) -> Any:
        """One row of a map's target, its border too."""
        [first, last] = self.sweeps.maps[number].box[0]
        inner = self._within(number, [row], True)
        extent = self.sweeps.shapes.of[self.sweeps.maps[number].base][0]
        if (first, last) == (0, extent - 1):
            made = inner
        else:
            made = tirx.IfThenElse(
                tirx.all(row >= first, row <= last), inner, self._within(number, [row], False)
            )  # fmt: skip
        if number not in self.windows or not self.sweeps.is_last(number):
            return made
        kept = self._copied(number, [row])
        return sequence([made, tirx.IfThenElse(tirx.all(row >= low, row < high), kept, None)])

    def _between(self, low: Any, high: Any, body: Callable[[Any], Any]) -> Any:
        counter = tirx.Var("k", "int32")
        return serial_loop(counter, high - low, body(low + counter))

    def _within(self, number: int, at: Sequence[Any], inside: bool) -> Any:
        """The elements from a place on, by the dimensions that are left."""
        own = self.sweeps.maps[number]
        shape = self.sweeps.shapes.of[own.base]
        if len(at) == len(shape):
            return self._computed(number, at) if inside else self._kept(number, at)
        if not inside:
            return self._all(own.base, at, lambda place: self._kept(number, place))
        first, last = own.box[len(at)]
        parts = list(self._strips(number, at, first, last))
        inner = self._between(index_of(first), index_of(last + 1), lambda k: self._within(number, [*at, k], True))
        return sequence([*parts, inner])

    def _strips(self, number: int, at: Sequence[Any], first: int, last: int) -> Iterator[Any]:
        """The border before and behind, in the next dimension."""
        base = self.sweeps.maps[number].base
        extent = self.sweeps.shapes.of[base][len(at)]
        for low, high in ((0, first), (last + 1, extent)):
            if low < high:
                end = self._end(base, at, high) if high == extent else index_of(high)
                yield self._between(
                    index_of(low), end, lambda k: self._all(base, [*at, k], lambda place: self._kept(number, place))
                )

    def _all(self, base: str, at: Sequence[Any], body: Callable[[Sequence[Any]], Any]) -> Any:
        shape = self.sweeps.shapes.of[base]
        if len(at) == len(shape):
            return body(at)
        end = self._end(base, at, shape[len(at)])
        return self._between(index_of(0), end, lambda k: self._all(base, [*at, k], body))

    def _end(self, base: str, at: Sequence[Any], end: int) -> Any:
        """Where a loop over the last dimension ends: with the array."""
        shape = self.sweeps.shapes.of[base]
        if base not in self.flat or len(at) + 1 < len(shape):
            return index_of(end)
        place: Any = at[0] if at else index_of(0)
        for index, extent in zip(at[1:], shape[1:-1], strict=True):
            place = place * extent + index
        rest = self.flat[base] - place * shape[-1] if at else index_of(self.flat[base])
        return tirx.min(index_of(end), rest)

    # --- an element

    def _computed(self, number: int, at: Sequence[Any]) -> Any:
        own = self.sweeps.maps[number]
        names = [*(e.base for e in own.op.reads), *scalars(own.op)]
        tensors: dict[str, Any] = {name: self._array(self.sweeps.version(name, number)) for name in names}
        body = Body(own.op, tensors, self.sweeps.sized, self.sweeps.shapes)
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

    def _array(self, version: Version) -> _Array:
        if version.writer is None:
            return self.given[version.base]
        return self.windows.get(version.writer) or self.made[version.base]
