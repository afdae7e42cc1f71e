"""Tiles: ways to write the extent of a loop as a product of factors."""

from __future__ import annotations

import functools
import math

from kernels.space.data import Knob
from kernels.space.decision import Decision, as_factors


@functools.lru_cache(maxsize=4096)
def divisors(n: int) -> tuple[int, ...]:
    """All divisors of a positive number, ascending."""
    return tuple(d for d in range(1, n + 1) if n % d == 0)


@functools.lru_cache(maxsize=4096)
def factorizations(extent: int, count: int, innermost: int) -> tuple[tuple[int, ...], ...]:
    """All ways to write `extent` as a product of `count` factors whose last is at most `innermost`.

    Ordered by the innermost factor, then by the next: neighbours in the list are alike.
    """
    if count == 1:
        return ((extent,),)
    tiles: list[tuple[int, ...]] = []
    for last in divisors(extent):
        if last <= innermost:
            tiles.extend((*outer, last) for outer in factorizations(extent // last, count - 1, extent))
    return tuple(sorted(tiles, key=lambda factors: factors[::-1]))


def nearest(knob: Knob, wanted: tuple[int, ...]) -> Decision:
    """The choice of a tile knob closest to the wanted factors: the least sum of log2 distances."""
    if wanted in knob.index:
        return wanted
    return min(
        knob.choices,
        key=lambda choice: sum(abs(math.log2(a / b)) for a, b in zip(as_factors(choice), wanted, strict=False)),
    )
