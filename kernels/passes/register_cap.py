"""A limit on the registers of a thread."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from kernels import examples
from kernels.passes.base import Documentation, Example, Pass, Requirement, View

_REGISTER_FILE = 65536
"""Registers of a multiprocessor, since Kepler."""

_MOST_BLOCKS = 16
"""Every architecture since Volta holds at least this many blocks; the compiler ignores larger demands."""


@dataclass(frozen=True)
class RegisterCap(Pass):
    """At most about `registers` for a thread, 0 leaves it to ptxas; CUDA only.

    With fewer registers more warps run at once, but too few spill. TVM's kernels have launch bounds, which override
    -maxrregcount, so the limit is set by their minimum number of blocks.
    """

    name: ClassVar[str] = "register_cap"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(Requirement("nothing: what finds no register is kept in memory", "ptxas spills"),),
        options={"registers": "at most about this many for a thread; 0 leaves it to ptxas"},
        loses="Where too few registers spill, or occupancy is not the limit.",
        elsewhere="CUDA `__launch_bounds__` and `-maxrregcount`, Triton `maxnreg`",
        example=Example(
            examples.reversed_rows,
            examples.staged,
            "register_cap{registers=0}",
            "register_cap{registers=64}",
            View.CUDA,
            "__launch_bounds__",
        ),
    )
    registers: int = 0

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return tuple(cls(n) for n in (0, 168, 128, 96, 64)) if target_kind == "cuda" else (cls(0),)

    def on_source(self, source: str) -> str:
        if not self.registers:
            return source

        def bounded(launch_bounds: re.Match[str]) -> str:
            threads = int(launch_bounds[1])
            blocks = min(max(_REGISTER_FILE // (self.registers * threads), 1), _MOST_BLOCKS)
            return f"__launch_bounds__({threads}, {blocks})"

        return re.sub(r"__launch_bounds__\((\d+)\)", bounded, source)
