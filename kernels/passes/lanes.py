"""Reductions in vectors: along the reduced loop, or across neighbouring results."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.lowering import nodes
from kernels.nests.calls import named
from kernels.nests.linear import substituted
from kernels.nests.nest import Nest, Refused, collapsed, combined, nest_of, neutral, reuse
from kernels.nests.plain import plain, rewritten, sequence, serial
from kernels.nests.scalar import ELEMENTS, scalar_loops
from kernels.nests.vectors import chunks_of, lanes_of, vector_axis
from kernels.passes.base import Documentation, Example, Pass, Requirement

_REUSED = 8
"""Uses of an element from which on a reduction is a product of matrices, which sketches tile and vectorize."""


@dataclass(frozen=True)
class Lanes(Pass):
    """Keep `width` partial results of each reduction in vector registers; 0 leaves reductions as they are.

    Where neighbouring iterations of the reduced loop read neighbouring elements, each lane reduces its own share, and
    the lanes are reduced at the end. Where neighbouring results do, each lane has a result of its own. What is left of
    an extent goes through ever shorter vectors. More lanes than a register has are several independent chains of
    additions. TVM and LLVM leave such loops one element at a time: another order of a floating-point sum rounds
    differently.
    """

    name: ClassVar[str] = "lanes"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "terms may be combined in any order and grouping",
                "one store `C = C o term`, o a sum, product, maximum or minimum, the term without C; for floats the "
                "tolerance grows with the number of terms",
            ),
            Requirement(
                "no element of C is made twice", "strides of its subscripts along each loop, less than the next"
            ),
            Requirement("elements of a vector lie together", "strides of 0 or 1 of every access along the loop"),
            Requirement("no lane branches", "no condition in the nest depends on the loop"),
        ),
        options={"width": "partial results that are kept at once, at most; 0 leaves reductions as they are"},
        counters={"vector loops": "of the program", "scalar loops": "innermost ones that are not vectors"},
        loses="On rows of a few elements, where combining the lanes takes longer than the row.",
        elsewhere="LLVM's vectorizer with reassociation, Halide `rfactor` and `vectorize`, OpenMP `simd reduction`",
        example=Example(examples.odd_sums, examples.untouched, "lanes{width=0}", "lanes{width=16}"),
    )
    width: int = 0

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return tuple(cls(n) for n in (64, 32, 16, 128, 0)) if target_kind == "llvm" else (cls(0),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        reductions = _reductions(plain(module["main"]))
        return any(reuse(nest) < _REUSED or named(nest.term, "prim.if_then_else") for nest in reductions)

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.width:
            return ""
        given = plain(function)
        if len(_vectors(given)) < len(_vectors(self.on_function(given))):
            return ""
        scalar = [f"{name}: {why}" for name, why in scalar_loops(given, self.width) if why != ELEMENTS]
        return "no reduction becomes vectors; " + ("; ".join(scalar[:3]) or "there is no scalar loop")

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        given = plain(function)
        innermost = [loop for loop in nodes(given.body, tirx.For) if not nodes(loop.body, tirx.For)]
        scalar = sum(loop.kind == tirx.ForKind.SERIAL for loop in innermost)
        return {"vector loops": len(_vectors(given)), "scalar loops": scalar}

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        if not self.width:
            return function
        return _result(function, self.width)


@functools.lru_cache(maxsize=8)
def _result(function: tirx.PrimFunc, width: int) -> tirx.PrimFunc:
    """A function with its reductions in vectors; it is asked for twice, by `refusal` and for the program."""

    def change(loop: Any) -> Any | None:
        try:
            nest = collapsed(nest_of(loop))
            if not nest.combiner:
                return None
            along = vector_axis(nest, width)
        except Refused:
            return None
        return _across(nest, along, width) if along in nest.spatial else _along(nest, along, width)

    lowered = plain(function)
    return lowered.with_body(rewritten(lowered.body, change))


def _vectors(function: tirx.PrimFunc) -> list[Any]:
    return [loop for loop in nodes(function.body, tirx.For) if loop.kind == tirx.ForKind.VECTORIZED]


def _reductions(function: tirx.PrimFunc) -> Iterator[Nest]:
    found: list[Nest] = []

    def look(loop: Any) -> Any | None:
        try:
            found.append(nest_of(loop))
        except Refused:
            return None
        return loop

    rewritten(function.body, look)
    return (nest for nest in found if nest.combiner)


def _along(nest: Nest, loop: Any, width: int) -> Any:
    """Every lane reduces its own share of a loop's iterations, and the lanes are reduced at the end."""
    lanes = lanes_of(int(loop.extent), width)
    partial = _buffer(nest, lanes)
    others = [other for other in nest.reduced if not other.same_as(loop)]
    body = [_term(nest, partial, loop, chunk, int(loop.extent)) for chunk in chunks_of(int(loop.extent), lanes)]
    given = tirx.BufferLoad(nest.store.buffer, nest.store.indices)
    begun = given if nest.first is None else nest.first.value
    whole = tirx.BufferLoad(partial, [tirx.const(0, "int32")])
    last = tirx.BufferStore(nest.store.buffer, combined(nest.combiner, begun, whole), nest.store.indices)
    cleared = _vector(lanes, lambda lane: tirx.BufferStore(partial, neutral(nest), [lane]))
    statements = [
        tirx.AllocBuffer(partial),
        cleared,
        _around(others, sequence(body)),
        *_folded(nest, partial, lanes),
        last,
    ]
    return _around(nest.spatial, tirx.SeqStmt(statements))


