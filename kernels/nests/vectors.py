"""Which loop of a nest becomes vectors, and how an extent is cut into them."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx

from kernels.nests.calls import named
from kernels.nests.linear import loads, uses
from kernels.nests.nest import Nest, Refused, trips
from kernels.nests.plain import counts_from_zero

LEAST = 4
"""Iterations of a loop that are worth a vector."""


def vector_axis(nest: Nest, width: int) -> Any:
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
    lanes = lanes_of(extent, width)
    if extent < LEAST or (loop.kind == tirx.ForKind.PARALLEL and extent < lanes) or branches(nest.term, loop):
        return math.inf
    read = loads(nest.term)
    across = loop in nest.spatial
    if any(nest.stride(access, loop) not in (0, 1) for access in (*read, *([nest.store] if across else []))):
        return math.inf
    shared = math.prod(map(trips, nest.reduced))
    cost = 1.0 + len(read) + (2 / shared if across else (2 * math.log2(lanes) + 2) * lanes / shared)
    chunks = sum(1 if length < lanes else extent // lanes for _, length in chunks_of(extent, lanes))
    return cost * chunks / extent


def branches(term: Any, loop: Any) -> bool:
    """Whether lanes would take different branches: TVM then goes lane by lane."""
    return any(uses(call.args[0], loop.loop_var) for call in named(term, "prim.if_then_else"))


def lanes_of(extent: int, width: int) -> int:
    """The largest power of two that is no more than either."""
    return 1 << (min(extent, width).bit_length() - 1)


def chunks_of(extent: int, lanes: int) -> list[tuple[int, int]]:
    """(begin, length) of the vectors that an extent is cut into: (0, lanes) stands for all whole ones."""
    chunks = [(0, lanes)]
    at = extent // lanes * lanes
    while at < extent:
        length = lanes_of(extent - at, lanes)
        chunks.append((at, length))
        at += length
    return chunks
