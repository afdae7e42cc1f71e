"""The layout of shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels import examples
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class MergedShared(Pass):
    """Put shared memory into one dynamic allocation, where buffers of disjoint lifetimes share space; CUDA only."""

    name: ClassVar[str] = "merged_shared"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement("buffers that share space are never alive at once", "TVM's liveness of the lowered program"),
        ),
        options={
            "on": "a kernel's shared memory is one allocation, in which buffers of disjoint lifetimes share space"
        },
        loses="Where it saves nothing: a barrier more between what now shares space.",
        elsewhere="TVM `MergeSharedMemoryAllocations`, Triton's shared memory allocation",
        example=Example(
            examples.reversed_rows,
            examples.staged,
            "merged_shared{on=0}",
            "merged_shared{on=1}",
            View.CUDA,
            "__shared__",
        ),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind == "cuda" else (cls(False),)

    def context_options(self) -> Mapping[str, Any]:
        return {"tirx.merge_static_smem": True} if self.on else {}
