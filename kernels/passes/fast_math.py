"""Floating-point rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class FastMath(Pass):
    """Let LLVM reassociate and contract. Searched only when the run's tolerance allows it."""

    name: ClassVar[str] = "fast_math"
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind == "llvm" else (cls(False),)

    def target_options(self) -> Mapping[str, Any]:
        return {"fast-math": True} if self.on else {}
