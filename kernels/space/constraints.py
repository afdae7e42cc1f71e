"""What is legal: limits that are products of a candidate's decisions, known without TVM."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from kernels.space.data import Decision, Sketch, as_parts
from kernels.space.tiles import divisors

MAX_TILE_STEPS = 1024
"""Register tiles with more scalar accumulators than this (twice all AVX-512 registers) only spill, and LLVM takes
seconds over them."""


def legal(sketch: Sketch, decisions: Sequence[Decision], target_kind: str) -> bool:
    """Whether the decisions respect the limits of the kind of target."""
    if sketch.gpu is not None:
        return sketch.gpu.legal(decisions)
    spatial = [as_parts(decisions[i]) for i, k in sketch.tiles if k.role == "spatial"]
    if not spatial or len(spatial[0]) < 3:
        return True
    if math.prod(parts[-1] for parts in spatial) > MAX_TILE_STEPS:
        return False
    return target_kind != "llvm" or spatial[-1][-1] >= least_vector(math.prod(spatial[-1]))


@functools.lru_cache(maxsize=4096)
def least_vector(extent: int) -> int:
    """The least innermost factor of the last spatial loop of a CPU kernel: 4, where the extent has such a divisor.

    That loop is the one along which outputs lie next to each other. With a shorter one, vectorization takes
    the loop before it: strided loads and stores lane by lane, which are slow, and slow to compile.
    """
    return 4 if any(4 <= d <= 64 for d in divisors(extent)) else 1
