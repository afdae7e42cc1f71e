"""Sharing of intermediate buffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.lowering import buffer_bytes, lowered
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class StorageRewrite(Pass):
    """Let intermediate buffers of disjoint lifetimes share memory."""

    name: ClassVar[str] = "storage_rewrite"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement("buffers that share memory are never alive at once", "TVM's liveness of the lowered program"),
        ),
        options={"on": "intermediate buffers whose lifetimes do not overlap share memory"},
        counters={"buffer bytes": "of the intermediate buffers of the lowered program"},
        loses="Rarely: a shared buffer adds an order between stages that were independent.",
        elsewhere="TVM `StorageRewrite`, LLVM stack coloring, MLIR `promote-buffers-to-stack`",
        example=Example(
            examples.chain, examples.untouched, "storage_rewrite{on=0}", "storage_rewrite{on=1}", View.LOWERED
        ),
    )
    on: bool = True

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        # OpenCL C declares local memory at the beginning of a kernel, where this puts it
        return (cls(True),) if target_kind == "opencl" else (cls(True), cls(False))

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        return {"buffer bytes": buffer_bytes(lowered(function, target))}

    def context_options(self) -> Mapping[str, Any]:
        return {} if self.on else {"tirx.disable_storage_rewrite": True}
