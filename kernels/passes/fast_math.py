"""Floating-point rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels import examples
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class FastMath(Pass):
    """Let LLVM reassociate and contract. Searched only when the run's tolerance allows it."""

    name: ClassVar[str] = "fast_math"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "another rounding is allowed, and no output depends on NaN, infinity or the sign of zero",
                "`passes.fast_math` of the run file allows it; outputs are checked by the usual tolerances",
            ),
        ),
        options={"on": "LLVM may reassociate and contract"},
        loses="Seldom in time; in accuracy where a sum cancels, and where masks are infinities.",
        elsewhere="LLVM `fast` flags, GCC `-ffast-math`",
        example=Example(
            examples.long_sum, examples.untouched, "fast_math{on=0}", "fast_math{on=1}", View.ASSEMBLY, "add[ps]s.*rdi,"
        ),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind == "llvm" else (cls(False),)

    def target_options(self) -> Mapping[str, Any]:
        return {"fast-math": True} if self.on else {}
