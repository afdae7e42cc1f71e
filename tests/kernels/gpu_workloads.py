"""Small workloads of every kind a GPU space must get right, with odd and prime extents among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm import te, topi
from tvm.target import Target

from kernels.workload import Workload, from_prim_func


def gpu(arch: str = "sm_90a", shared: int = 48 * 1024) -> Target:
    return Target(
        {"kind": "cuda", "arch": arch, "max_threads_per_block": 1024, "max_shared_memory_per_block": shared,
         "max_num_threads": 1024, "thread_warp_size": 32}
    )  # fmt: skip


def matmul(m: int, n: int, k: int, dtype: str = "float32", out: str = "float32", batch: int = 0) -> Any:
    lead = (batch,) if batch else ()
    a, b = te.placeholder((*lead, m, k), dtype, name="a"), te.placeholder((*lead, k, n), dtype, name="b")
    depth = te.reduce_axis((0, k), name="k")

    def wide(value: Any) -> Any:
        return value if dtype == out else value.astype(out)

    def cell(*index: Any) -> Any:
        *z, i, j = index
        return te.sum(wide(a[(*z, i, depth)]) * wide(b[(*z, depth, j)]), axis=depth)

    return te.create_prim_func([a, b, te.compute((*lead, m, n), cell, name="c")])


def conv(channels: int, out: int, size: int, stride: int = 1, groups: int = 1) -> Any:
    data = te.placeholder((1, channels, size, size), name="data")
    weight = te.placeholder((out, channels // groups, 3, 3), name="weight")
    made = topi.nn.group_conv2d_nchw(data, weight, stride, 1, 1, groups)
    if groups == 1:
        made = topi.nn.conv2d_nchw(data, weight, stride, 1, 1)
    return te.create_prim_func([data, weight, topi.nn.relu(made)])


def depthwise(channels: int, size: int, stride: int) -> Any:
    data = te.placeholder((1, channels, size, size), name="data")
    weight = te.placeholder((channels, 1, 3, 3), name="weight")
    return te.create_prim_func([data, weight, topi.nn.depthwise_conv2d_nchw(data, weight, stride, 1, 1)])


def conv_nhwc(channels: int, out: int, size: int) -> Any:
    data = te.placeholder((1, size, size, channels), "float16", name="data")
    weight = te.placeholder((3, 3, channels, out), "float16", name="weight")
    return te.create_prim_func([data, weight, topi.nn.conv2d_nhwc(data, weight, 1, 1, 1, "float32")])


def softmax(rows: int, columns: int) -> Any:
    data = te.placeholder((rows, columns), name="data")
    return te.create_prim_func([data, topi.nn.softmax(data)])


def layer_norm(rows: int, columns: int) -> Any:
    data, gamma, beta = (
        te.placeholder(s, name=n) for s, n in (((rows, columns), "x"), ((columns,), "g"), ((columns,), "b"))
    )
    return te.create_prim_func([data, gamma, beta, topi.nn.layer_norm(data, gamma, beta, [1], 1e-5)])


def reduction(kind: str, rows: int, columns: int, axis: int) -> Any:
    data = te.placeholder((rows, columns), name="data")
    return te.create_prim_func([data, {"sum": topi.sum, "max": topi.max}[kind](data, axis)])


PROGRAMS: Mapping[str, Callable[[], Any]] = {
    "matmul": lambda: matmul(48, 32, 64),
    "matmul of primes": lambda: matmul(31, 37, 29),
    "matmul in half": lambda: matmul(32, 48, 64, "float16"),
    "matmul in half of primes": lambda: matmul(31, 37, 61, "float16"),
    "matmul in bfloat16": lambda: matmul(32, 32, 64, "bfloat16"),
    "matmul in int8": lambda: matmul(32, 48, 32, "int8", "int32"),
    "batched matmul": lambda: matmul(17, 24, 19, batch=3),
    "batched matmul in half": lambda: matmul(32, 32, 32, "float16", batch=2),
    "conv2d": lambda: conv(8, 16, 9),
    "strided conv2d": lambda: conv(6, 14, 13, stride=2),
    "grouped conv2d": lambda: conv(8, 12, 9, groups=4),
    "depthwise conv2d": lambda: depthwise(12, 11, stride=2),
    "conv2d in half": lambda: conv_nhwc(16, 16, 7),
    "softmax": lambda: softmax(13, 47),
    "layer norm": lambda: layer_norm(11, 53),
    "sum": lambda: reduction("sum", 29, 31, 1),
    "sum of columns": lambda: reduction("sum", 37, 12, 0),
    "max": lambda: reduction("max", 7, 101, 1),
}


def workload(name: str) -> Workload:
    return from_prim_func(PROGRAMS[name](), name)
