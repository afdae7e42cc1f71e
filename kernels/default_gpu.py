"""TVM's default schedules for untuned programs on a GPU."""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.s_tir import SBlock
from tvm.target import Target

from kernels.lowering import nodes


def default_schedule(module: tvm.IRModule, target: Target) -> tvm.IRModule:
    """A copy of the module with TVM's default GPU schedules (DLight) where loops are not bound to threads.

    TVM's pass itself writes into the module that it is given, which may be that of a `TraceApplier`. Raises ValueError
    for a kernel that is one piece of code for a CPU, as recurrent layers are.
    """
    from tvm.s_tir import dlight

    for function in module.functions.values():
        if isinstance(function, tirx.PrimFunc) and _is_one_piece(function):
            [block] = nodes(function.body, SBlock)
            raise ValueError(f"{block.name_hint} is written for CPUs, and has no loops for a GPU's threads")
    copied = tvm.IRModule(dict(module.functions.items()), attrs=module.attrs)
    with target:
        return dlight.ApplyDefaultSchedule(
            dlight.gpu.Matmul(), dlight.gpu.GEMV(), dlight.gpu.Reduction(), dlight.gpu.GeneralReduction(),
            dlight.gpu.Transpose(), dlight.gpu.Fallback(),
        )(copied)  # fmt: skip


def _is_one_piece(function: tirx.PrimFunc) -> bool:
    """Whether a program's only block is the whole of it, with loops of its own, none of which is bound to threads."""
    bound = any(loop.thread_binding is not None for loop in nodes(function.body, tirx.For))
    return len(nodes(function.body, SBlock)) == 1 and not bound
