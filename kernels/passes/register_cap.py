"""How many registers a thread may have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from kernels.passes.base import Pass

_FILE = 65536
"""Registers of a multiprocessor, since Kepler."""

_MOST_BLOCKS = 16
"""Every architecture since Volta holds at least this many blocks; of larger demands the compiler takes no notice."""


@dataclass(frozen=True)
class RegisterCap(Pass):
    """At most about `registers` for a thread, 0 leaves it to ptxas; CUDA only.

    Fewer let more warps run at once, and spill where they are too few. TVM's kernels have launch bounds, before which
    -maxrregcount counts for nothing: so it is their least number of blocks that asks for the cap.
    """

    name: ClassVar[str] = "register_cap"
    registers: int = 0

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return tuple(cls(n) for n in (0, 168, 128, 96, 64)) if target_kind == "cuda" else (cls(0),)

    def on_source(self, source: str) -> str:
        if not self.registers:
            return source

        def bounded(found: re.Match[str]) -> str:
            blocks = min(max(_FILE // (self.registers * int(found[1])), 1), _MOST_BLOCKS)
            return f"__launch_bounds__({found[1]}, {blocks})"

        return re.sub(r"__launch_bounds__\((\d+)\)", bounded, source)
