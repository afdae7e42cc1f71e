"""The layout of shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class MergedShared(Pass):
    """Put shared memory into one dynamic allocation, where buffers of disjoint lifetimes share space; CUDA only."""

    name: ClassVar[str] = "merged_shared"
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind == "cuda" else (cls(False),)

    def context_options(self) -> Mapping[str, Any]:
        return {"tirx.merge_static_smem": True} if self.on else {}
