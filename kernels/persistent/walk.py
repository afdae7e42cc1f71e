"""Persistent blocks: as many thread blocks as are resident, each of which computes tiles one after the other."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from kernels.nests.linear import substituted
from kernels.nests.plain import sequence, serial
from kernels.persistent.launches import (
    Launch,
    Refused,
    launch_of,
    loads_of,
    opaque,
    resident,
    rewritten,
    with_loads,
    work,
)
from kernels.persistent.pending import arrived
from kernels.waves import strided

PENDING = "a tile may end before its asynchronous copies have arrived"


@dataclass(frozen=True)
class Became:
    """What became of a launch: its thread blocks before and after, or why they stay."""

    before: int
    after: int
    reason: str = ""


@functools.lru_cache(maxsize=8)
def walked(function: tirx.PrimFunc, arch: str, blocks: int = 0) -> tuple[tirx.PrimFunc, tuple[Became, ...]]:
    """A scheduled function whose launches have no more thread blocks than are resident on an architecture (or than
    `blocks`), and what became of each launch. Block b computes the tiles b, b + blocks, ... in this order.

    Threads wait for one another between two tiles where they share memory. Every tile is computed by the operations
    that it was computed by before. The last few programs are kept.
    """
    lowered = opaque(function)
    complete = arrived(lowered)
    became: list[Became] = []
    loads: list[list[float]] = loads_of(function)

    def change(loop: Any) -> Any:
        number = len(became)
        try:
            launch = launch_of(loop)
        except Refused as error:
            became.append(Became(0, 0, str(error)))
            return loop
        try:
            if not complete:
                raise Refused(PENDING)
            made = _made(launch, blocks or resident(launch, arch))
        except Refused as error:
            became.append(Became(launch.tiles, launch.tiles, str(error)))
            return loop
        count = int(made.extent)
        became.append(Became(launch.tiles, count))
        loads[number] = [float(work(launch.body)) * tiles for tiles in strided(launch.tiles, count)]
        return made

    made = rewritten(lowered, change)
    if not any(one.after < one.before for one in became):
        return function, tuple(became)
    return with_loads(made, loads), tuple(became)


def _made(launch: Launch, blocks: int) -> Any:
    """The loop over thread blocks of a launch with so many. Raises Refused."""
    if launch.tiles <= blocks:
        raise Refused(f"all of its {launch.tiles} thread blocks are resident at once")
    dtype = launch.dtype
    block, number = tirx.Var("block", dtype), tirx.Var("number", dtype)
    count = tirx.const(blocks, dtype)
    mine = launch.tiles // blocks
    if launch.tiles % blocks:
        mine = tirx.floordiv(tirx.const(launch.tiles - 1 + blocks, dtype) - block, count)
    tile = block + number * count
    body = substituted(launch.body, dict(launch.coordinates(tile)))
    return bound_to_blocks(block, blocks, serial(number, mine, sequence([body, *launch.barrier()])))


def bound_to_blocks(variable: Any, extent: int, body: Any, axis: str = "x") -> Any:
    """A loop over thread blocks along an axis."""
    dtype = str(variable.ty.dtype)
    iteration = tirx.IterVar(None, tirx.Var("", dtype), tirx.IterVar.ThreadIndex, f"blockIdx.{axis}")
    return tirx.For(
        variable, tirx.const(0, dtype), tirx.const(extent, dtype), tirx.ForKind.THREAD_BINDING, body, iteration
    )
