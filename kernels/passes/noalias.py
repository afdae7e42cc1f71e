"""Whether arguments may overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.s_tir import Schedule

from kernels.passes.base import Pass


@dataclass(frozen=True)
class NoAlias(Pass):
    """Tell the compiler that no two buffers overlap, which is true of all our kernels."""

    name: ClassVar[str] = "noalias"
    on: bool = True

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False))

    def on_schedule(self, schedule: Schedule) -> None:
        if not self.on:
            func = schedule.mod["main"].with_attr("tirx.noalias", False)
            schedule.mod.update_func(schedule.mod.get_global_var("main"), func)
