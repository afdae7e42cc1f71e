"""Small programs whose loops passes rewrite, and what they compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import te, tirx, topi
from tvm.s_tir import Schedule

from kernels import reference
from kernels.dots import imported
from kernels.nests.plain import plain
from kernels.workload import from_prim_func, seeded_inputs
from tests.kernels.programs import llvm

Tensors = Sequence[te.Tensor]


def reduced(shape: Sequence[int], how: Callable[..., Any], axis: Any, dtype: str = "float32") -> tirx.PrimFunc:
    """A reduction of topi's over some axes."""
    a = te.placeholder(tuple(shape), dtype, name="a")
    return te.create_prim_func([a, how(a, axis=axis)])


def product(rows: int, columns: int, depth: int, transposed: bool) -> tirx.PrimFunc:
    """A matrix product whose right operand lies row by row, or column by column."""
    a = te.placeholder((rows, depth), name="a")
    b = te.placeholder((columns, depth) if transposed else (depth, columns), name="b")
    k = te.reduce_axis((0, depth), name="k")

    def element(i: tirx.Var, j: tirx.Var) -> tirx.PrimExpr:
        return te.sum(a[i, k] * (b[j, k] if transposed else b[k, j]), axis=k)

    return te.create_prim_func([a, b, te.compute((rows, columns), element)])


def gathered(rows: int, columns: int, count: int) -> tirx.PrimFunc:
    """Sums of rows of a table."""
    table = te.placeholder((rows, columns), name="table")
    at = te.placeholder((3, count), "int32", name="at")
    k = te.reduce_axis((0, count), name="k")
    return te.create_prim_func(
        [table, at, te.compute((3, columns), lambda i, j: te.sum(table[at[i, k] % rows, j], axis=k))]
    )


def normalized(rows: int, columns: int) -> tirx.PrimFunc:
    """A layer norm."""
    x, g, b = (te.placeholder(s, name=n) for s, n in (((rows, columns), "x"), ((columns,), "g"), ((columns,), "b")))
    return te.create_prim_func([x, g, b, topi.nn.layer_norm(x, g, b, [1])])


def channels(batch: int, count: int, size: int) -> tirx.PrimFunc:
    """Every channel less its mean, over its deviation: a batch norm while training."""
    x = te.placeholder((batch, count, size, size), name="x")
    total = float(batch * size * size)
    centred = topi.subtract(x, topi.divide(topi.sum(x, [0, 2, 3], keepdims=True), total))
    variance = topi.divide(topi.sum(topi.multiply(centred, centred), [0, 2, 3], keepdims=True), total)
    return te.create_prim_func([x, topi.multiply(centred, topi.rsqrt(topi.add(variance, 1e-5)))])


def softmax(rows: int, columns: int) -> tirx.PrimFunc:
    x = te.placeholder((rows, columns), name="x")
    return te.create_prim_func([x, topi.nn.softmax(x)])


def in_parallel(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The program with the outermost loop of every stage parallel, where that loop has several iterations."""
    schedule = Schedule(tvm.IRModule({"main": function}))
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        loop = schedule.get_loops(block)[0]
        kind = int(schedule.get(block).iter_vars[0].iter_type)
        if kind == 0 and int(schedule.get(loop).extent) > 1:
            schedule.parallel(loop)
    return schedule.mod["main"]


def parsed(text: str) -> tirx.PrimFunc:
    """A program from the body of a TVMScript function `main`; `a` [8, 16] is read, `b` [8, 16] is read and written."""
    lines = "\n".join(f"    {line}" for line in text.strip().splitlines())
    head = "def main(a: T.Buffer((8, 16), 'float32'), b: T.Buffer((8, 16), 'float32')):"
    function = tvm.script.from_source(f"@T.prim_func(s_tir=True)\n{head}\n{lines}\n")
    return function.with_attr("global_symbol", "main")


def computed(function: tirx.PrimFunc, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The arguments after a call, outputs among them."""
    tensors = [tvm.runtime.tensor(np.array(array)) for array in arrays]
    with tvm.transform.PassContext(opt_level=3):
        function = imported(function)
        tvm.compile(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}), llvm())["main"](*tensors)
    return [tensor.numpy() for tensor in tensors]


def check(unscheduled: tirx.PrimFunc, changed: tirx.PrimFunc) -> None:
    """Fails unless a changed program computes what the reference makes of the unscheduled one."""
    workload = from_prim_func(unscheduled, "program")
    inputs = seeded_inputs(workload.inputs, 1)
    function = workload.module()["main"]
    [expected] = reference.evaluate(function, inputs)
    dtype = np.dtype(workload.outputs[0].dtype)
    unwritten = np.full(expected.shape, np.nan if dtype.kind == "f" else 77, dtype)
    *_, output = computed(changed, [*inputs, unwritten])
    length = reference.reduction_length(function)
    right, _, _, reason = reference.compare(output, expected, reference.working_dtype(function), length)
    assert right, reason


def scripts(function: tirx.PrimFunc) -> str:
    """A program without blocks, as text."""
    return str(plain(function).script())
