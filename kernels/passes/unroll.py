"""How far loops are unrolled explicitly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels import examples
from kernels.lowering import lowered, nodes
from kernels.passes.base import Documentation, Example, Pass, Requirement, View

_KEY = "meta_schedule.unroll_explicit"


@dataclass(frozen=True)
class Unroll(Pass):
    """Unroll loop nests of at most `depth` steps; 0 leaves all loops rolled.

    64 unrolls a register tile but not the reduction around it: on packed convolutions as fast as 512 or
    faster, and compiled in half the time (experiments/unroll).
    """

    name: ClassVar[str] = "unroll"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement("nothing: the steps stay the same, in the same order", "TVM's UnrollLoop writes them out"),
        ),
        options={"depth": "unroll loop nests of at most this many steps; 0 leaves them rolled"},
        counters={"statements": "that the lowered program stores with", "loops": "of the lowered program"},
        loses="Where the code outgrows the instruction cache, or LLVM takes long for it. LLVM unrolls small loops.",
        elsewhere="Halide `unroll`, Exo `unroll_loop`, MLIR `affine-loop-unroll`, TVM `pragma_auto_unroll_max_step`",
        example=Example(examples.row_sums, examples.annotated, "unroll{depth=0}", "unroll{depth=16}", View.LOWERED),
    )
    depth: int = 64

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return tuple(cls(depth) for depth in (64, 16, 256, 0, 512))

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        program = lowered(function, target)
        return {"statements": len(nodes(program, tirx.BufferStore)), "loops": len(nodes(program, tirx.For))}

    def on_schedule(self, schedule: Schedule) -> None:
        root = schedule.get_sblock("root", func_name="main")
        if _KEY in schedule.get(root).annotations:
            schedule.unannotate(root, _KEY)
            schedule.annotate(root, _KEY, self.depth)
