"""Sums of products of two arrays, as matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.reference.domain import Array


def contract(a: Array, b: Array, shape: Sequence[int], spatial: int, dtype: np.dtype[Any]) -> Array:
    """Sum of `a * b` over all axes from `spatial` on; both broadcast to `shape`. Keeps all axes."""
    axes: dict[str, list[int]] = {"batch": [], "left": [], "right": [], "inner": [], "rest": []}
    scale = 1
    for axis, size in enumerate(shape):
        in_a, in_b = a.shape[axis] > 1, b.shape[axis] > 1
        if axis < spatial:
            axes["batch" if in_a and in_b else "left" if in_a else "right" if in_b else "rest"].append(axis)
            continue
        axes["inner" if in_a and in_b else "rest"].append(axis)
        if in_a and not in_b:
            a = a.sum(axis, keepdims=True, dtype=dtype)
        elif in_b and not in_a:
            b = b.sum(axis, keepdims=True, dtype=dtype)
        elif not in_a:
            scale *= size
    batch, left, right, inner = (axes[k] for k in ("batch", "left", "right", "inner"))

    def packed(x: Array, outer: list[int]) -> Array:
        rest = [i for i in range(len(shape)) if i not in (*batch, *outer, *inner)]
        ordered = np.ascontiguousarray(x.transpose(*batch, *outer, *inner, *rest), dtype=dtype)
        rows = math.prod(shape[i] for i in outer)
        return ordered.reshape(math.prod(shape[i] for i in batch), rows, math.prod(shape[i] for i in inner))

    product = packed(a, left) @ packed(b, right).swapaxes(1, 2)
    if scale != 1:
        product = product * scale
    order = [*batch, *left, *right]
    others = [i for i in range(len(shape)) if i not in order]
    expanded = product.reshape([shape[i] for i in order] + [1] * len(others))
    return np.broadcast_to(
        expanded.transpose(np.argsort([*order, *others])), [n if i < spatial else 1 for i, n in enumerate(shape)]
    )
