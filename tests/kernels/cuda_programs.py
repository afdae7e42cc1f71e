"""Scheduled CUDA programs that tests share."""

from __future__ import annotations

import tvm
from tvm import te, topi
from tvm.s_tir import dlight
from tvm.target import Target


def cuda(arch: str) -> Target:
    return Target(
        {"kind": "cuda", "arch": arch, "max_threads_per_block": 1024, "max_shared_memory_per_block": 49152,
         "max_num_threads": 1024, "thread_warp_size": 32}
    )  # fmt: skip


def bound_matmul(n: int = 64, scope: str = "shared") -> tvm.IRModule:
    """A matmul by hand: 16x16 blocks of threads, both operands staged in shared memory."""
    a, b = te.placeholder((n, n), name="a"), te.placeholder((n, n), name="b")
    func = te.create_prim_func([a, b, topi.nn.matmul(a, b)]).with_attr("global_symbol", "main")
    schedule = tvm.s_tir.Schedule(func)
    block = schedule.get_sblock("T_matmul_NN")
    i, j, k = schedule.get_loops(block)
    (io, ii), (jo, ji) = schedule.split(i, [None, 16]), schedule.split(j, [None, 16])
    ko, ki = schedule.split(k, [None, 16])
    schedule.reorder(io, jo, ii, ji, ko, ki)
    for loop, thread in ((io, "blockIdx.y"), (jo, "blockIdx.x"), (ii, "threadIdx.y"), (ji, "threadIdx.x")):
        schedule.bind(loop, thread)
    for operand in (0, 1):
        copy = schedule.cache_read(block, operand, scope)
        schedule.compute_at(copy, ko)
        fused = schedule.fuse(*schedule.get_loops(copy)[-2:])
        _, y, x = schedule.split(fused, [None, 16, 16])
        schedule.bind(y, "threadIdx.y")
        schedule.bind(x, "threadIdx.x")
    schedule.decompose_reduction(block, ko)
    return schedule.mod


def softmax_of_matmul() -> tvm.IRModule:
    a, b = te.placeholder((96, 64), name="p"), te.placeholder((64, 80), name="p")
    module = tvm.IRModule({"main": te.create_prim_func([a, b, topi.nn.softmax(topi.nn.matmul(a, b))])})
    with cuda("sm_80"):
        return dlight.ApplyDefaultSchedule(dlight.gpu.Matmul(), dlight.gpu.Reduction(), dlight.gpu.Fallback())(module)
