"""Copies into shared memory that do not pass through registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class AsyncCopy(Pass):
    """Let copies into shared memory run beside the arithmetic (cp.async, sm_80 and newer); CUDA only."""

    name: ClassVar[str] = "async_copy"
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind == "cuda" else (cls(False),)

    def context_options(self) -> Mapping[str, Any]:
        return {"tirx.use_async_copy": True} if self.on else {}
