"""The order of what lies in a line of shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples, swizzle
from kernels.access import total
from kernels.coalescing import reuses
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class Swizzle(Pass):
    """Order the chunks of each 128-byte line of shared memory by the line's number, so that columns lie in different
    banks; CUDA only.

    A chunk has 4, 8 or 16 bytes, at least those of the widest access. Each of them is counted, with TVM's paddings and
    without: the fewest passes over the banks win, then the fewest bytes; where nothing is better, all stays.
    """

    name: ClassVar[str] = "swizzle"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "all accesses go through one map of addresses, which has each byte stay in its line",
                "the only way to shared memory in the source is the type `Swizzled`, which is no pointer",
            ),
            Requirement("an access lies within a chunk", "the widest vector of the lowered program; else refused"),
            Requirement(
                "no intrinsic is given a pointer", "fragments by wmma are refused, by ldmatrix each row is a chunk"
            ),
        ),
        options={"on": "chunks of lines of shared memory are in the order that is counted to avoid conflicts"},
        counters={
            "bank conflicts": "passes over the banks beyond what the same accesses need without conflicts",
            "shared bytes": "of all launches",
        },
        loses="Where padding has no conflicts either, and the addresses cost more than its bytes.",
        elsewhere="CUTLASS `Swizzle<B, M, S>`, Triton shared layouts, TVM `permuted_layout`",
        example=Example(
            examples.transposed, examples.tile, "swizzle{on=0}", "swizzle{on=1}", View.CUDA, r"\] =|Swizzled<.*= \{"
        ),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind == "cuda" else (cls(False),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        return reuses(module["main"])

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        return swizzle.why_not(function, target) if self.on else ""

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        return {
            "bank conflicts": total(function, target, "shared", "excess"),
            "shared bytes": swizzle.shared_bytes(function),
        }

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        return swizzle.swizzled(function) if self.on else function
