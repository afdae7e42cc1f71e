"""A loop nest with one statement inside: a reduction, or a tensor made element by element."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tvm
from tvm import tirx

from kernels.nests.calls import only_values
from kernels.nests.linear import distinct, loads, same_element, stride, substituted, uses
from kernels.nests.plain import counts_from_zero, is_plain_loop, with_body

_COMBINERS = {tirx.Add: "add", tirx.Mul: "mul", tirx.Max: "max", tirx.Min: "min"}
"""Operations whose operands may come in any order and grouping; of floating-point sums and products another order
rounds differently, which the tolerance of a reduction's length allows."""


_GUESS = 64
"""Iterations of a loop whose bounds vary."""


class Refused(Exception):
    """A nest that a pass must leave as it is; the message says why."""


@dataclass(frozen=True)
class Nest:
    """`store` inside of `loops`, the outermost first. Only the outermost may be parallel.

    `combiner` is add, mul, max or min where the store is `C = C o term`, and "" where it is `C = term`. `first` is the
    store that makes C before the first term, None where C was made before the nest.
    """

    loops: tuple[Any, ...]
    store: Any
    term: Any
    combiner: str = ""
    first: Any = None

    @functools.cached_property
    def spatial(self) -> tuple[Any, ...]:
        """The loops that go from element to element of C."""
        return tuple(loop for loop in self.loops if any(uses(i, loop.loop_var) for i in self.store.indices))

    @functools.cached_property
    def reduced(self) -> tuple[Any, ...]:
        """The loops whose iterations all belong to one element of C."""
        return tuple(loop for loop in self.loops if not any(uses(i, loop.loop_var) for i in self.store.indices))

    def extents(self, loops: tuple[Any, ...]) -> dict[Any, int]:
        return {loop.loop_var: int(loop.extent) for loop in loops}

    def bounds(self, loop: Any) -> bool:
        """Whether a loop's variable bounds another loop."""
        others = [other for other in self.loops if not other.same_as(loop)]
        return any(uses(part, loop.loop_var) for other in others for part in (other.min, other.extent))

    def stride(self, access: Any, loop: Any) -> int | None:
        """How many elements further a load or store lies in the next iteration of a loop; None: no fixed number."""
        buffer = access.buffer if isinstance(access, tirx.BufferStore) else access.source
        return stride(buffer.shape, access.indices, loop.loop_var)


def nest_of(statement: Any) -> Nest:
    """The nest that a loop begins. Raises Refused where there is more, or something else, inside of it."""
    loops: list[Any] = []
    first: Any = None
    while is_plain_loop(statement) or (not loops and _is_parallel(statement)):
        loops.append(statement)
        statement = statement.body
        if isinstance(statement, tirx.SeqStmt) and len(statement.seq) == 2 and is_plain_loop(statement.seq[1]):
            if first is not None or not isinstance(statement.seq[0], tirx.BufferStore):
                raise Refused("several statements")
            first, statement = statement.seq
    guarded = isinstance(statement, tirx.SeqStmt) and len(statement.seq) == 2
    if guarded and first is None and isinstance(statement.seq[0], tirx.IfThenElse):
        condition, statement = statement.seq
        first = condition.then_case if condition.else_case is None else None
        _check_guard(condition.condition, loops, statement)
    if (
        not loops
        or not isinstance(statement, tirx.BufferStore)
        or not isinstance(first, (tirx.BufferStore, type(None)))
    ):
        raise Refused(_kind_of(statement))
    nest = _reduction(tuple(loops), statement, first)
    _check(nest)
    return nest


def _is_parallel(statement: Any) -> bool:
    parallel = isinstance(statement, tirx.For) and statement.kind == tirx.ForKind.PARALLEL
    return parallel and counts_from_zero(statement)


def _kind_of(statement: Any) -> str:
    if isinstance(statement, tirx.SeqStmt):
        return "several statements"
    if isinstance(statement, tirx.For):
        return "a loop that is no plain one"
    return "a condition" if isinstance(statement, tirx.IfThenElse) else "no store"


def _check_guard(condition: Any, loops: list[Any], store: Any) -> None:
    """Raises Refused unless a condition holds in the first iteration of all reduced loops and in no other."""
    zero: list[Any] = []
    parts = [condition]
    while parts:
        part = parts.pop()
        if isinstance(part, tirx.And):
            parts += [part.a, part.b]
        elif isinstance(part, tirx.EQ) and isinstance(part.b, tirx.IntImm) and int(part.b) == 0:
            zero.append(part.a)
        else:
            raise Refused("a condition")
    reduced = Nest(tuple(loops), store, store.value).reduced if isinstance(store, tirx.BufferStore) else ()
    named = [loop for loop in reduced if any(loop.loop_var.same_as(variable) for variable in zero)]
    if len(named) != len(zero) or len(named) != len(reduced):
        raise Refused("a condition")


def _reduction(loops: tuple[Any, ...], store: Any, first: Any) -> Nest:
    value = store.value
    combiner = _COMBINERS.get(type(value), "")
    for own, term in ((value.a, value.b), (value.b, value.a)) if combiner else ():
        is_load = isinstance(own, tvm.ir.TensorLoad) and own.source.same_as(store.buffer)
        if is_load and same_element(own.indices, store.indices):
            return Nest(loops, store, term, combiner, first)
    return Nest(loops, store, value, "", first)


