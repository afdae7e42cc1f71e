"""What is legal: limits that are products of a candidate's decisions, known without TVM."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from kernels.space.data import Knob, Limit, Term, parts_of
from kernels.space.tiles import divisors

MAX_TILE_STEPS = 1024
"""Register tiles with more scalar accumulators than this (twice all AVX-512 registers) only spill, and LLVM takes
seconds over them."""


PACKED_TILE_STEPS = 512
"""A packed product's tile: as many accumulators as AVX-512 has registers."""

L2_BYTES = 1 << 20
"""A second-level cache: 1 to 2 MiB on the x86 servers made since 2017."""


def limits_of(knobs: Sequence[Knob], target_kind: str, rule: str = "tvm") -> tuple[Limit, ...]:
    """The limits of a sketch with these knobs on a kind of target."""
    spatial = [i for i, k in enumerate(knobs) if k.role == "spatial"]
    if not spatial or len(parts_of(knobs[spatial[0]])) < 3:
        return ()
    tile = Term(tuple((i, (-1,)) for i in spatial))
    limits = [Limit("register tile", (tile,), most=MAX_TILE_STEPS)]
    if target_kind == "llvm":
        last = spatial[-1]
        least = least_vector(math.prod(parts_of(knobs[last])))
        limits.append(Limit("vector length", (Term(((last, (-1,)),)),), least=least))
    if rule.startswith("packed"):
        reduction = math.prod(parts_of(knobs[-1]))
        panel = Term(((last, (-1,)),), scale=4 * reduction)
        limits[0] = Limit("register tile", (tile,), most=PACKED_TILE_STEPS)
        limits.append(Limit("panel in the second-level cache", (panel,), most=L2_BYTES))
    return tuple(limits)


@functools.lru_cache(maxsize=4096)
def least_vector(extent: int) -> int:
    """The least innermost factor of the last spatial loop of a CPU kernel: 4, where the extent has such a divisor.

    That loop is the one along which outputs lie next to each other. With a shorter one, vectorization takes
    the loop before it: strided loads and stores lane by lane, which are slow, and slow to compile.
    """
    return 4 if any(4 <= d <= 64 for d in divisors(extent)) else 1
