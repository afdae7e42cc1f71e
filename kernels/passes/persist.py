"""How many thread blocks a launch has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.passes.base import Documentation, Example, Pass, Requirement, View
from kernels.persistent import idle, walked
from kernels.persistent.launches import arch_of, loads_of


@dataclass(frozen=True)
class Persist(Pass):
    """Launch no more thread blocks than are resident at once, and have each compute several tiles one after the other.

    How many are resident is what the occupancy rules say of the most capable GPU of the architecture. Block b computes
    the tiles b, b + blocks, ... whose coordinates it finds from their numbers. The last wave stays as full as it was:
    what is saved are the starts of blocks. Blocks with equal work are `stream_k`'s.
    """

    name: ClassVar[str] = "persist"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "its loops over thread blocks are right inside one another", "the lowered program; else refused"
            ),
            Requirement(
                "no thread writes to shared memory what another still reads of the tile before",
                "a barrier after each tile of a program that has shared memory, or reduces among threads",
            ),
            Requirement(
                "all asynchronous copies have arrived when a tile ends",
                "the pipelined loops as TVM writes them out end with a wait for all; else refused",
            ),
        ),
        options={
            "on": "launches of more thread blocks than are resident have as many as are",
            "blocks": "so many are taken to be resident; 0: what the architecture holds",
        },
        counters={
            "blocks": "thread blocks of all launches",
            "idle share": "of the multiprocessors' time over all launches, by the stores of each block",
        },
        loses="Where tiles take unequally long, so that the hardware would have given the next one to whom is free.",
        elsewhere="CUTLASS persistent tile schedulers, Triton persistent kernels, CUDA grid-stride loops",
        example=Example(
            examples.transposed,
            examples.tile,
            "persist{on=0,blocks=0}",
            "persist{on=1,blocks=3}",
            View.CUDA,
            r"for \(|\] =|__syncthreads",
        ),
    )
    on: bool = False
    blocks: int = 0

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(), cls(True)) if target_kind in ("cuda", "opencl") else (cls(),)

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.on:
            return ""
        try:
            _, became = walked(function, arch_of(target), self.blocks)
        except (RuntimeError, ValueError):
            return "TVM cannot lower it"
        if any(launch.after < launch.before for launch in became):
            return ""
        return became[0].reason if became else "it has no launch"

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        return {"blocks": float(sum(map(len, loads_of(function)))), "idle share": idle(function, target)}

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        return walked(function, arch_of(), self.blocks)[0] if self.on else function
