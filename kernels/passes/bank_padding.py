"""Where the rows of a buffer in shared memory begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.access import total
from kernels.bank_layout import padded, why_not
from kernels.coalescing import reuses
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class BankPadding(Pass):
    """Pad the rows of each buffer in shared memory so that a warp's accesses fall into different banks.

    Of 1, 2, 4 and 8 words more than a multiple of 32 banks, each buffer gets what is counted to need the fewest passes
    over the banks, or keeps its rows where none needs fewer.
    """

    name: ClassVar[str] = "bank_padding"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "vectors stay aligned", "a padding is a multiple of the widest vector that accesses the buffer"
            ),
            Requirement(
                "no intrinsic is given a pointer to the buffer", "a walk over the lowered program's calls; else refused"
            ),
            Requirement("a block's shared memory holds the padded rows", "their bytes against the target's limit"),
        ),
        options={"on": "rows of buffers in shared memory are padded where that is counted to avoid conflicts"},
        counters={"bank conflicts": "passes over the banks beyond what the same accesses need without conflicts"},
        loses="Where the bytes that it adds leave room for fewer thread blocks on a multiprocessor.",
        elsewhere="TVM `storage_align`, CUTLASS and Triton swizzle instead, MLIR `gpu` shared memory padding",
        example=Example(
            examples.transposed,
            examples.tile,
            "bank_padding{on=0}",
            "bank_padding{on=1}",
            View.CUDA,
            r"\] =|__shared__",
        ),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind in ("cuda", "opencl") else (cls(False),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        return reuses(module["main"])

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        return why_not(function, target) if self.on else ""

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        return {"bank conflicts": total(function, target, "shared", "excess")}

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        return padded(function) if self.on else function
