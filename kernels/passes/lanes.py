"""Reductions in vectors: along the reduced loop, or across neighbouring results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.lowering import nodes
from kernels.nests.calls import named
from kernels.nests.linear import loads, substituted, uses
from kernels.nests.nest import Nest, Refused, collapsed, combined, nest_of, neutral, reuse, trips
from kernels.nests.plain import counts_from_zero, plain, rewritten, sequence, serial
from kernels.passes.base import Documentation, Example, Pass, Requirement

_LEAST = 4
"""Iterations of a loop that are worth a vector."""

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
        scalar = [f"{name}: {why}" for name, why in scalar_loops(given, self.width)]
        return "no reduction becomes vectors; " + ("; ".join(scalar[:3]) or "there is no scalar loop")

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        given = plain(function)
        innermost = [loop for loop in nodes(given.body, tirx.For) if not nodes(loop.body, tirx.For)]
        scalar = sum(loop.kind == tirx.ForKind.SERIAL for loop in innermost)
        return {"vector loops": len(_vectors(given)), "scalar loops": scalar}

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        if not self.width:
            return function
        lowered = plain(function)
        return lowered.with_body(rewritten(lowered.body, self._vectorized))

    def _vectorized(self, loop: Any) -> Any | None:
        """The nest that a loop begins, in vectors; None where it stays."""
        try:
            nest = collapsed(nest_of(loop))
            if not nest.combiner:
                return None
            along = _axis(nest, self.width)
        except Refused:
            return None
        return _across(nest, along, self.width) if along in nest.spatial else _along(nest, along, self.width)


def scalar_loops(function: tirx.PrimFunc, width: int) -> list[tuple[str, str]]:
    """The innermost loops that stay scalar in a scheduled program, by name, each with the reason."""
    found: list[tuple[str, str]] = []

    def look(loop: Any) -> Any | None:
        if loop.kind == tirx.ForKind.VECTORIZED:
            return loop
        try:
            _axis(collapsed(nest_of(loop)), width)
        except Refused as refused:
            if nodes(loop.body, tirx.For):
                return None
            found.append((str(loop.loop_var.name), str(refused)))
        return loop

    rewritten(plain(function).body, look)
    return found


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


def _axis(nest: Nest, width: int) -> Any:
    """The loop whose iterations become lanes, the one with the least cost a result. Raises Refused without one."""
    costs = {n: _cost(nest, loop, width) for n, loop in enumerate(nest.loops)}
    best = min(costs, key=lambda n: costs[n])
    if math.isinf(costs[best]):
        raise Refused("no loop of so many iterations whose addresses and conditions vectors can have")
    return nest.loops[best]


def _cost(nest: Nest, loop: Any, width: int) -> float:
    """About how many vector instructions an iteration of the nest takes with a loop's iterations as lanes."""
    if not counts_from_zero(loop) or nest.bounds(loop):
        return math.inf
    extent = int(loop.extent)
    lanes = _lanes(extent, width)
    if extent < _LEAST or (loop.kind == tirx.ForKind.PARALLEL and extent < lanes) or _branches(nest.term, loop):
        return math.inf
    read = loads(nest.term)
    across = loop in nest.spatial
    if any(nest.stride(access, loop) not in (0, 1) for access in (*read, *([nest.store] if across else []))):
        return math.inf
    shared = math.prod(map(trips, nest.reduced))
    cost = 1.0 + len(read) + (2 / shared if across else (2 * math.log2(lanes) + 2) * lanes / shared)
    chunks = sum(1 if length < lanes else extent // lanes for _, length in _chunks(extent, lanes))
    return cost * chunks / extent


def _branches(term: Any, loop: Any) -> bool:
    """Whether lanes would take different branches: TVM then goes lane by lane."""
    return any(uses(call.args[0], loop.loop_var) for call in named(term, "prim.if_then_else"))


def _lanes(extent: int, width: int) -> int:
    """The largest power of two that is no more than either."""
    return 1 << (min(extent, width).bit_length() - 1)


def _chunks(extent: int, lanes: int) -> list[tuple[int, int]]:
    """(begin, length) of the vectors that an extent is cut into: (0, lanes) stands for all whole ones."""
    chunks = [(0, lanes)]
    at = extent // lanes * lanes
    while at < extent:
        length = _lanes(extent - at, lanes)
        chunks.append((at, length))
        at += length
    return chunks


def _along(nest: Nest, loop: Any, width: int) -> Any:
    """Every lane reduces its own share of a loop's iterations, and the lanes are reduced at the end."""
    lanes = _lanes(int(loop.extent), width)
    partial = _buffer(nest, lanes)
    others = [other for other in nest.reduced if not other.same_as(loop)]
    body = [_term(nest, partial, loop, chunk, int(loop.extent)) for chunk in _chunks(int(loop.extent), lanes)]
    made = nest.store.value if nest.first is None else nest.first.value
    begun = tirx.BufferLoad(nest.store.buffer, nest.store.indices) if nest.first is None else made
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
    lanes = _lanes(extent, width)
    others = [other for other in nest.spatial if not other.same_as(loop)]
    counter = tirx.Var(f"{loop.loop_var.name}_vector", str(loop.loop_var.ty.dtype))
    chunks = _chunks(extent, lanes)
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