def _check(nest: Nest) -> None:
    """Raises Refused unless the iterations may come in any order."""
    if any(trips(loop) == 0 for loop in nest.loops):
        raise Refused("a loop without iterations")
    if not all(counts_from_zero(loop) for loop in nest.spatial):
        raise Refused("a loop that is no plain one")
    if any(nest.bounds(loop) for loop in nest.reduced):
        raise Refused("a reduced loop that bounds another")
    own = [load for load in loads(nest.term) if load.source.same_as(nest.store.buffer)]
    if nest.combiner and own:
        raise Refused("a recurrence")
    if not nest.combiner and (nest.first is not None or nest.reduced):
        raise Refused("no sum, product, maximum or minimum")
    if any(not same_element(load.indices, nest.store.indices) for load in own):
        raise Refused("a recurrence")
    if not distinct(nest.store.indices, nest.extents(nest.spatial)):
        raise Refused("elements that are written several times")
    if nest.first is not None:
        same = nest.first.buffer.same_as(nest.store.buffer) and same_element(nest.first.indices, nest.store.indices)
        if not same or loads(nest.first.value) or any(uses(nest.first.value, r.loop_var) for r in nest.reduced):
            raise Refused("several statements")
    if not only_values(nest.term):
        raise Refused("a call")


def trips(loop: Any) -> int:
    """The iterations of a loop; where they vary, a guess."""
    return int(loop.extent) if isinstance(loop.extent, tirx.IntImm) else _GUESS


def neutral(nest: Nest) -> Any:
    """The value that a combiner leaves every other as it is with."""
    dtype = str(nest.store.buffer.dtype)
    if nest.combiner in ("add", "mul"):
        return tirx.const(0 if nest.combiner == "add" else 1, dtype)
    return tirx.min_value(dtype) if nest.combiner == "max" else tirx.max_value(dtype)


def reuse(nest: Nest) -> float:
    """Iterations for each element of the largest tensor that is read: few in a sum of rows, many in a product."""
    count = math.prod(trips(loop) for loop in nest.loops)
    read = [math.prod(trips(loop) for loop in nest.loops if nest.stride(x, loop) != 0) for x in loads(nest.term)]
    return count / max(max(read, default=count), 1)


def ordered(nest: Nest, outermost: Any, parallel: bool) -> Any:
    """The loops of a nest as a statement, with one of its spatial loops outermost, parallel or serial."""
    spatial = [loop for loop in nest.spatial if not loop.same_as(outermost)]
    body = around(nest.reduced, nest.store)
    if nest.first is not None:
        body = tirx.SeqStmt([nest.first, body])
    kind = tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL
    return tirx.For(outermost.loop_var, outermost.min, outermost.extent, kind, around(spatial, body))


def restated(nest: Nest) -> Any:
    """A nest as a statement, its reduced loops innermost."""
    own = tirx.BufferLoad(nest.store.buffer, nest.store.indices)
    body = around(
        nest.reduced, tirx.BufferStore(nest.store.buffer, combined(nest.combiner, own, nest.term), nest.store.indices)
    )
    for loop in reversed(nest.spatial):
        body = tirx.SeqStmt([nest.first, body]) if nest.first is not None and loop.same_as(nest.spatial[-1]) else body
        body = with_body(loop, body)
    return body if nest.spatial or nest.first is None else tirx.SeqStmt([nest.first, body])


def combined(combiner: str, a: Any, b: Any) -> Any:
    """What a combiner makes of two values."""
    made: Mapping[str, Any] = {"add": tirx.Add, "mul": tirx.Mul, "max": tirx.Max, "min": tirx.Min}
    return made[combiner](a, b)


def around(loops: Sequence[Any], body: Any) -> Any:
    """Serial loops around a statement, the first outermost."""
    for loop in reversed(loops):
        body = tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, body)
    return body


def collapsed(nest: Nest) -> Nest:
    """The nest with two neighbouring reduced loops as one, as often as every tensor has their elements in one row: 49
    in place of 7 times 7. Subscripts of the inner axis then go on beyond its end, where the next row begins."""
    for outer, inner in itertools.pairwise(nest.reduced):
        read = loads(nest.term)
        strides = [(nest.stride(access, outer), nest.stride(access, inner)) for access in read]
        if not counts_from_zero(outer) or not counts_from_zero(inner):
            continue
        in_a_row = all(a is not None and b is not None and a == b * int(inner.extent) for a, b in strides)
        adjacent = any(a.same_as(outer) and b.same_as(inner) for a, b in itertools.pairwise(nest.loops))
        if in_a_row and adjacent:
            dtype = str(inner.loop_var.ty.dtype)
            both = tirx.Var(f"{outer.loop_var.name}_{inner.loop_var.name}", dtype)
            extent = tirx.const(int(outer.extent) * int(inner.extent), dtype)
            one = tirx.For(both, tirx.const(0, dtype), extent, tirx.ForKind.SERIAL, inner.body)
            loops = tuple(one if loop.same_as(inner) else loop for loop in nest.loops if not loop.same_as(outer))
            term = substituted(nest.term, {outer.loop_var: tirx.const(0, dtype), inner.loop_var: both})
            return collapsed(replace(nest, loops=loops, term=term))
    return nest
