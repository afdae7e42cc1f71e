"""Small workloads and the target that the tests of the design space share."""

from __future__ import annotations

from tvm import te, topi
from tvm.target import Target

from kernels.workload import Workload, from_prim_func

LLVM = {"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2}


def llvm() -> Target:
    return Target(dict(LLVM))


def small_conv() -> Workload:
    """3x3, 8 -> 16 channels, on 10x10, with a ReLU."""
    data, weight = te.placeholder((1, 8, 10, 10), name="data"), te.placeholder((16, 8, 3, 3), name="weight")
    out = topi.nn.relu(topi.nn.conv2d_nchw(data, weight, 1, 1, 1))
    return from_prim_func(te.create_prim_func([data, weight, out]), "conv2d")


def softmax() -> Workload:
    data = te.placeholder((6, 40), name="data")
    return from_prim_func(te.create_prim_func([data, topi.nn.softmax(data)]), "softmax")
