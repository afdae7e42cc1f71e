"""Common-subexpression elimination in TensorIR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Compute repeated subexpressions (mostly indices) once, before LLVM sees them."""

    name: ClassVar[str] = "cse"
    on: bool = True

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False))

    def context_options(self) -> Mapping[str, Any]:
        return {} if self.on else {"tirx.disable_cse_tir": True}
