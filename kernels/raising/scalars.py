"""The types of values and elements, by LLVM's names."""

from __future__ import annotations

import re

from kernels.raising.reasons import Abstained, Reason

FLOATS = ("float", "double")
INTEGERS = ("i8", "i16", "i32", "i64")
SCALARS = (*FLOATS, *INTEGERS)
"""What an element that is read or written may be."""

DTYPES = {"float": "float32", "double": "float64", **{kind: kind.replace("i", "int") for kind in INTEGERS}}
"""TVM's names of them."""

_BYTES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8, "ptr": 8, "half": 2, "bfloat": 2}
_ARRAY = re.compile(r"\[(\d+) x (.*)\]")


def size_of(kind: str) -> int:
    """Bytes of a scalar or array type. Raises Abstained for others."""
    if kind in _BYTES:
        return _BYTES[kind]
    array = elements_of(kind)
    if array is None:
        raise Abstained(Reason.TYPE, f"an address computed by the type {kind[:40]}")
    return array[0] * size_of(array[1])


def elements_of(kind: str) -> tuple[int, str] | None:
    """How many elements of which type an array type has; None for other types."""
    found = _ARRAY.fullmatch(kind)
    return None if found is None else (int(found[1]), found[2])
