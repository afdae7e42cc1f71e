"""TVM's default schedules for untuned programs on a GPU."""

from __future__ import annotations

import tvm
from tvm.target import Target


def default_schedule(module: tvm.IRModule, target: Target) -> tvm.IRModule:
    """A copy of the module with TVM's default GPU schedules (DLight) where loops are not bound to threads.

    TVM's pass itself writes into the module that it is given, which may be that of a `TraceApplier`.
    """
    from tvm.s_tir import dlight

    copied = tvm.IRModule(dict(module.functions.items()), attrs=module.attrs)
    with target:
        return dlight.ApplyDefaultSchedule(
            dlight.gpu.Matmul(), dlight.gpu.GEMV(), dlight.gpu.Reduction(), dlight.gpu.GeneralReduction(),
            dlight.gpu.Transpose(), dlight.gpu.Fallback(),
        )(copied)  # fmt: skip
