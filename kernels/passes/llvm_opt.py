"""LLVM's own optimization level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class LlvmOpt(Pass):
    """Run LLVM at -O`level`."""

    name: ClassVar[str] = "llvm_opt"
    level: int = 3

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(3), cls(2), cls(1)) if target_kind == "llvm" else (cls(3),)

    def target_options(self) -> Mapping[str, Any]:
        return {} if self.level == 3 else {"opt-level": self.level}
