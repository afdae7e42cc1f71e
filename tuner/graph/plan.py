"""A lowered model as a list of calls on memory whose place is known: what a runtime needs that decides nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from tvm.ir import Call, GenericConst
from tvm.relax import Tuple

from tuner.graph.joins import ALIGNMENT, joins
from tuner.graph.lower import Lowered, is_call_tir
from tuner.graph.memory import Lifetime, aligned, arrange
from tuner.graph.overwriting import overwritten
from tuner.graph.rewriter import Array, array_of, op_name, shape_of


class Unplannable(Exception):
    """A model that does something else than calling kernels and viewing tensors in other shapes."""


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes are: an input or output of the model by its number, or an offset in the constants or in
    the arena."""

    kind: Literal["input", "output", "constant", "arena"]
    at: int


@dataclass(frozen=True)
class Tensor:
    """A tensor that a call reads or writes; two may be the same bytes in different shapes."""

    place: Place
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel, by its name in the module; outputs last."""

    kernel: str
    arguments: tuple[Tensor, ...]


@dataclass(frozen=True)
class Plan:
    """The calls of one inference in order. `constants` are (offset, array) of one block of `constant_bytes`.

    `live_bytes` are the most bytes of the arena that are in use at one call: no arena is smaller.
    """

    calls: tuple[KernelCall, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    constants: tuple[tuple[int, Array], ...]
    constant_bytes: int
    arena_bytes: int
    live_bytes: int = 0


@dataclass
class _Storage:
    """Bytes that some values share. `first` and `last` are the calls that write and last read them. `parts` are
    storages that lie inside this one, with their offsets."""

    nbytes: int
    first: int = 0
    last: int = 0
    place: Place | None = None
    parts: list[tuple[_Storage, int]] = field(default_factory=list)
    inside: bool = False

    def settle(self) -> None:
        """It lives as long as any of its parts."""
        for part, _ in self.parts:
            part.settle()
            self.first, self.last = min(self.first, part.first), max(self.last, part.last)

    def put(self, at: int) -> None:
        """Place it, and its parts, in the arena."""
        self.place = Place("arena", at)
        for part, offset in self.parts:
            part.put(at + offset)


@dataclass(frozen=True)
class _Value:
    storage: _Storage
    shape: tuple[int, ...]
    dtype: str

    def tensor(self) -> Tensor:
        assert self.storage.place is not None
        return Tensor(self.storage.place, self.shape, self.dtype)


@dataclass
class _Reader:
    """Reads `main` of a lowered module."""

    free: Mapping[Any, tuple[tuple[Any, int], ...]]
    alignment: int
    values: dict[Any, Any] = field(default_factory=dict)
    storages: list[_Storage] = field(default_factory=list)
    calls: list[tuple[str, list[_Value]]] = field(default_factory=list)
    constants: list[tuple[int, Array]] = field(default_factory=list)
    constant_bytes: int = 0
    _known: dict[int, _Value] = field(default_factory=dict)

    def bind(self, var: Any, expr: Any) -> None:
        if var in self.free:
            self.values[var] = self._join(expr, self.free[var])
        elif isinstance(expr, Call) and is_call_tir(expr):
            self.values[var] = self._call(expr)
        elif isinstance(expr, Call) and op_name(expr) == "relax.reshape":
            source = self.value(expr.args[0])
            self.values[var] = _Value(source.storage, shape_of(expr), source.dtype)
        else:
            self.values[var] = self.value(expr)

    def value(self, expr: Any) -> Any:
        """What an expression stands for: a `_Value` or a list of them."""
        if isinstance(expr, GenericConst):
            return self._constant(expr)
        if isinstance(expr, Tuple):
            return [self.value(item) for item in expr.fields]
        if hasattr(expr, "tuple_value"):
            return self.value(expr.tuple_value)[expr.index]
        try:
            return self.values[expr]
        except (KeyError, TypeError) as error:
            raise Unplannable(f"{type(expr).__name__} in main") from error

    def _call(self, call: Call) -> Any:
        number = len(self.calls)
        read = [self.value(a) for a in call.args[1].fields]
        if any(isinstance(v, list) for v in read):
            raise Unplannable("a kernel that reads a tuple")
        types = list(call.ty.fields) if hasattr(call.ty, "fields") else [call.ty]
        written = []
        for ty in types:
            shape, dtype = tuple(int(e) for e in ty.shape), str(ty.dtype)
            storage = _Storage(_nbytes(shape, dtype), number, number)
            self.storages.append(storage)
            written.append(_Value(storage, shape, dtype))
        for value in read:
            value.storage.last = max(value.storage.last, number)
        self.calls.append((str(call.args[0].name_hint), [*read, *written]))
        return written if hasattr(call.ty, "fields") else written[0]

    def _join(self, call: Call, operands: Sequence[tuple[Any, int]]) -> _Value:
        """A concatenation whose operands lie in its storage."""
        shape, dtype = tuple(int(e) for e in call.ty.shape), str(call.ty.dtype)
        parts = [(self.value(operand).storage, offset) for operand, offset in operands]
        size = _nbytes(shape, dtype)
        number = len(self.calls)
        storage = _Storage(size, number, number, parts=parts)
        for part, _ in parts:
            part.inside = True
        self.storages.append(storage)
        return _Value(storage, shape, dtype)

    def write_over(self, module: Any) -> None:
        """Let outputs take the place of operands that die with their call."""
        chained: set[int] = set()  # storages that took another's place, by id: theirs may be taken in turn
        for number, (kernel, values) in enumerate(self.calls):
            [*read, written] = values
            target = written.storage
            if target.place is not None or target.inside or target.parts:
                continue
            for at in overwritten(module[kernel]):
                source = read[at].storage
                alone = sum(value.storage is source for value in values) == 1
                free = source.place is None and (not source.inside or id(source) in chained)
                if alone and free and source.last == number and not source.parts and source.nbytes == target.nbytes:
                    source.parts.append((target, 0))
                    target.inside = True
                    chained.add(id(target))
                    break

    def _constant(self, expr: Any) -> _Value:
        key = hash(expr)
        if key not in self._known:
            array = array_of(expr)
            assert array is not None
            place = Place("constant", self.constant_bytes)
            self.constants.append((self.constant_bytes, array))
            self.constant_bytes += aligned(array.nbytes, self.alignment)
            self._known[key] = _Value(_Storage(array.nbytes, place=place), array.shape, str(array.dtype))
        return self._known[key]


def plan(lowered: Lowered, alignment: int = ALIGNMENT, in_place: bool = False) -> Plan:
    """The calls of a lowered model, every tensor at a multiple of `alignment` bytes, which is one of ALIGNMENT.

    With `in_place` a kernel may write its output over an operand that nothing reads any more, where every element
    depends on the same element of that operand alone (`tuner.graph.overwriting`). Such kernels must be compiled
    without being told that their buffers do not overlap.

    Raises Unplannable where it is more than calls of kernels and reshapes.
    """
    main = lowered.module["main"]
    reader = _Reader(joins(main, lowered.concatenations), alignment)
    inputs = []
    for number, param in enumerate(main.params):
        shape, dtype = shape_of(param), str(param.ty.dtype)
        storage = _Storage(_nbytes(shape, dtype), place=Place("input", number))
        reader.values[param] = _Value(storage, shape, dtype)
        inputs.append(reader.values[param])
    for block in main.body.blocks:
        for binding in block.bindings:
            reader.bind(binding.var, binding.value)
    outputs = list(_flat(reader.value(main.body.body)))
    for number, value in enumerate(outputs):
        if value.storage.place is not None:
            raise Unplannable("an output that is an input, a constant or another output")
        value.storage.place = Place("output", number)
    if in_place:
        reader.write_over(lowered.module)
    arena_bytes, live_bytes = _assign([s for s in reader.storages if s.place is None and not s.inside], alignment)
    calls = tuple(KernelCall(name, tuple(v.tensor() for v in values)) for name, values in reader.calls)
    return Plan(
        calls, tuple(v.tensor() for v in inputs), tuple(v.tensor() for v in outputs),
        tuple(reader.constants), reader.constant_bytes, arena_bytes, live_bytes,
    )  # fmt: skip


def _nbytes(shape: Sequence[int], dtype: str) -> int:
    """Raises Unplannable for dtypes that numpy itself has not, but for bfloat16."""
    if dtype == "bfloat16":
        return math.prod(shape) * 2
    try:
        known = np.dtype(dtype)
    except TypeError as error:
        raise Unplannable(f"tensors of {dtype}") from error
    if known.kind not in "biuf":
        raise Unplannable(f"tensors of {dtype}")
    return math.prod(shape) * known.itemsize


def _flat(value: Any) -> Iterator[_Value]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _assign(storages: Sequence[_Storage], alignment: int) -> tuple[int, int]:
    """Place storages in the arena; its size, and the most bytes of it that are in use at one call."""
    for storage in storages:
        storage.settle()
    layout = arrange([Lifetime(s.nbytes, s.first, s.last) for s in storages], alignment)
    for storage, at in zip(storages, layout.offsets, strict=True):
        storage.put(at)
    return layout.nbytes, layout.lower_bound
