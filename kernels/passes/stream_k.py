"""How the steps of a launch's sums are divided among its thread blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.coalescing import reuses
from kernels.passes.base import Documentation, Example, Pass, Requirement, View
from kernels.persistent import idle, streamed
from kernels.persistent.launches import arch_of, loads_of

LAST_WAVE, ALL = 1, 2


@dataclass(frozen=True)
class StreamK(Pass):
    """Divide the steps of products and convolutions evenly among as many thread blocks as are resident, where whole
    tiles would leave some of them idle.

    Each block computes a range of the steps of all divided tiles, one tile after the other. A tile that two or more
    blocks have parts of is added up by a second launch, part after part: no atomics, the same bits every time. Its
    sums are rounded in another order than in one part.
    """

    name: ClassVar[str] = "stream_k"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "a tile is a sum that begins with zeros, and its result one store",
                "its stores, intrinsics and what each touches; else refused",
            ),
            Requirement(
                "a step finds nothing of the step before but the sum",
                "what it copies is touched by nothing else; TVM's region cover of its reads, or each element looked at",
            ),
            Requirement("no thread writes to shared memory what another still reads", "a barrier after each part"),
            Requirement("all asynchronous copies have arrived when a part ends", "pipelined reductions are refused"),
        ),
        options={
            "divide": "0 nothing, 1 the tiles of the last wave, 2 all tiles",
            "blocks": "so many are taken to be resident; 0: what the architecture holds",
        },
        counters={
            "idle share": "of the multiprocessors' time over all launches, by the stores of each block",
            "launches": "of the program",
        },
        loses="Where writing and adding the parts, and the second launch, take longer than the last wave was idle.",
        elsewhere="CUTLASS `ThreadblockSwizzleStreamK`, Triton stream-K (Osama et al. 2023)",
        example=Example(
            examples.square_product,
            examples.shared_product,
            "stream_k{divide=0,blocks=0}",
            "stream_k{divide=2,blocks=3}",
            View.CUDA,
            r"for \(|\] =|__syncthreads|if \(|__global__.*\{",
        ),
    )
    divide: int = 0
    blocks: int = 0

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(), cls(LAST_WAVE), cls(ALL)) if target_kind in ("cuda", "opencl") else (cls(),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        return reuses(module["main"])

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.divide:
            return ""
        try:
            _, became = streamed(function, arch_of(target), self.divide == ALL, self.blocks)
        except (RuntimeError, ValueError):
            return "TVM cannot lower it"
        if any(launch.division for launch in became):
            return ""
        return became[-1].reason if became else "it has no launch"

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        return {"idle share": idle(function, target), "launches": float(len(loads_of(function)))}

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        return streamed(function, arch_of(), self.divide == ALL, self.blocks)[0] if self.divide else function
