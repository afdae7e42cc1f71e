"""Which thread accesses what, so that a warp's accesses lie beside one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.access import total
from kernels.coalescing import NOTHING_FEWER, coalesced, reuses
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class Coalesce(Pass):
    """Rewrite order, binding, staging and vectors of a launch of one block so that its warps need fewer transactions.

    The loops are made anew from the block's iterations. The plans that are counted: each spatial loop as the one whose
    neighbours go to neighbouring threads; several elements a thread; tiles of two loops, or a part of a reduction, that
    are staged in shared memory in the order in which they lie; sums in registers. The one with the fewest sectors of
    global memory and a quarter of the passes over shared memory's banks is taken, where that is 10 % fewer than before.
    """

    name: ClassVar[str] = "coalesce"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "a launch is one block whose iterations are parallel or a reduction, and each writes its own element",
                "the block's iteration types, its stores' indices, and that it reads nothing else of what it writes",
            ),
            Requirement(
                "the loops run each iteration once, those of one element on one thread in their own order",
                "a bijection check that looks at each of up to 2 million iterations; else refused",
            ),
            Requirement("what is staged is what was read", "TVM's scheduler, and execution on PoCL by test"),
        ),
        options={"on": "launches of one block are rewritten where that is counted to need fewer transactions"},
        counters={"sectors": "32-byte sectors of global memory that all warps touch, guards taken to hold"},
        loses="Where the cache would have served the same sectors again; where a launch has too few threads as it is.",
        elsewhere="Yang et al. 2010 (GPGPU compiler), PPCG's shared-memory staging, TVM `AutoCopy`, Triton `coalesce`",
        example=Example(
            examples.transposed,
            examples.column_threads,
            "coalesce{on=0}",
            "coalesce{on=1}",
            View.CUDA,
            r"\] =|__shared__|__syncthreads|for \(",
        ),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind in ("cuda", "opencl") else (cls(False),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        return not reuses(module["main"])

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.on:
            return ""
        _, made = coalesced(function)
        if any(launch.plan or launch.reason == NOTHING_FEWER for launch in made):
            return ""
        return f"{made[0].block}: {made[0].reason}" if made else "it has no launch"

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        return {"sectors": total(function, target, "global", "transactions")}

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        return coalesced(function)[0] if self.on else function