def _across(nest: Nest, loop: Any, width: int) -> Any:
    """Every lane has a result of its own."""
    extent = int(loop.extent)
    lanes = lanes_of(extent, width)
    others = [other for other in nest.spatial if not other.same_as(loop)]
    counter = tirx.Var(f"{loop.loop_var.name}_vector", str(loop.loop_var.ty.dtype))
    chunks = chunks_of(extent, lanes)
    whole = _results(nest, loop, counter * tirx.const(lanes, counter.ty.dtype), lanes)
    rest = [_results(nest, loop, tirx.const(begin, counter.ty.dtype), length) for begin, length in chunks[1:]]
    if loop.kind != tirx.ForKind.PARALLEL:
        return _around(others, sequence([serial(counter, extent // lanes, whole), *rest]))
    whole = _around(others, whole)
    if not rest:
        return serial(counter, extent // lanes, whole, tirx.ForKind.PARALLEL)
    is_whole = counter < tirx.const(extent // lanes, counter.ty.dtype)
    body = tirx.IfThenElse(is_whole, whole, _around(others, sequence(rest)))
    return serial(counter, extent // lanes + 1, body, tirx.ForKind.PARALLEL)


def _results(nest: Nest, loop: Any, begin: Any, lanes: int) -> Any:
    """`lanes` neighbouring results, from the iteration `begin` of a loop on."""
    partial = _buffer(nest, lanes)
    store = nest.store

    def at(lane: Any) -> list[Any]:
        return [substituted(index, {loop.loop_var: begin + lane}) for index in store.indices]

    def made(lane: Any) -> Any:
        return tirx.BufferLoad(store.buffer, at(lane)) if nest.first is None else nest.first.value

    def term(lane: Any) -> Any:
        value = substituted(nest.term, {loop.loop_var: begin + lane})
        return tirx.BufferStore(partial, combined(nest.combiner, tirx.BufferLoad(partial, [lane]), value), [lane])

    return tirx.SeqStmt(
        [
            tirx.AllocBuffer(partial),
            _vector(lanes, lambda lane: tirx.BufferStore(partial, made(lane), [lane])),
            _around(nest.reduced, _vector(lanes, term)),
            _vector(lanes, lambda lane: tirx.BufferStore(store.buffer, tirx.BufferLoad(partial, [lane]), at(lane))),
        ]
    )


def _term(nest: Nest, partial: Any, loop: Any, chunk: tuple[int, int], extent: int) -> Any:
    """The terms of one chunk of a loop's iterations, each combined with its lane."""
    begin, lanes = chunk
    dtype = str(loop.loop_var.ty.dtype)
    count = extent // lanes if begin == 0 else 1
    counter = tirx.Var(f"{loop.loop_var.name}_vector", dtype)
    first = counter * tirx.const(lanes, dtype) if begin == 0 else tirx.const(begin, dtype)

    def term(lane: Any) -> Any:
        value = substituted(nest.term, {loop.loop_var: first + lane})
        return tirx.BufferStore(partial, combined(nest.combiner, tirx.BufferLoad(partial, [lane]), value), [lane])

    vector = _vector(lanes, term, dtype)
    return serial(counter, count, vector) if begin == 0 else vector


def _folded(nest: Nest, partial: Any, lanes: int) -> Iterator[Any]:
    """The lanes combined in halves, down to the first."""
    while lanes > 1:
        lanes //= 2

        def half(lane: Any, distance: int = lanes) -> Any:
            far = tirx.BufferLoad(partial, [lane + tirx.const(distance, "int32")])
            return tirx.BufferStore(partial, combined(nest.combiner, tirx.BufferLoad(partial, [lane]), far), [lane])

        yield _vector(lanes, half)


def _vector(lanes: int, store: Any, dtype: str = "int32") -> Any:
    lane = tirx.Var("lane", dtype)
    if lanes == 1:
        return store(tirx.const(0, dtype))
    return serial(lane, lanes, store(lane), tirx.ForKind.VECTORIZED)


def _around(loops: Sequence[Any], body: Any) -> Any:
    for loop in reversed(loops):
        body = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)
    return body


def _buffer(nest: Nest, lanes: int) -> Any:
    return tirx.decl_buffer((lanes,), nest.store.buffer.dtype, f"{nest.store.buffer.name}_lanes")
