"""Whether dot products are computed by the CPU's instructions for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels import amx, examples, tile_intrinsics
from kernels.dots import MARK, executed, intrinsic, multiplied, offered, parsed
from kernels.lowering import nodes
from kernels.passes.base import Documentation, Example, Pass, Requirement


@dataclass(frozen=True)
class Tensorize(Pass):
    """Compute dot products of bytes and of bfloat16 by the CPU's instructions for them; 0 leaves them to LLVM.

    Sketches mark the blocks that an instruction of the target computes (`kernels.dots`): their two innermost loops,
    steps and lanes, become one call. Without it the lanes are a vector and the steps are unrolled. On CPUs with AMX
    (`kernels.amx`) other sketches mark tiles of rows by 16 columns and the whole reduction.
    """

    name: ClassVar[str] = "tensorize"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement("a block that a sketch marked", "the annotation; refused without one"),
            Requirement("the CPU has the instruction", "LLVM's features of the target; refused without them"),
            Requirement("the block computes what the instruction does", "TVM's `tensorize` compares their programs"),
            Requirement("sums of products of bfloat16 may be added in another order", "the tolerance of the check"),
        ),
        options={"on": "by the instruction"},
        counters={"dot products": "instructions, of vectors or tiles, that one call of the kernel executes"},
        loses="Where a kernel is bound by memory, which narrow numbers have relieved already.",
        elsewhere="TVM `tensorize`, Exo `replace` by an instruction, MLIR `x86vector.avx512.dot`, oneDNN VNNI layouts",
        example=Example(examples.bfloat16_product, examples.marked, "tensorize{on=0}", "tensorize{on=1}"),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False)) if target_kind == "llvm" else (cls(False),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        return any(multiplied(block) for block in nodes(module["main"].body, tvm.s_tir.SBlock))

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.on:
            return ""
        marks = [b.annotations[MARK] for b in nodes(function.body, tvm.s_tir.SBlock) if MARK in b.annotations]
        wanted = {*(parsed(str(mark))[0].name for mark in marks), *tile_intrinsics.wanted(function)}
        missing = wanted - {dot.name for dot in offered(target)} - {tile.name for tile in amx.offered(target)}
        if missing:
            return f"the target has no {', '.join(sorted(missing))}"
        return "" if wanted else "no block is marked as a dot product"

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        return {"dot products": executed(function.body)}

    def on_schedule(self, schedule: Schedule) -> None:
        for block in schedule.get_child_blocks(schedule.get_sblock("root", func_name="main")):
            annotations = schedule.get(block).annotations
            if MARK in annotations:
                self._compute(schedule, block)
            elif tile_intrinsics.MARK in annotations:
                tile_intrinsics.compute(schedule, block, self.on)

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
