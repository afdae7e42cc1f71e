"""The layout of shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.lowering import buffer_bytes, lowered, nodes
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class MergedShared(Pass):
    """Put shared memory into one dynamic allocation, where buffers of disjoint lifetimes share space; CUDA only."""

    name: ClassVar[str] = "merged_shared"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement("buffers that share space are never alive at once", "TVM's liveness of the lowered program"),
            Requirement(
                "no statement reads one buffer in shared memory and writes another",
                "a walk over the stores; else refused, since TVM takes what is read last for dead before it is read",
            ),
        ),
        options={"on": "one allocation of shared memory, in which buffers of disjoint lifetimes share space"},
        counters={"shared bytes": "of shared memory of the lowered program"},
        loses="Where it saves nothing: a barrier more between what now shares space.",
        elsewhere="TVM `MergeSharedMemoryAllocations`, Triton's shared memory allocation",
        example=Example(
            examples.reversed_rows,
            examples.staged,
            "storage_rewrite{on=0} merged_shared{on=0}",
            "storage_rewrite{on=0} merged_shared{on=1}",
            View.CUDA,
            "__shared__|_shared_ptr|shmem",
        ),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind == "cuda" else (cls(False),)

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.on:
            return ""
        for store in nodes(function.body, tirx.BufferStore):
            sources = [load.source for load in nodes(store.value, tvm.ir.TensorLoad) if _shared(load.source)]
            if _shared(store.buffer) and any(not source.same_as(store.buffer) for source in sources):
                return f"a statement reads {sources[0].name} and writes {store.buffer.name}, both in shared memory"
        return ""

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        return {"shared bytes": buffer_bytes(lowered(function, target), "shared")}

    def context_options(self) -> Mapping[str, Any]:
        return {"tirx.merge_static_smem": True} if self.on else {}


def _shared(buffer: Any) -> bool:
    return str(buffer.scope()).startswith("shared")
