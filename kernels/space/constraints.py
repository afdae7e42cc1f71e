"""Limits on products of a candidate's tile factors, which are known without TVM."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from kernels import amx
from kernels.space import dots, winograd
from kernels.space.data import FactorProduct, Knob, Limit
from kernels.space.tiles import divisors

GPU_TILE_STEPS = 1024
"""Accumulators of one thread: four times the registers it can have."""

MAX_LANES = 64
"""fp32 lanes of one vector at most: four AVX-512 registers."""

LEAST_LANES = 4
"""fp32 lanes of a vector at least."""

L2_BYTES = 1 << 20
"""A second-level cache: 1 to 2 MiB on the x86 servers made since 2017."""


def limits_of(knobs: Sequence[Knob], target_kind: str, lanes: int, rule: str = "tvm") -> tuple[Limit, ...]:
    """The limits of a sketch with these knobs on a kind of target whose vector registers hold `lanes` fp32 numbers."""
    if rule in winograd.RULES:  # rows and columns of tiles by vectors of channels
        tile = FactorProduct(((0, (-1,)), (1, (-1,)), (2, (-1,))))
        return (Limit("accumulators in registers", (tile,), most=registers(lanes) - 4),)
    if rule == dots.TILE_RULE:  # the tile of rows has its own limit
        return ()
    if rule in dots.RULES:  # rows by vectors of columns, pixels by vectors of channels
        tile = FactorProduct(tuple((i, (-1,)) for i, k in enumerate(knobs) if k.role == "spatial"))
        return (Limit("accumulators in registers", (tile,), most=registers(lanes) - 4),)
    if rule == "attention":  # the tiles of both products have as many rows
        tiles = tuple(FactorProduct(((0, (-1,)), (i, (-1,)))) for i in (1, 3))
        return (Limit("accumulators in registers", tiles, most=registers(lanes) * lanes),)
    spatial = [i for i, k in enumerate(knobs) if k.role == "spatial"]
    if not spatial or knobs[spatial[0]].num_factors < 3:
        return ()
    tile = FactorProduct(tuple((i, (-1,)) for i in spatial))
    if target_kind != "llvm":
        return (Limit("accumulators of a thread", (tile,), most=GPU_TILE_STEPS),)
    last = spatial[-1]
    vector = FactorProduct(((last, (-1,)),))
    limits = [
        Limit("accumulators in registers", (tile,), most=registers(lanes) * lanes),
        Limit("vector length", (vector,), least=least_vector(knobs[last].extent)),
    ]
    if len(spatial) > 1:  # a vector shorter than a register takes a whole one
        rows = FactorProduct(tuple((i, (-1,)) for i in spatial[:-1]))
        limits.append(Limit("rows in registers", (rows,), most=registers(lanes)))
    if rule == "packed":
        panel = FactorProduct(vector.factors, scale=4 * knobs[-1].extent)
        limits.append(Limit("panel in the second-level cache", (panel,), most=L2_BYTES))
    return tuple(limits)


def worth_trying(rule: str, position: int, innermost: int, choice: Sequence[int]) -> bool:
    """Whether a choice of a tile may be good: False for bad vector lengths in tiles of our own sketch rules.

    LLVM splits a vector of 48 lanes, which is no power of two, lane by lane: 20 times slower. More than four registers
    gain nothing.
    """
    lanes = choice[-1]
    if rule == dots.TILE_RULE:
        return position > 0 or amx.tiles_of(lanes) is not None
    power_of_two = lanes <= MAX_LANES and lanes & (lanes - 1) == 0
    if is_lanes(rule, innermost):
        return power_of_two and lanes >= LEAST_LANES
    if rule == "attention" and position > 0:
        return power_of_two and lanes >= LEAST_LANES
    return power_of_two or not (rule in ("packed", "panels") and position == 1)


def is_lanes(rule: str, innermost: int) -> bool:
    """Whether a tile cuts a row into vectors, and not the rows into groups."""
    return rule == "rows" and innermost == MAX_LANES


def registers(lanes: int) -> int:
    """Vector registers of a CPU: 16 with AVX2; 32 with AVX-512 and on Arm.

    Accumulators beyond them only spill, and LLVM takes seconds to compile the spilling code.
    """
    return 16 if lanes == 8 else 32


@functools.lru_cache(maxsize=4096)
def least_vector(extent: int) -> int:
    """The least innermost factor of the last spatial loop of a CPU kernel: 4, where the extent has such a divisor.

    Outputs are contiguous along that loop. With a shorter factor, vectorization takes the loop before it: strided loads
    and stores lane by lane, which are slow, and slow to compile.
    """
    return LEAST_LANES if any(LEAST_LANES <= d <= MAX_LANES for d in divisors(extent)) else 1
