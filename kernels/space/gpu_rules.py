"""TVM's schedule rules for GPUs, on CUDA with and without tensor cores."""

from __future__ import annotations

from typing import Any

from tvm.s_tir import Schedule
from tvm.target import Target

from kernels import tensor_cores
from kernels.metaschedule import meta_schedule
from kernels.space.gpu_formulas import TENSORIZE, blocks

VECTOR_WIDTHS = (1, 2, 3, 4, 8, 16)
"""Elements that a thread may copy at once: TVM's list for tensor cores."""


def rule_sets(target: Target, tf32: bool) -> list[Any]:
    """Lists of schedule rules: plain ones, then on CUDA tensor cores without and with software pipelining."""
    ms = meta_schedule()
    plain = list(ms.ScheduleRule.create("cuda"))
    sets = [plain]
    groups = tensor_cores.groups(str(target.attrs["arch"]), tf32) if target.kind.name == "cuda" else []
    if groups:
        staging = ms.schedule_rule.ReuseType
        for pipelined in (False, True):
            tensor = ms.schedule_rule.MultiLevelTilingTensorCore(
                groups,
                "SSSRRSRS",
                ["blockIdx.y", "blockIdx.x", "threadIdx.y"],
                4,  # a warp's innermost tile: 4x4 fragments of 16x16 fill its registers
                list(VECTOR_WIDTHS),
                staging("must", [4], "shared.dyn"),
                staging("must", [2], "shared.dyn"),
                pipelined,
            )
            sets.append([plain[0], tensor, *plain[1:]])
    return sets


def uses_tensor_cores(schedule: Schedule) -> bool:
    """Whether a sketch computes by tensor-core intrinsics."""
    return any(TENSORIZE in block.annotations for block, _ in blocks(schedule.mod["main"].body))
