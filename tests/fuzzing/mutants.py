"""Damaged copies of a file: flipped bits, missing ends, and numbers that no file ought to hold."""

from __future__ import annotations

import random
import re

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_EXTREMES = (
    b"-1", b"0", b"1e308", b"1e-308", b"1e999", b"-0.0", b"9" * 400, b"4294967296", b"9223372036854775808", b"NaN",
    b"Infinity", b"null", b"true", b'"x"', b"[]", b"{}",
)  # fmt: skip


def mutant(content: bytes, seed: str) -> bytes:
    """One damaged copy; the same for the same seed. Three in five have 1 to 8 bits flipped, one is truncated, and in
    one a number is replaced (bits are flipped instead where there is none)."""
    draw = random.Random(seed)
    kind = draw.randrange(5)
    if kind == 0:
        return content[: draw.randrange(len(content) + 1)]
    numbers = list(_NUMBER.finditer(content)) if kind == 1 else []
    if numbers:
        number = draw.choice(numbers)
        return content[: number.start()] + draw.choice(_EXTREMES) + content[number.end() :]
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 8)) if damaged else 0):
        bit = draw.randrange(8 * len(damaged))
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)
