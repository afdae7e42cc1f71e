"""Asynchronous copies into shared memory, which do not pass through registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels import examples
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class AsyncCopy(Pass):
    """Let the copies of pipelined CUDA sketches overlap with the arithmetic (cp.async, sm_80 and newer).

    `emit_gpu` turns them on; without them the same pipeline copies through registers.
    """

    name: ClassVar[str] = "async_copy"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement("sm_80 or newer", "TVM's rules pipeline only there"),
            Requirement("what is copied is read after its copy has ended", "TVM waits for the group before the reads"),
        ),
        options={"on": "copies of pipelined sketches run beside the arithmetic (cp.async)"},
        loses="Where copies are of less than 16 bytes each, or the pipeline's buffers cost occupancy.",
        elsewhere="CUDA `cp.async` and `memcpy_async`, MLIR `nvgpu.device_async_copy`, TVM `InjectPTXAsyncCopy`",
        example=Example(
            examples.middle_sums,
            examples.pipelined,
            "async_copy{on=0}",
            "async_copy{on=1}",
            View.CUDA,
            "a_ptr|wait_group",
        ),
    )
    on: bool = True

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False)) if target_kind == "cuda" else (cls(True),)

    def context_options(self) -> Mapping[str, Any]:
        return {} if self.on else {"tirx.use_async_copy": False}
