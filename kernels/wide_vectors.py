"""Vectors of eight 32-bit numbers, and of halves, in CUDA source.

TVM keeps them in vectors of half as many wider numbers, and makes one of all its values by that vector's constructor,
which CUDA has for as many values as are in it only: `make_longlong4` of eight indices, `make_uint4` of eight halves
from places that are not neighbours. Kernels with such vectors would not compile; here are the constructors.
"""

from __future__ import annotations

import re

_NUMBERS = {
    "longlong4": ("int",), "ulonglong4": ("unsigned", "float"), "uint1": ("half",), "uint2": ("half",),
    "uint4": ("half",),
}  # fmt: skip
"""By vector, what TVM keeps in it two at a time."""

_CALL = re.compile(rf"\bmake_({'|'.join(_NUMBERS)})\(")
_FIRST_KERNEL = 'extern "C"'


def with_makers(source: str) -> str:
    """CUDA source with the constructors that it calls and CUDA lacks; as it is where it calls none."""
    called = {match[1] for match in _CALL.finditer(source) if _count(source, match.end()) == 2 * int(match[1][-1])}
    makers = "".join(_maker(vector, number) for vector in sorted(called) for number in _NUMBERS[vector])
    before, kernel, after = source.partition(_FIRST_KERNEL)
    return f"{before}{makers}{kernel}{after}"


def _count(source: str, begin: int) -> int:
    """How many arguments a call has whose first one begins there."""
    depth, count = 0, 1
    for letter in source[begin:]:
        depth += (letter in "([{") - (letter in ")]}")
        if depth < 0:
            break
        count += letter == "," and depth == 0
    return count


def _maker(vector: str, number: str) -> str:
    places = range(2 * int(vector[-1]))
    given = ", ".join(f"{number} v{place}" for place in places)
    stored = " ".join(f"(({number}*)&made)[{place}] = v{place};" for place in places)
    return f"static inline __device__ {vector} make_{vector}({given}) {{ {vector} made; {stored} return made; }}\n"
