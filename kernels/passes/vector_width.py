"""The register width LLVM prefers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.passes.base import Documentation, Example, Pass, Requirement, View

_X86 = ("x86_64", "amd64", "i386", "i586", "i686")


@dataclass(frozen=True)
class VectorWidth(Pass):
    """Prefer vector registers of `bits` bits; 0 leaves the choice to the CPU model.

    x86 only: some cores lower their clock for 512-bit instructions, others split them in two.
    """

    name: ClassVar[str] = "vector_width"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(Requirement("an x86 CPU", "the name of its architecture; refused on others"),),
        options={"bits": "the register width that LLVM prefers, 256 or 512; 0 leaves it to the CPU model"},
        loses="With 512 on cores that lower their clock for it or split it, with 256 where arithmetic is the limit.",
        elsewhere="LLVM and GCC `-mprefer-vector-width`",
        example=Example(
            examples.products,
            examples.untouched,
            "vector_width{bits=256}",
            "vector_width{bits=512}",
            View.ASSEMBLY,
            "mulps",
        ),
    )
    bits: int = 0

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(0), cls(256), cls(512)) if target_kind == "llvm" else (cls(0),)

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.bits or target.kind.name != "llvm":
            return ""
        machine = str(target.attrs.get("mtriple") or tvm.target.codegen.llvm_get_system_triple()).partition("-")[0]
        return "" if machine in _X86 else f"{machine} is no x86 CPU"

    def target_options(self) -> Mapping[str, Any]:
        if self.bits == 0:
            return {}
        return {"mattr": ["+prefer-256-bit" if self.bits == 256 else "-prefer-256-bit"]}
