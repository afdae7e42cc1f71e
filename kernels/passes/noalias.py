"""Whether arguments may overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.s_tir import Schedule

from kernels import examples
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class NoAlias(Pass):
    """Tell the compiler that no two buffers overlap, which is true of all our kernels."""

    name: ClassVar[str] = "noalias"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "no argument overlaps another one",
                "the callers: benches and models give every argument memory of its own, and none is written in place",
            ),
        ),
        options={"on": "the compiler is told that no two buffers overlap"},
        loses="Off: LLVM compares addresses at run time, or does not vectorize. On: not known to.",
        elsewhere="C `restrict`, LLVM and TVM `noalias`",
        example=Example(
            examples.products,
            examples.untouched,
            "noalias{on=0}",
            "noalias{on=1}",
            View.ASSEMBLY,
            r"mul[ps]s|\tcmpq|\tj[a-z]+\b",
        ),
    )
    on: bool = True

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False))

    def on_schedule(self, schedule: Schedule) -> None:
        if not self.on:
            func = schedule.mod["main"].with_attr("tirx.noalias", False)
            schedule.mod.update_func(schedule.mod.get_global_var("main"), func)
