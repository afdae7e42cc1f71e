"""Vectors of eight 32-bit numbers in CUDA source.

TVM keeps them in vectors of four 64-bit numbers, and makes one of eight values with a constructor that CUDA has for
four values only (`make_longlong4`), so that kernels with such vectors, e.g. of indices beside eight halves, would not
compile. Here it is for eight.
"""

from __future__ import annotations

import re

_MAKERS = (("longlong4", "int"), ("ulonglong4", "unsigned"), ("ulonglong4", "float"))
"""Vectors, and of what their halves are."""

_CALLED = re.compile(r"\bmake_u?longlong4\(")


def with_makers(source: str) -> str:
    """CUDA source with what makes its vectors of eight; as it is where there are none."""
    return "".join([*(_maker(*maker) for maker in _MAKERS), source]) if _CALLED.search(source) else source


def _maker(vector: str, number: str) -> str:
    given = ", ".join(f"{number} v{place}" for place in range(8))
    stored = ", ".join(f"v{place}" for place in range(8))
    return (
        f"static inline __device__ {vector} make_{vector}({given}) {{\n"
        f"  union {{ {number} halves[8]; {vector} whole; }} made = {{{{{stored}}}}};\n  return made.whole;\n}}\n"
    )
