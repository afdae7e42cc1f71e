"""Common-subexpression elimination in TensorIR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.lowering import lowered, nodes
from kernels.passes.base import Documentation, Example, Pass, Requirement, View


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Compute repeated subexpressions (mostly indices) once, before LLVM sees them."""

    name: ClassVar[str] = "cse"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(Requirement("repeated expressions have no effects", "TVM's analysis of side effects"),),
        options={"on": "repeated subexpressions are computed once"},
        counters={"bound": "expressions of the lowered program that have a name"},
        loses="Where a bound index hides from LLVM that an address is another one plus a constant.",
        elsewhere="TVM `CommonSubexprElim`, MLIR `cse`, LLVM `EarlyCSE`",
        example=Example(examples.neighbours, examples.untouched, "cse{on=0}", "cse{on=1}", View.LOWERED),
    )
    on: bool = True

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False))

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        return {"bound": len(nodes(lowered(function, target), tirx.Bind))}

    def context_options(self) -> Mapping[str, Any]:
        return {} if self.on else {"tirx.disable_cse_tir": True}
