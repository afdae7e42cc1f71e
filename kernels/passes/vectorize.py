"""How wide innermost loops are vectorized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels import examples
from kernels.lowering import nodes
from kernels.passes.base import Documentation, Example, Pass, Requirement

_KEY = "meta_schedule.vectorize"


@dataclass(frozen=True)
class Vectorize(Pass):
    """Fuse and vectorize innermost loops up to `extent` lanes; 0 turns vectorization off."""

    name: ClassVar[str] = "vectorize"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement("the loop's iterations are independent", "its blocks' axes are data parallel (`SBlock` kinds)"),
            Requirement("elements of a vector lie together", "the strides of reads and writes, by TVM's analyzer"),
        ),
        options={"extent": "vectorize innermost loops up to this many lanes; 0 turns it off"},
        counters={"vector loops": "of the scheduled program", "scalar loops": "innermost ones that are not vectors"},
        loses="Where no vector divides the loop, and for tiles so wide that they do not fit the registers.",
        elsewhere="Halide and TVM `vectorize`, Exo `replace` by an intrinsic, MLIR `affine-super-vectorize`",
        example=Example(examples.doubled, examples.annotated, "vectorize{extent=0}", "vectorize{extent=16}"),
    )
    extent: int = 64

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return tuple(cls(extent) for extent in (64, 32, 16))

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        loops = nodes(function.body, tirx.For)
        innermost = [loop for loop in loops if not nodes(loop.body, tirx.For)]
        scalar = [loop for loop in innermost if loop.kind == tirx.ForKind.SERIAL]
        vectors = [loop for loop in loops if loop.kind == tirx.ForKind.VECTORIZED]
        return {"vector loops": len(vectors), "scalar loops": len(scalar)}

    def on_schedule(self, schedule: Schedule) -> None:
        root = schedule.get_sblock("root", func_name="main")
        if _KEY in schedule.get(root).annotations:
            schedule.unannotate(root, _KEY)
            if self.extent:
                schedule.annotate(root, _KEY, self.extent)

    def context_options(self) -> Mapping[str, Any]:
        return {} if self.extent else {"tirx.disable_vectorize": True}
