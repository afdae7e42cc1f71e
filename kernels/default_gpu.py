"""TVM's default schedules for untuned programs on a GPU."""

from __future__ import annotations

import tvm
from tvm.target import Target


def default_schedule(module: tvm.IRModule, target: Target) -> tvm.IRModule:
    """The module with TVM's default GPU schedules (DLight) for functions whose loops are not bound to threads."""
    from tvm.s_tir import dlight

    with target:
        return dlight.ApplyDefaultSchedule(
            dlight.gpu.Matmul(), dlight.gpu.GEMV(), dlight.gpu.Reduction(), dlight.gpu.GeneralReduction(),
            dlight.gpu.Transpose(), dlight.gpu.Fallback(),
        )(module)  # fmt: skip
