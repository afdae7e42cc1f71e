"""Floating-point rules of the CUDA compiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class CudaMath(Pass):
    """Let the CUDA compiler use its fast, less exact functions and flush denormals.

    Like `fast_math`, searched only when the run's tolerance allows it.
    """

    name: ClassVar[str] = "cuda_math"
    fast: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind == "cuda" else (cls(False),)

    def compiler_options(self) -> tuple[str, ...]:
        return ("--use_fast_math",) if self.fast else ()
