"""The register width LLVM prefers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class VectorWidth(Pass):
    """Prefer vector registers of `bits` bits; 0 leaves the choice to the CPU model.

    x86 only: some cores lower their clock for 512-bit instructions, others split them in two.
    """

    name: ClassVar[str] = "vector_width"
    bits: int = 0

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(0), cls(256), cls(512)) if target_kind == "llvm" else (cls(0),)

    def target_options(self) -> Mapping[str, Any]:
        if self.bits == 0:
            return {}
        return {"mattr": ["+prefer-256-bit" if self.bits == 256 else "-prefer-256-bit"]}
