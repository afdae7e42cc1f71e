"""The two tasks whose trials are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kernels.workload import Workload, from_prim_func


def conv() -> Workload:
    """The 3x3 convolution of ResNet-50's first stage, NCHW, with ReLU."""
    from tvm import te, topi

    data, weight = te.placeholder((1, 64, 56, 56), name="data"), te.placeholder((64, 64, 3, 3), name="weight")
    out = topi.nn.relu(topi.nn.conv2d_nchw(data, weight, 1, 1, 1))
    return from_prim_func(te.create_prim_func([data, weight, out]), "conv2d_3x3_relu")


def matmul() -> Workload:
    """A 1024 x 1024 x 1024 product in float32."""
    from tvm import te

    a, b = te.placeholder((1024, 1024), name="a"), te.placeholder((1024, 1024), name="b")
    k = te.reduce_axis((0, 1024), "k")
    out = te.compute((1024, 1024), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    return from_prim_func(te.create_prim_func([a, b, out]), "matmul_1024")


WORKLOADS: Mapping[str, Callable[[], Workload]] = {"conv": conv, "matmul": matmul}
