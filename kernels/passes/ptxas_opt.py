"""The optimization level of ptxas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class PtxasOpt(Pass):
    """ptxas at -O1 to -O3; CUDA only."""

    name: ClassVar[str] = "ptxas_opt"
    level: int = 3

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(3), cls(2), cls(1)) if target_kind == "cuda" else (cls(3),)

    def compiler_options(self) -> tuple[str, ...]:
        return () if self.level == 3 else (f"--ptxas-options=-O{self.level}",)
