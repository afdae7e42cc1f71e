"""How many registers a thread may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class RegisterCap(Pass):
    """At most `registers` for a thread, 0 leaves it to ptxas; CUDA only.

    Fewer let more warps run at once, and spill where they are too few.
    """

    name: ClassVar[str] = "register_cap"
    registers: int = 0

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return tuple(cls(n) for n in (0, 168, 128, 96, 64)) if target_kind == "cuda" else (cls(0),)

    def compiler_options(self) -> tuple[str, ...]:
        return (f"--maxrregcount={self.registers}",) if self.registers else ()
