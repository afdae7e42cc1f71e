"""How far loops are unrolled explicitly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.s_tir import Schedule

from kernels.passes.base import Pass

_KEY = "meta_schedule.unroll_explicit"


@dataclass(frozen=True)
class Unroll(Pass):
    """Unroll loop nests of at most `depth` steps; 0 leaves all loops rolled.

    64 unrolls a register tile but not the reduction around it: on packed convolutions as fast as 512 or
    faster, and compiled in half the time (experiments/unroll).
    """

    name: ClassVar[str] = "unroll"
    depth: int = 64

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return tuple(cls(depth) for depth in (64, 16, 256, 0, 512))

    def on_schedule(self, schedule: Schedule) -> None:
        root = schedule.get_sblock("root", func_name="main")
        if _KEY in schedule.get(root).annotations:
            schedule.unannotate(root, _KEY)
            schedule.annotate(root, _KEY, self.depth)
