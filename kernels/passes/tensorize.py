"""Whether dot products are computed by the CPU's instructions for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
import tvm_ffi
from tvm.s_tir import Schedule

from kernels.dots import intrinsic, multiplied
from kernels.passes.base import Pass

MARK = "dot"
"""The annotation, on a block of a sketch, that names the instruction for its two innermost loops, and on the first
loop of its reduction that it is this."""


@dataclass(frozen=True)
class Tensorize(Pass):
    """Compute marked blocks by dot-product instructions of the CPU (`kernels.dots`); 0 leaves them to LLVM.

    The two innermost loops of such a block, steps and lanes, become one call. Without it the lanes are a vector and
    the steps are unrolled.
    """

    name: ClassVar[str] = "tensorize"
    on: bool = True

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False)) if target_kind == "llvm" else (cls(True),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        blocks: list[Any] = []
        tvm_ffi.structural_walk(module["main"].body, (tvm.s_tir.SBlock, blocks.append))
        return any(multiplied(block) for block in blocks)

    def on_schedule(self, schedule: Schedule) -> None:
        for block in schedule.get_child_blocks(schedule.get_sblock("root", func_name="main")):
            if MARK in schedule.get(block).annotations:
                self._compute(schedule, block)

    def _compute(self, schedule: Schedule, block: Any) -> None:
        instruction = str(schedule.get(block).annotations[MARK])
        schedule.unannotate(block, MARK)
        loops = schedule.get_loops(block)
        reduction = next(at for at, loop in enumerate(loops) if MARK in schedule.get(loop).annotations)
        schedule.unannotate(loops[reduction], MARK)
        if not self.on:
            schedule.unroll(loops[-2])
            schedule.vectorize(loops[-1])
            return
        initial = schedule.decompose_reduction(block, loops[reduction])
        *rest, lanes = schedule.get_loops(initial)[reduction:]
        for loop in rest:
            schedule.unroll(loop)
        schedule.vectorize(lanes)
        schedule.tensorize(loops[-2], intrinsic(instruction))
