"""Products with a constant as a CPU's dot-product instructions compute them, with the right operand in panels.

Panels are those of `tuner.graph.panels`, with the steps of the reduction that an instruction sums side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te

from kernels.dots import Dot, widened
from tuner.graph.panels import Tiling, clamped, rows_copied
from tuner.graph.rewriter import Array


@dataclass(frozen=True)
class DotProduct:
    """A product of [M, K] by a constant [K, N]: its TE, the operands beside the left one, and M, K and N."""

    compute: Callable[..., Any]
    operands: tuple[Array, ...]
    extents: tuple[int, int, int]


def constant_dot_product(
    dots: Sequence[Dot], left: str, weight: Array, shape: Sequence[int], result: str
) -> DotProduct | None:
    """The product of a tensor of the dtype `left` by a constant, of the shape `shape` and the dtype `result`.

    None where no instruction is for it, and where its columns are fewer than a vector. Where the left operand is signed
    and the instruction wants it unsigned, 128 is added to it: the last operand has 128 times the sum of each column,
    which is subtracted again.
    """
    unsigned = "uint8" if left == "int8" else left
    dot = next((d for d in dots if (d.left, d.right, d.result) == (unsigned, str(weight.dtype), result)), None)
    if dot is None or min(len(shape), weight.ndim) < 2 or 0 in (*shape, *weight.shape):
        return None
    depth, columns = weight.shape[-2:]
    if weight.size != depth * columns or columns < dot.lanes:
        return None
    rows = math.prod(shape[:-1])
    weight = weight.reshape(depth, columns)
    tiling = Tiling.of(rows, columns, dot.lanes)
    sums = (128 * weight.astype(np.int32).sum(axis=0, dtype=np.int32),) if left != unsigned else ()
    operands = (tiling.pack(weight, dot.steps), *sums)
    return DotProduct(_product(rows, columns, tiling, dot), operands, (rows, depth, columns))


def dot_of_two(dots: Sequence[Dot], left: str, right: str, result: str) -> Dot | None:
    """The instruction for a product of two variables of these dtypes; integers that it cannot read are widened."""
    narrow = {"int8", "uint8", "int16"}
    as_they_are = left == right == "bfloat16" or (left, right) == ("uint8", "int8")
    wanted = (left, right) if as_they_are else ("int16", "int16") if {left, right} <= narrow else ()
    return next((d for d in dots if (d.left, d.right) == wanted and d.result == result), None)


def _product(rows: int, columns: int, tiling: Tiling, dot: Dot) -> Callable[..., Any]:
    """TE of [M, K] by panels [N/width, K/steps, width, steps] -> [M, N]; a third argument [N] is subtracted."""

    def compute(left: Any, panels: Any, correction: Any = None) -> Any:
        depth = int(panels.shape[1]) * dot.steps
        aligned = _aligned(left, depth, dot)
        k = te.reduce_axis((0, depth), "k")

        def element(i: Any, j: Any) -> Any:
            factors = (
                aligned[clamped(i, rows, tiling.rows), k],
                panels[j // tiling.width, k // dot.steps, j % tiling.width, k % dot.steps],
            )
            return te.sum(widened(factors[0], dot.result) * widened(factors[1], dot.result), axis=k)

        padded = te.compute((tiling.rows, tiling.columns), element, "matmul")
        if correction is not None:
            return te.compute((rows, columns), lambda i, j: padded[i, j] - correction[j], "stored")
        if (tiling.rows, tiling.columns) == (rows, columns):
            return padded
        return te.compute((rows, columns), lambda i, j: padded[i, j], "stored")

    return compute


def _aligned(left: Any, depth: int, dot: Dot) -> Any:
    """The left operand [M, depth] as the instruction reads it: a copy, unless it is so already."""
    rows, own = (int(extent) for extent in left.shape)
    if str(left.dtype) == dot.left and own == depth:
        return left
    return rows_copied(lambda at: left[at], (rows, depth), own, dot)
