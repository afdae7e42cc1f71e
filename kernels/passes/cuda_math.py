"""Floating-point rules of the CUDA compiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernels import examples
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class CudaMath(Pass):
    """Let the CUDA compiler use its fast, less exact functions and flush denormals.

    Like `fast_math`, searched only when the run's tolerance allows it.
    """

    name: ClassVar[str] = "cuda_math"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "less exact functions and flushed denormals are allowed",
                "`passes.fast_math` of the run file allows it; outputs are checked by the usual tolerances",
            ),
        ),
        options={"fast": "the CUDA compiler's fast functions, denormals flushed"},
        loses="In accuracy where arguments are large (sines) or results tiny; in time not known to.",
        elsewhere="nvcc `--use_fast_math`",
        example=Example(examples.exponentials, examples.bound, "cuda_math{fast=0}", "cuda_math{fast=1}", View.COMMAND),
    )
    fast: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(False), cls(True)) if target_kind == "cuda" else (cls(False),)

    def compiler_options(self) -> tuple[str, ...]:
        return ("--use_fast_math",) if self.fast else ()
