"""Which elements of its arguments each thread of a scheduled program reads and writes, as boxes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import SBlockRealize

from kernels.nests.linear import substituted

Box = tuple[tuple[int, int], ...]
"""[begin, end) of each axis."""


@dataclass(frozen=True)
class Shares:
    """By thread, the boxes that it reads and writes: pairs of an argument's number and a box of its elements.

    Boxes cover what is touched, and may be larger where a thread's part is no box.
    """

    reads: tuple[frozenset[tuple[int, Box]], ...]
    writes: tuple[frozenset[tuple[int, Box]], ...]

    def apart(self) -> bool:
        """Whether no two threads write the same elements, as far as the boxes tell."""
        pairs = itertools.combinations(self.writes, 2)
        return not any(_meet(a, b) for one, other in pairs for a in one for b in other)

    def largest(self) -> float:
        """How many times an equal part of what is written the largest part is, as far as the boxes tell."""
        written = [sum(math.prod(end - begin for begin, end in box) for _, box in boxes) for boxes in self.writes]
        return len(written) * max(written) / sum(written) if any(written) else 1.0

    def to_json(self) -> dict[str, Any]:
        return {name: [sorted(boxes) for boxes in getattr(self, name)] for name in ("reads", "writes")}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Shares:
        def boxes(found: Sequence[Any]) -> frozenset[tuple[int, Box]]:
            return frozenset((int(number), tuple((int(b), int(e)) for b, e in box)) for number, box in found)

        return Shares(tuple(map(boxes, data["reads"])), tuple(map(boxes, data["writes"])))


def _meet(a: tuple[int, Box], b: tuple[int, Box]) -> bool:
    same = a[0] == b[0]
    return same and all(
        begin < other_end and other < end for (begin, end), (other, other_end) in zip(a[1], b[1], strict=True)
    )


def divided_along(found: Shares) -> int | None:
    """The one axis of the output along which the threads' parts lie beside one another; None where there is none."""
    spans = []
    for boxes in found.writes:
        last = max((number for number, _ in boxes), default=None)
        spans.append([box for number, box in boxes if number == last])
    if not all(spans) or len({len(box) for span in spans for box in span}) != 1:
        return None
    hulls = [[(min(b for b, _ in axis), max(e for _, e in axis)) for axis in zip(*span, strict=True)] for span in spans]
    apart = [
        n for n, parts in enumerate(zip(*hulls, strict=True))
        if all(a[1] <= b[0] or b[1] <= a[0] for a, b in itertools.combinations(parts, 2))
    ]  # fmt: skip
    return apart[0] if len(apart) == 1 and len(hulls) > 1 else None


def shares(function: tirx.PrimFunc, threads: int) -> Shares:
    """The shares of `threads` threads, each of which takes an equal part of every parallel loop, in the loop's order.

    What is outside of parallel loops is the first thread's. This is how TVM's runtime divides them.
    """
    buffers = list(function.params)
    found = [_of_thread(function, buffers, thread, threads) for thread in range(threads)]
    return Shares(tuple(reads for reads, _ in found), tuple(writes for _, writes in found))


def _of_thread(
    function: tirx.PrimFunc, buffers: Sequence[Any], thread: int, threads: int
) -> tuple[frozenset[tuple[int, Box]], frozenset[tuple[int, Box]]]:
    touched: tuple[set[tuple[int, Box]], set[tuple[int, Box]]] = (set(), set())
    for realize, loops in _blocks(function.body, []):
        analyzer = tvm.sym.Analyzer()
        parallel = False
        nothing = False
        for loop in loops:
            begin, extent = int(loop.min), _most(loop.extent, analyzer)
            if loop.kind == tirx.ForKind.PARALLEL:
                parallel = True
                step = -(-extent // threads)
                begin, extent = begin + thread * step, max(min(step, extent - thread * step), 0)
            nothing = nothing or extent == 0
            dtype = str(loop.loop_var.ty.dtype)
            analyzer.bind(
                loop.loop_var, tvm.ir.Range.from_min_extent(tirx.const(begin, dtype), tirx.const(max(extent, 1), dtype))
            )
        if nothing or (thread and not parallel):
            continue
        values = dict(zip((v.var for v in realize.block.iter_vars), realize.iter_values, strict=True))
        for regions, boxes in ((realize.block.reads, touched[0]), (realize.block.writes, touched[1])):
            for region in regions:
                number = next((n for n, b in enumerate(buffers) if b.same_as(region.source)), None)
                if number is not None:
                    boxes.add((number, _box(region, values, analyzer)))
    return frozenset(touched[0]), frozenset(touched[1])


def _most(extent: Any, analyzer: Any) -> int:
    return int(analyzer.const_int_bound(analyzer.simplify(extent)).max_value)


def _blocks(statement: Any, loops: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """The innermost blocks of a statement, each with the loops around it."""
    if isinstance(statement, tirx.For):
        yield from _blocks(statement.body, [*loops, statement])
    elif isinstance(statement, tirx.SeqStmt):
        yield from itertools.chain.from_iterable(_blocks(part, loops) for part in statement.seq)
    elif isinstance(statement, SBlockRealize):
        inner = list(_blocks(statement.block.body, loops))
        yield from inner or [(statement, loops)]
    elif isinstance(statement, tirx.IfThenElse):
        yield from _blocks(statement.then_case, loops)
        if statement.else_case is not None:
            yield from _blocks(statement.else_case, loops)
    elif hasattr(statement, "body"):
        yield from _blocks(statement.body, loops)


def _box(region: Any, values: Mapping[Any, Any], analyzer: Any) -> Box:
    box = []
    for axis, extent in zip(region.region, region.source.shape, strict=True):
        least = analyzer.const_int_bound(analyzer.simplify(substituted(axis.min, values)))
        last = analyzer.const_int_bound(analyzer.simplify(substituted(axis.min + axis.extent - 1, values)))
        box.append((max(int(least.min_value), 0), min(int(last.max_value) + 1, int(extent))))
    return tuple(box)
