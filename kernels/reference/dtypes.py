"""How TVM's dtypes are computed with in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.reference.domain import Array, Unsupported

EPSILON: Mapping[str, float] = {
    "float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7,
}  # fmt: skip
"""Distance from 1 to the next number of each floating dtype."""


def is_float(dtype: str) -> bool:
    return dtype in EPSILON


def storage_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy dtype in which values of a TVM dtype are computed. Raises Unsupported."""
    if is_float(dtype):
        return np.dtype(np.float64)
    try:
        return np.dtype(dtype)
    except TypeError as error:
        raise Unsupported(f"dtype {dtype}") from error


def rounded(value: Array, dtype: str) -> Array:
    """An explicit cast: rounded to what `dtype` can hold, in its storage dtype."""
    storage = storage_dtype(dtype)
    if dtype == "bfloat16":
        bits = np.asarray(value, np.float32).view(np.uint32)
        even = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) & np.uint32(0xFFFF0000)
        return np.where(np.isfinite(value), even.view(np.float32), value).astype(storage)
    if dtype in ("float16", "float32"):
        return np.asarray(value).astype(dtype).astype(storage)
    return np.asarray(value).astype(storage)


def bits_as(value: Array, source: str, result: str) -> Array:
    """The bits of values of one dtype as values of another of the same width, in its storage dtype.

    Raises Unsupported.
    """
    if source == "bfloat16":
        bits = (rounded(value, source).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    else:
        bits = np.asarray(value).astype(source)
    if result == "bfloat16":
        return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if bits.itemsize != np.dtype(result).itemsize:
        raise Unsupported(f"the bits of {source} as {result}")
    return bits.view(result).astype(storage_dtype(result))
