"""Matrix products as TE, with the right operand in panels: some columns, whole vectors wide, all rows below each other.

A product reads its panels in the order in which they lie. The left operand's rows are tiled in registers, so their
number must have a good divisor: 197 rows are computed as 198, the last one twice, and the extra row is not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx

from kernels.dots import Dot, copied, widened
from kernels.space.constraints import registers
from kernels.space.tiles import divisors
from tuner.graph.rewriter import Array

Reader = Callable[[Any, Sequence[Any]], Any]
"""Reads an element of a TE tensor at indices of an operand."""

_FEW_ROWS = 8
"""Rows below which panels are four vectors wide, because a tile of all rows has registers left."""

_SPARE_REGISTERS = 4
"""Vector registers that hold operands."""

_UNSTORED = (0.02, 0.25)
"""What rows, and columns, that are computed and not stored cost beside the work, as a share of the product. Vectors of
which not all columns are stored are stored element by element."""


@dataclass(frozen=True)
class Tiling:
    """How a product of some rows and columns is computed: `rows` and `columns` as padded, panels `width` wide."""

    rows: int
    columns: int
    width: int

    @staticmethod
    def of(rows: int, columns: int, lanes: int, computed: int | None = None) -> Tiling:
        """The least work, for vectors of `lanes` float32; with `computed` rows, where they are given. A core loads
        about one vector for each multiply-add."""
        widest = 4 if rows < _FEW_ROWS else 2

        def cost(tiling: Tiling) -> float:
            unstored = _UNSTORED[0] * (tiling.rows != rows) + _UNSTORED[1] * (tiling.columns != columns)
            work, loads = tiling.rows * tiling.columns / (rows * columns), tiling._loads(lanes)
            return work * (max(1.0, loads) + loads / 16) + unstored

        return min(
            (
                Tiling(padded, -(-columns // width) * width, width)
                for width in (lanes * vectors for vectors in (4, 2, 1) if vectors <= widest)
                for padded in ([computed] if computed else _paddings(rows, _tallest(width, lanes)))
            ),
            key=cost,
        )

    def _loads(self, lanes: int) -> float:
        """Loads for each multiply-add in the best tile of registers."""
        vectors = self.width // lanes
        height = max(d for d in divisors(self.rows) if d <= _tallest(self.width, lanes))
        return (height + vectors) / (height * vectors)

    def pack(self, weight: Array, steps: int = 1) -> Array:
        """[K, N] -> [N/width, K, width], with zeros in the columns that were added.

        With more than one of the `steps` of K side by side: [N/width, K/steps, width, steps], zeros after the last.
        """
        depth, columns = weight.shape
        wide = np.pad(weight, ((0, -depth % steps), (0, self.columns - columns)))
        panels = wide.reshape(-1, steps, self.columns // self.width, self.width).transpose(2, 0, 3, 1)
        return np.ascontiguousarray(panels if steps > 1 else panels[..., 0])


def _tallest(width: int, lanes: int) -> int:
    """The most rows of a register tile that is `width` columns wide."""
    return (registers(lanes) - _SPARE_REGISTERS) * lanes // width


def _paddings(rows: int, tallest: int) -> Sequence[int]:
    """The numbers of rows to choose from: a tile of all rows, or a few rows more, which may have a better divisor."""
    return [rows] if rows <= tallest else range(rows, rows + tallest)


def constant_product(rows: int, columns: int, tiling: Tiling) -> Callable[[Any, Any], Any]:
    """TE of [M, K] by panels [N/width, K, width] -> [M, N]."""

    def compute(left: Any, panels: Any) -> Any:
        def row(at: Any) -> Any:
            return left[clamped(at[0], rows, tiling.rows), at[1]]

        return _product(row, lambda at: panels[at], (), (rows, int(left.shape[1]), columns), tiling, (0, 1))

    return compute


def product(
    batch: Sequence[int],
    extents: tuple[int, int, int],
    inside: tuple[int, int, int],
    readers: tuple[Reader, Reader],
    tiling: Tiling,
    order: Sequence[int],
    dot: Dot | None = None,
    copy: bool = False,
) -> Callable[[Any, Any], Any]:
    """TE of [*batch, M, K] by [*batch, K, N], stored with its axes in `order`; `extents` are M, K and N.

    Readers read the operands, wherever their elements are. The first stage makes panels of the right one. The operands
    have M, K and N `inside`: what is beyond is a copy of the last row or column. Narrow operands are multiplied by
    `dot`, for which `copy` makes a copy of the left one at first; bfloat16 without it is widened.
    """
    steps, result = (dot.steps, dot.result) if dot else (1, "float32")
    width, depth = tiling.width, -(-extents[1] // steps) * steps

    def compute(left: Any, right: Any) -> Any:
        def panel(*at: Any) -> Any:
            *outer, number, k, lane, side = at if dot else (*at, 0)
            row = clamped(k * steps + side, inside[1], depth)
            value = readers[1](right, (*outer, row, clamped(number * width + lane, inside[2], tiling.columns)))
            return copied(value, dot.right) if dot else widened(value, "float32")

        shape = (*batch, tiling.columns // width, depth // steps, width)
        panels = te.compute((*shape, steps) if dot else shape, panel, "panels")

        def element(at: Any) -> Any:
            *outer, i, k = at
            return readers[0](left, (*outer, clamped(i, inside[0], tiling.rows), k))

        aligned = rows_copied(element, (*batch, tiling.rows, depth), extents[1], dot) if dot and copy else None

        def row(at: Any) -> Any:
            return widened(element(at) if aligned is None else aligned[at], result)

        def column(at: Any) -> Any:
            *outer, number, k, lane = at
            return widened(panels[(*outer, number, k // steps, lane, k % steps)], result) if dot else panels[at]

        return _product(row, column, batch, (extents[0], depth, extents[2]), tiling, order)

    return compute


def rows_copied(element: Callable[[Any], Any], shape: Sequence[int], own: int, dot: Dot) -> Any:
    """A copy of a left operand of `own` steps as an instruction reads it, with zeros in the steps that are added."""

    def copy(*at: Any) -> Any:
        value = copied(element(at), dot.left)
        return value if shape[-1] == own else te.if_then_else(at[-1] < own, value, tirx.const(0, dot.copied))

    return te.compute(shape, copy, "aligned")


def _product(
    left: Callable[[Any], Any],
    panels: Callable[[Any], Any],
    batch: Sequence[int],
    extents: tuple[int, int, int],
    tiling: Tiling,
    order: Sequence[int],
) -> Any:
    rows, depth, columns = extents
    k = te.reduce_axis((0, depth), "k")

    def element(*at: Any) -> Any:
        *outer, i, j = at
        return te.sum(left((*outer, i, k)) * panels((*outer, j // tiling.width, k, j % tiling.width)), axis=k)

    padded = te.compute((*batch, tiling.rows, tiling.columns), element, "matmul")
    shape = (*batch, rows, columns)
    if tiling.rows == rows and tiling.columns == columns and list(order) == sorted(order):
        return padded
    place = {axis: position for position, axis in enumerate(order)}
    return te.compute(
        [shape[axis] for axis in order], lambda *at: padded[tuple(at[place[a]] for a in range(len(order)))], "stored"
    )


def clamped(index: Any, extent: int, padded: int) -> Any:
    """The index, kept below `extent` where there are more."""
    return te.min(index, extent - 1) if padded > extent else index
