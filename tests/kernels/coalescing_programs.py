"""Random thread-bound programs whose loops are bound in any order: what a coalescing pass must not break."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.s_tir import Schedule

_EXTENTS = (1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 32, 33, 40, 64, 96)
_MOST = 6000


def program(seed: int) -> tuple[Any, str]:
    """An unscheduled function with one output, and what it does."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(["permute", "elementwise", "strided", "reduce", "window", "pad", "gather", "product"]))
    return te.create_prim_func(_KINDS[kind](rng)), kind


def _shape(rng: np.random.Generator, rank: int) -> tuple[int, ...]:
    while True:
        shape = tuple(int(rng.choice(_EXTENTS)) for _ in range(rank))
        if math.prod(shape) <= _MOST:
            return shape


def _dtype(rng: np.random.Generator) -> str:
    return str(rng.choice(["float32", "float32", "float32", "int8", "int32", "float64"]))


def _permute(rng: np.random.Generator) -> list[Any]:
    shape = _shape(rng, int(rng.integers(2, 5)))
    data, order = te.placeholder(shape, _dtype(rng), name="data"), rng.permutation(len(shape))
    back = [int(np.flatnonzero(order == n)[0]) for n in range(len(shape))]
    return [data, te.compute([shape[n] for n in order], lambda *at: data[tuple(at[n] for n in back)], name="out")]


def _elementwise(rng: np.random.Generator) -> list[Any]:
    shape = _shape(rng, int(rng.integers(1, 4)))
    dtype = _dtype(rng)
    data, row = te.placeholder(shape, dtype, name="data"), te.placeholder(shape[-1:], dtype, name="row")
    column = te.placeholder(shape[:1], dtype, name="column")
    out = te.compute(shape, lambda *at: data[at] * row[at[-1]] + column[at[0]], name="out")
    return [data, row, column, out]


def _strided(rng: np.random.Generator) -> list[Any]:
    rows, columns = _shape(rng, 2)
    step, start = int(rng.integers(2, 5)), int(rng.integers(0, 2))
    data = te.placeholder((rows, columns * step + start), _dtype(rng), name="data")
    back = bool(rng.integers(2))
    return [data, te.compute(
        (columns, rows) if back else (rows, columns),
        lambda i, j: data[j, i * step + start] if back else data[i, j * step + start], name="out",
    )]  # fmt: skip


def _reduce(rng: np.random.Generator) -> list[Any]:
    shape = _shape(rng, int(rng.integers(2, 4)))
    data, axis = te.placeholder(shape, "float32", name="data"), int(rng.integers(len(shape)))
    k = te.reduce_axis((0, shape[axis]), name="k")
    rest = [n for n in range(len(shape)) if n != axis]
    combine = te.max if rng.integers(2) else te.sum

    def cell(*at: Any) -> Any:
        index: list[Any] = [None] * len(shape)
        for n, value in zip(rest, at, strict=True):
            index[n] = value
        index[axis] = k
        return combine(data[tuple(index)], axis=k)

    return [data, te.compute([shape[n] for n in rest], cell, name="out")]


def _window(rng: np.random.Generator) -> list[Any]:
    channels, rows, columns = _shape(rng, 3)
    size = int(rng.integers(1, 4))
    data = te.placeholder((channels, rows + size - 1, columns + size - 1), name="data")
    i, j = te.reduce_axis((0, size), name="i"), te.reduce_axis((0, size), name="j")
    last = bool(rng.integers(2))
    return [data, te.compute(
        (rows, columns, channels) if last else (channels, rows, columns),
        (lambda y, x, c: te.max(data[c, y + i, x + j], axis=[i, j])) if last
        else (lambda c, y, x: te.max(data[c, y + i, x + j], axis=[i, j])), name="out",
    )]  # fmt: skip


def _pad(rng: np.random.Generator) -> list[Any]:
    rows, columns = _shape(rng, 2)
    data = te.placeholder((rows, columns), name="data")
    return [data, te.compute(
        (columns + 2, rows + 1),
        lambda i, j: tirx.if_then_else(tirx.all(i >= 1, i <= columns, j < rows), data[j, i - 1], 0.5), name="out",
    )]  # fmt: skip


def _gather(rng: np.random.Generator) -> list[Any]:
    rows, columns = _shape(rng, 2)
    data, index = te.placeholder((rows, columns), name="data"), te.placeholder((columns,), "int32", name="index")
    return [data, index, te.compute(
        (columns, rows), lambda i, j: data[j, tirx.floormod(index[i] * index[i], columns)], name="out"
    )]  # fmt: skip


def _product(rng: np.random.Generator) -> list[Any]:
    rows, columns, depth = (int(rng.choice(_EXTENTS[:9])) for _ in range(3))
    a = te.placeholder((rows, depth), name="a")
    transposed = bool(rng.integers(2))
    b = te.placeholder((columns, depth) if transposed else (depth, columns), name="b")
    k = te.reduce_axis((0, depth), name="k")
    return [a, b, te.compute(
        (rows, columns), lambda i, j: te.sum(a[i, k] * (b[j, k] if transposed else b[k, j]), axis=k), name="out"
    )]  # fmt: skip


_KINDS = {
    "permute": _permute, "elementwise": _elementwise, "strided": _strided, "reduce": _reduce, "window": _window,
    "pad": _pad, "gather": _gather, "product": _product,
}  # fmt: skip


def bound(function: Any, seed: int) -> Any:
    """The program with its loops in a random order and bound to threads at random."""
    rng = np.random.default_rng(seed + 1)
    schedule = Schedule(function)
    block = schedule.get_sblock("out")
    reduction = [v.iter_type == tirx.IterVar.CommReduce for v in schedule.get(block).iter_vars]
    loops = schedule.get_loops(block)
    spatial = [loop for loop, reduces in zip(loops, reduction, strict=True) if not reduces]
    reduce = [loop for loop, reduces in zip(loops, reduction, strict=True) if reduces]
    if not spatial:
        spatial = [schedule.add_unit_loop(block)]
    shuffled = [spatial[n] for n in rng.permutation(len(spatial))]
    schedule.reorder(*shuffled, *reduce)
    fused = int(rng.integers(1, len(shuffled) + 1))
    outer = schedule.fuse(*shuffled[:fused])
    threads = int(rng.choice([8, 32, 32, 48, 64, 128]))
    blocks, thread = schedule.split(outer, [None, threads])
    schedule.bind(blocks, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    return schedule.mod["main"]
