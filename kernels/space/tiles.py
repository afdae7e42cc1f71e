"""Ways to cut a loop into parts."""

from __future__ import annotations

import functools
import math

from kernels.space.data import Knob
from kernels.space.decision import Decision, as_parts


@functools.lru_cache(maxsize=4096)
def divisors(n: int) -> tuple[int, ...]:
    return tuple(d for d in range(1, n + 1) if n % d == 0)


@functools.lru_cache(maxsize=4096)
def factorizations(extent: int, parts: int, innermost: int) -> tuple[tuple[int, ...], ...]:
    """All ways to write `extent` as a product of `parts` factors whose last is at most `innermost`.

    Ordered by the innermost factor, then by the next: neighbours in the list are alike.
    """
    if parts == 1:
        return ((extent,),)
    found: list[tuple[int, ...]] = []
    for last in divisors(extent):
        if last <= innermost:
            found.extend((*head, last) for head in factorizations(extent // last, parts - 1, extent))
    return tuple(sorted(found, key=lambda f: f[::-1]))


def nearest(knob: Knob, wanted: tuple[int, ...]) -> Decision:
    """The choice of a tile knob closest to the wanted factors, in log space."""
    if wanted in knob.index:
        return wanted
    return min(
        knob.choices, key=lambda c: sum(abs(math.log2(a / b)) for a, b in zip(as_parts(c), wanted, strict=False))
    )
