"""Asynchronous copies into shared memory, which do not pass through registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class AsyncCopy(Pass):
    """Let the copies of pipelined CUDA sketches overlap with the arithmetic (cp.async, sm_80 and newer).

    `emit_gpu` turns them on; without them the same pipeline copies through registers.
    """

    name: ClassVar[str] = "async_copy"
    on: bool = True

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False)) if target_kind == "cuda" else (cls(True),)

    def context_options(self) -> Mapping[str, Any]:
        return {} if self.on else {"tirx.use_async_copy": False}
