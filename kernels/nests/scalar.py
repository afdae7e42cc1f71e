"""Which innermost loops of a scheduled program stay scalar, each with the reason, and how many there are."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from kernels.lowering import nodes
from kernels.nests.linear import loads
from kernels.nests.nest import Nest, Refused, collapsed, nest_of
from kernels.nests.plain import counts_from_zero, plain, rewritten
from kernels.nests.vectors import LEAST, branches, lanes_of, vector_axis

ELEMENTS = "makes one element after the other, which LLVM may take in vectors"
REDUCES = "reduces in order, without the pass `lanes`"


def scalar_loops(function: tirx.PrimFunc, width: int) -> list[tuple[str, str]]:
    """The innermost loops that are neither vectors nor unrolled, by name, each with what keeps it from vectors of
    `width` lanes: `ELEMENTS` and `REDUCES` where nothing does. None of a GPU's program, whose lanes are threads."""
    if any(loop.kind == tirx.ForKind.THREAD_BINDING for loop in nodes(function.body, tirx.For)):
        return []
    found: list[tuple[str, str]] = []

    def look(loop: Any) -> Any | None:
        if loop.kind in (tirx.ForKind.VECTORIZED, tirx.ForKind.UNROLLED) and not nodes(loop.body, tirx.For):
            return loop
        try:
            nest = collapsed(nest_of(loop))
        except Refused as refused:
            if nodes(loop.body, tirx.For):
                return None
            found.append((str(loop.loop_var.name), str(refused)))
            return loop
        found.append((str(nest.loops[-1].loop_var.name), _why(nest, width)))
        return loop

    rewritten(plain(function).body, look)
    return found


def loop_kinds(function: tirx.PrimFunc) -> dict[str, int]:
    """How many innermost loops of a scheduled program are vectors, unrolled, and scalar."""
    innermost = [loop for loop in nodes(function.body, tirx.For) if not nodes(loop.body, tirx.For)]
    kinds = [loop.kind for loop in innermost]
    vector, unrolled = (kinds.count(kind) for kind in (tirx.ForKind.VECTORIZED, tirx.ForKind.UNROLLED))
    return {"vector": vector, "unrolled": unrolled, "scalar": len(kinds) - vector - unrolled}


def _why(nest: Nest, width: int) -> str:
    try:
        vector_axis(nest, width)
    except Refused:
        return _obstacle(nest, nest.loops[-1], width)
    return REDUCES if nest.combiner else ELEMENTS


def _obstacle(nest: Nest, loop: Any, width: int) -> str:
    """What keeps the innermost loop of a nest, none of whose loops can become vectors, from it."""
    if not counts_from_zero(loop) or nest.bounds(loop):
        return "bounds that vary"
    extent = int(loop.extent)
    if extent < LEAST:
        return f"{extent} iterations, which is no vector"
    if branches(nest.term, loop):
        return "a condition on its own variable"
    accesses = [*loads(nest.term), *([nest.store] if loop in nest.spatial else [])]
    for access in accesses:
        stride = nest.stride(access, loop)
        name = (access.buffer if isinstance(access, tirx.BufferStore) else access.source).name
        if stride is None:
            return f"gathered elements of {name}, which no stride describes"
        if stride not in (0, 1):
            return f"elements of {name} that lie {stride} apart"
    return f"{extent} iterations for the threads, of {lanes_of(extent, width)} lanes"
