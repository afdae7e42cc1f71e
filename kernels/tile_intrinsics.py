"""Tile products (`kernels.amx`) as tensor intrinsics, and the blocks of sketches that are marked for them."""

from __future__ import annotations

from typing import Any

import tvm
from tvm.s_tir import Schedule

from kernels import amx
from kernels.dots import DOTS, factors
from kernels.lowering import nodes

MARK = "tile"
"""The annotation, on a block of a sketch, for its three innermost loops: rows, 16 columns, and the whole reduction. It
names the instruction, and the dtypes in which it reads its operands."""


def name_of(mark: str, rows: int, depth: int) -> str:
    """The intrinsic for a marked block of so many rows and steps, as `intrinsic` takes it."""
    name, left, right = mark.split(".")
    tile = next(tile for tile in amx.TILES if tile.name == name)
    steps = next(dot.steps for dot in DOTS if dot.name == tile.dot)
    return f"{tile.symbol(rows, depth // steps)}.{left}.{right}.{steps}"


_ARGUMENTS = """
    a: T.Buffer(({rows}, {depth}), "{left}", offset_factor=1{a}),
    b: T.Buffer(({words}, 16, {steps}), "{right}", offset_factor=1{b}),
    c: T.Buffer(({rows}, 16), "{result}", offset_factor=1{c}),
"""

_BODY = """
    with T.sblock("root"):
        T.reads(c[0:{rows}, 0:16], a[0:{rows}, 0:{depth}], b[0:{words}, 0:16, 0:{steps}])
        T.writes(c[0:{rows}, 0:16])
"""

_DESCRIBED = """
@T.prim_func(s_tir=True)
def main(""" + _ARGUMENTS + ") -> None:" + _BODY + """
        for i, j, k in T.grid({rows}, 16, {depth}):
            with T.sblock("update"):
                vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                c[vi, vj] = c[vi, vj] + {factors}
"""  # fmt: skip

_IMPLEMENTED = """
lda, ldb, ldc = T.int32(), T.int32(), T.int32()
@T.prim_func(s_tir=True)
def main(""" + _ARGUMENTS + ") -> None:" + _BODY + """
        T.evaluate(
            T.call_extern(
                "int32", "{symbol}",
                T.address_of(c[0, 0]), T.Cast("int64", ldc) * T.int64(4),
                T.address_of(a[0, 0]), T.Cast("int64", lda) * T.int64({size}),
                T.address_of(b[0, 0, 0]), T.Cast("int64", ldb) * T.int64({size}),
            )
        )
"""  # fmt: skip

_STRIDES = {"a": ", strides=[lda, 1]", "b": ", strides=[ldb, {steps}, 1]", "c": ", strides=[ldc, 1]"}


def intrinsic(name: str) -> str:
    """A name of `name_of` as that of a tensor intrinsic, which is registered when it is first asked for."""
    from tvm.s_tir import TensorIntrin
    from tvm.script import from_source

    if TensorIntrin.get(name, allow_missing=True) is None:
        symbol, left, right, steps = name.split(".")
        found = amx.parsed(symbol)
        assert found is not None, name
        _, rows, words = found
        count = int(steps)
        result = "float32" if count == 2 else "int32"
        parts: dict[str, Any] = {
            "symbol": symbol, "rows": rows, "words": words, "depth": words * count, "steps": count, "left": left,
            "right": right, "result": result, "size": 4 // count,
            "factors": factors("a[vi, vk]", f"b[vk // {count}, vj, vk % {count}]", left, right, result),
        }  # fmt: skip
        strides = {operand: text.format(steps=count) for operand, text in _STRIDES.items()}
        described = from_source(_DESCRIBED.format(**parts, a="", b="", c=""))
        implemented = from_source(_IMPLEMENTED.format(**parts, **strides))
        TensorIntrin.register(name, described, implemented)
    return name


def compute(schedule: Schedule, block: Any, on: bool) -> None:
    """A marked block by its intrinsic, or with `on` false in vectors of 16 columns."""
    mark = str(schedule.get(block).annotations[MARK])
    schedule.unannotate(block, MARK)
    rows, columns, reduction = schedule.get_loops(block)[-3:]
    extents = [int(schedule.get(loop).extent) for loop in (rows, reduction)]
    if not on:
        schedule.reorder(reduction, rows, columns)
        schedule.vectorize(columns)
        return
    initial = schedule.decompose_reduction(block, rows)
    schedule.vectorize(schedule.get_loops(initial)[-1])
    schedule.tensorize(rows, intrinsic(name_of(mark, *extents)))


def wanted(function: tvm.tirx.PrimFunc) -> list[str]:
    """The instructions that the blocks of a program are marked for."""
    blocks = nodes(function.body, tvm.s_tir.SBlock)
    return [str(block.annotations[MARK]).split(".")[0] for block in blocks if MARK in block.annotations]
