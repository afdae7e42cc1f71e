"""The arguments of tensor programs, and seeded values for them. Needs only numpy: hosts without TVM draw the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of one argument of a tensor program.

    `largest`: the largest value of wide integers. It is 0 where 1 would lie outside of what they index.
    """

    shape: tuple[int, ...]
    dtype: str
    largest: int = 1

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def arithmetic_dtype(dtypes: Sequence[str]) -> str:
    """What a program computes in whose arguments have these dtypes, outputs last: the peak of which dtype bounds it."""
    if {"int8", "uint8"} & set(dtypes):
        return "int8"
    return next((narrow for narrow in ("bfloat16", "float16") if narrow in dtypes), dtypes[-1])


@dataclass(frozen=True)
class ConstantOperands:
    """What of a tensor program's arguments is constant in its model: weights, biases, tables.

    `positions` are those of the arguments. `model_bytes` is how many bytes of constants one inference of the model
    reads, those of all its kernels: so many pass through the caches between two calls of this one.
    """

    positions: tuple[int, ...] = ()
    model_bytes: int = 0


NO_CONSTANTS = ConstantOperands()


def seeded_inputs(specs: tuple[TensorSpec, ...], seed: int) -> list[np.ndarray[Any, Any]]:
    """Inputs for checking and timing: N(0, 1) for floats, any bytes, int16 as far as differences of bytes go, 0 and 1
    for wider integers, which may be indices (0 alone, where these are of an axis of one element).

    Never all zeros or constants, which can make arithmetic faster than in use. Bytes are data: quantized tensors have
    all values, and sums of few small ones would hide that a kernel loses carries or signs.
    """
    rng = np.random.default_rng(seed)
    arrays: list[np.ndarray[Any, Any]] = []
    for spec in specs:
        dtype = np.dtype(spec.dtype)
        if dtype.kind in "fV":  # V: bfloat16 and the 8-bit floats of ml_dtypes
            arrays.append(rng.standard_normal(spec.shape, dtype=np.float32).astype(spec.dtype))
        elif spec.dtype == "bool":
            arrays.append(rng.integers(0, 2, spec.shape).astype(bool))
        elif spec.dtype == "int16":
            arrays.append(rng.integers(-255, 256, spec.shape).astype(dtype))
        elif dtype.itemsize == 1:
            limits = np.iinfo(dtype)
            arrays.append(rng.integers(limits.min, limits.max + 1, spec.shape).astype(dtype))
        else:
            arrays.append(rng.integers(0, spec.largest + 1, spec.shape).astype(spec.dtype))
    return arrays


def storable(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array in a dtype that numpy's files know: bfloat16, which they do not, as float32."""
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def poison(spec: TensorSpec) -> np.ndarray[Any, Any]:
    """An output buffer before it is written."""
    return np.full(spec.shape, poison_value(np.dtype(spec.dtype)), dtype=spec.dtype)


def poison_value(dtype: np.dtype[Any]) -> Any:
    """The value of an output before it is written: NaN, or a value that no kernel should produce."""
    if dtype.kind in "fV":  # V: bfloat16 and the 8-bit floats of ml_dtypes
        return np.nan
    return False if dtype.kind == "b" else np.iinfo(dtype).min + 77


OUTLIER = 1000.0
"""Values so many times the median magnitude, and larger than this, are outliers: masks are -1e4 to -3e38."""


def scale_of(values: np.ndarray[Any, Any]) -> float:
    """Root mean square of the finite values but outliers; 0 where there are none.

    Values of usual size are none, however small the median: most results of a GELU may lie in its tail, whose error is
    that of the others.
    """
    size = np.abs(np.asarray(values, np.float64))
    size = size[np.isfinite(size)]
    present = size[size > 0]
    if present.size == 0:
        return 0.0
    usual = size[size <= OUTLIER * max(float(np.median(present)), 1.0)]
    return math.sqrt(float(np.mean(np.square(usual))))
