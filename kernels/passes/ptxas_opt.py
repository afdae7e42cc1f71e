"""The optimization level of ptxas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernels import examples
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class PtxasOpt(Pass):
    """ptxas at -O1 to -O3; CUDA only."""

    name: ClassVar[str] = "ptxas_opt"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(Requirement("nothing: every level computes the same", "ptxas's; each kernel's outputs are checked"),),
        options={"level": "1, 2 or 3, as in ptxas -O3"},
        loses="Below 3 nearly always; at 3 where it hoists so much that registers spill.",
        elsewhere="ptxas `-O1` to `-O3`",
        example=Example(examples.doubled, examples.bound, "ptxas_opt{level=3}", "ptxas_opt{level=1}", View.COMMAND),
    )
    level: int = 3

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(3), cls(2), cls(1)) if target_kind == "cuda" else (cls(3),)

    def compiler_options(self) -> tuple[str, ...]:
        return () if self.level == 3 else (f"--ptxas-options=-O{self.level}",)
