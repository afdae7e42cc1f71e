"""LLVM's own optimization level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels import examples
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class LlvmOpt(Pass):
    """Run LLVM at -O`level`."""

    name: ClassVar[str] = "llvm_opt"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(Requirement("nothing: every level computes the same", "LLVM's; each kernel's outputs are checked"),),
        options={"level": "1, 2 or 3, as in -O3"},
        loses="Below 3 where LLVM's own vectorizer makes the vectors; at 3 where it transforms what is tiled already.",
        elsewhere="`-O1` to `-O3` of LLVM and GCC",
        example=Example(
            examples.products,
            examples.untouched,
            "llvm_opt{level=1}",
            "llvm_opt{level=3}",
            View.ASSEMBLY,
            "mul[ps]s",
        ),
    )
    level: int = 3

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(3), cls(2), cls(1)) if target_kind == "llvm" else (cls(3),)

    def target_options(self) -> Mapping[str, Any]:
        return {} if self.level == 3 else {"opt-level": self.level}
