"""A proof that a plan keeps every tensor until it is read: its calls are followed through memory, byte by byte.

It shares nothing with how places are found: it knows no lifetimes, only who wrote each byte last, and compares that
with who should have, by the model's own data flow.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import Any

import numpy as np
from tvm.ir import Call, GenericConst
from tvm.relax import Tuple

from tuner.graph.joins import joins
from tuner.graph.lower import Lowered, is_call_tir
from tuner.graph.plan import Plan, Tensor
from tuner.graph.rewriter import op_name


def clobbered(lowered: Lowered, planned: Plan) -> str:
    """The first tensor of a plan's arena that holds other bytes than it should when it is read; "" where none does."""
    expected = _producers(lowered)
    if len(expected) != len(planned.calls):
        return f"{len(planned.calls)} calls are planned, the model has {len(expected)}"
    memory = _Memory()
    for number, (call, wanted) in enumerate(zip(planned.calls, expected, strict=True)):
        for tensor, producers in zip(call.arguments, wanted, strict=False):
            if tensor.place.kind != "arena" or producers is None:
                continue
            found = memory.writers(*_span(tensor))
            if found != producers:
                return f"call {number}, {call.kernel}, reads what calls {sorted(found)} wrote, not {sorted(producers)}"
        for tensor in call.arguments[len(wanted) :]:
            if tensor.place.kind == "arena":
                memory.write(*_span(tensor), number)
    return ""


def _span(tensor: Tensor) -> tuple[int, int]:
    nbytes = int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
    return tensor.place.at, tensor.place.at + nbytes


class _Memory:
    """Which call wrote each byte last, -1 where none did: pieces by their begins, each up to the next one's."""

    def __init__(self) -> None:
        self._begins = [0]
        self._writers = [-1]

    def write(self, begin: int, end: int, writer: int) -> None:
        if begin == end:
            return
        first, last = self._cut(begin), self._cut(end)
        self._begins[first:last] = [begin]
        self._writers[first:last] = [writer]

    def writers(self, begin: int, end: int) -> frozenset[int]:
        if begin == end:
            return frozenset()
        return frozenset(self._writers[self._cut(begin) : self._cut(end)])

    def _cut(self, at: int) -> int:
        """The number of the piece that begins here, made where there is none."""
        place = bisect.bisect_left(self._begins, at)
        if place == len(self._begins) or self._begins[place] != at:
            self._begins.insert(place, at)
            self._writers.insert(place, self._writers[place - 1])
        return place


def _producers(lowered: Lowered) -> list[list[frozenset[int] | None]]:
    """For each call, in order, the calls that wrote each of the tensors that it reads; None for inputs, constants."""
    main = lowered.module["main"]
    free = joins(main, lowered.concatenations)
    of: dict[Any, Any] = dict.fromkeys(main.params)
    calls: list[list[frozenset[int] | None]] = []
    for binding in (b for block in main.body.blocks for b in block.bindings):
        value = binding.value
        if binding.var in free:
            of[binding.var] = frozenset().union(*(_of(operand, of) for operand, _ in free[binding.var]))
        elif isinstance(value, Call) and is_call_tir(value):
            calls.append([_of(argument, of) for argument in value.args[1].fields])
            own = frozenset([len(calls) - 1])
            of[binding.var] = [own] * len(value.ty.fields) if hasattr(value.ty, "fields") else own
        elif isinstance(value, Call) and op_name(value) == "relax.reshape":
            of[binding.var] = _of(value.args[0], of)
        else:
            of[binding.var] = _of(value, of)
    return calls


def _of(expression: Any, of: Mapping[Any, Any]) -> Any:
    if isinstance(expression, GenericConst):
        return None
    if isinstance(expression, Tuple):
        return [_of(item, of) for item in expression.fields]
    if hasattr(expression, "tuple_value"):
        return _of(expression.tuple_value, of)[expression.index]
    return of[expression]
