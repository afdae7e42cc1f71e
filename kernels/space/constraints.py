"""What is legal: limits that are products of a candidate's decisions, known without TVM."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from kernels.space.data import Knob, Limit, Term, parts_of
from kernels.space.tiles import divisors

GPU_TILE_STEPS = 1024
"""Accumulators of one thread: four times the registers it can have."""

MAX_LANES = 64
"""Of one vector: four AVX-512 registers of fp32."""

LEAST_LANES = 4
"""Of a vector that is worth having."""

L2_BYTES = 1 << 20
"""A second-level cache: 1 to 2 MiB on the x86 servers made since 2017."""


def limits_of(knobs: Sequence[Knob], target_kind: str, lanes: int, rule: str = "tvm") -> tuple[Limit, ...]:
    """The limits of a sketch with these knobs on a kind of target whose vector registers hold `lanes` fp32 numbers."""
    spatial = [i for i, k in enumerate(knobs) if k.role == "spatial"]
    if not spatial or len(parts_of(knobs[spatial[0]])) < 3:
        return ()
    tile = Term(tuple((i, (-1,)) for i in spatial))
    if target_kind != "llvm":
        return (Limit("accumulators of a thread", (tile,), most=GPU_TILE_STEPS),)
    last = spatial[-1]
    vector = Term(((last, (-1,)),))
    limits = [
        Limit("accumulators in registers", (tile,), most=registers(lanes) * lanes),
        Limit("vector length", (vector,), least=least_vector(math.prod(parts_of(knobs[last])))),
    ]
    if len(spatial) > 1:  # a vector shorter than a register takes a whole one
        rows = Term(tuple((i, (-1,)) for i in spatial[:-1]))
        limits.append(Limit("rows in registers", (rows,), most=registers(lanes)))
    if rule == "packed":
        panel = Term(vector.parts, scale=4 * math.prod(parts_of(knobs[-1])))
        limits.append(Limit("panel in the second-level cache", (panel,), most=L2_BYTES))
    return tuple(limits)


def worth_trying(rule: str, position: int, innermost: int, choice: Sequence[int]) -> bool:
    """Whether a choice of a tile may be good, for tiles of our sketches whose last part is a vector; else True.

    LLVM takes a vector of 48 lanes, which is no power of two, apart lane by lane: 20 times slower. More than four
    registers full gain nothing.
    """
    lanes = choice[-1]
    power = lanes <= MAX_LANES and lanes & (lanes - 1) == 0
    if is_lanes(rule, innermost):
        return power and lanes >= LEAST_LANES
    return power or not (rule == "packed" and position == 1)


def is_lanes(rule: str, innermost: int) -> bool:
    """Whether a tile cuts a row into vectors, and not the rows into parts."""
    return rule == "rows" and innermost == MAX_LANES


def registers(lanes: int) -> int:
    """Vector registers of a CPU: 16 with AVX2; 32 with AVX-512, and on Arm. Accumulators beyond them only spill, and
    LLVM takes seconds over the spilling code."""
    return 16 if lanes == 8 else 32


@functools.lru_cache(maxsize=4096)
def least_vector(extent: int) -> int:
    """The least innermost factor of the last spatial loop of a CPU kernel: 4, where the extent has such a divisor.

    That loop is the one along which outputs lie next to each other. With a shorter one, vectorization takes
    the loop before it: strided loads and stores lane by lane, which are slow, and slow to compile.
    """
    return LEAST_LANES if any(LEAST_LANES <= d <= MAX_LANES for d in divisors(extent)) else 1
