"""Which instructions multiply fragments on tensor cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples, mma
from kernels.coalescing import reuses
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class Mma(Pass):
    """Multiply on tensor cores by `mma.sync` with operands read by `ldmatrix`, in place of wmma; CUDA, sm_80 and later.

    The fragments get the layout of the PTX ISA, so that it is known which lane reads what: 8 rows of 16 bytes at once.
    """

    name: ClassVar[str] = "mma"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement("operands are float16, bfloat16 or int8", "the fragments' dtypes; else refused"),
            Requirement("the architecture has m16n8k16", "sm_80 and later; else refused"),
            Requirement(
                "a fragment holds what wmma's would",
                "the layouts of the PTX ISA, executed on the simulated GPU by test",
            ),
        ),
        options={"on": "fragments are loaded by ldmatrix and multiplied by mma.sync"},
        loses="Where int8 operands lie across what is summed: ldmatrix cannot transpose bytes, and they are gathered.",
        elsewhere="CUTLASS and CuTe atoms, Triton `MmaV2`, TVM `mma_sync` and `ldmatrix` intrinsics",
        example=Example(
            examples.half_product, examples.tensor_cores, "mma{on=0}", "mma{on=1}", View.CUDA, r"^ .*(mma|matrix_sync)"
        ),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind == "cuda" else (cls(False),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        function = module["main"]
        return reuses(function) and any(str(p.dtype) in mma.OPERANDS for p in function.params)

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        return mma.why_not(function, target) if self.on else ""

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        return mma.with_mark(function) if self.on else function
