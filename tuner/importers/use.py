"""What a model's own use of an input allows in it, and arrays drawn from that."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tuner.models import InputSpec
from tuner.protocols import Array

Levels = tuple[float, float]
"""Of a mask: the value that keeps an element, and the one that drops it."""

MASKED = -1e4
"""What an additive mask holds where it drops an element: after a softmax nothing of it is left, and half precision
holds it."""

POSITIVE = 0.1
"""The least drawn value of what divides, and of what logarithms and roots are taken: far enough from 0 that results
stay of order one."""

_KEEPS = 0.75  # share of a mask that keeps
_INCLUDED = 8  # one element in so many has a value that the model asks for
_SMALL_INTEGERS = 16  # integers of which nothing is known are below


@dataclass(frozen=True)
class Use:
    """What an input may hold.

    Values are in `[low, high]`. `levels`: it is a mask of these two values; each row (along the last axis) keeps at
    least its first element, so that no softmax over a row is wholly masked, whatever its causal mask leaves. `mask`: it
    is a mask, of which is not known what keeps. `factor`: it multiplies computed values; `scores`: it is added to what
    a softmax is taken of; then its name decides whether it is a mask. `include`: values it is compared with, some of
    which it should have. `columns`: how many indices there are for each element of its last axis; `distinct`: no two
    of its rows (or elements along `axis`) may be equal. `exact`: its values are these.
    """

    low: float = -math.inf
    high: float = math.inf
    levels: Levels | None = None
    mask: bool = False
    factor: bool = False
    scores: bool = False
    include: tuple[float, ...] = ()
    columns: tuple[int, ...] = ()
    distinct: bool = False
    axis: int | None = None
    exact: tuple[float, ...] = ()

    def also(self, other: Use) -> Use:
        """What both allow; where they contradict each other, what this one does."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        if low > high:
            low, high = self.low, self.high
        return Use(
            low, high, self.levels or other.levels, self.mask or other.mask, self.factor or other.factor,
            self.scores or other.scores, tuple(dict.fromkeys(self.include + other.include)),
            self.columns or other.columns, self.distinct or other.distinct,
            other.axis if self.axis is None else self.axis, self.exact or other.exact,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What differs from an input of which nothing is known."""
        plain = dataclasses.asdict(self)
        told = {name: value for name, value in plain.items() if value != getattr(_UNKNOWN, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
        return cls(**fields)


_UNKNOWN = Use()


def drawn(spec: InputSpec, use: Use, seed: int) -> Array:
    """A seeded array for an input, of what its use allows: not constant where more than one value is allowed and it has
    more than one element."""
    rng = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    dtype = _numpy(spec.dtype)
    integer = dtype.kind in "iub"
    if use.exact and math.prod(spec.shape) == len(use.exact):
        return np.array(use.exact).reshape(spec.shape).astype(dtype)
    levels = _levels(spec, use, integer)
    if dtype.kind == "b" or use.mask or levels is not None:
        return _mask(spec.shape, levels, rng).astype(dtype)
    values = _integers(spec, use, dtype, rng) if integer else _floats(spec.shape, use, rng)
    return _including(values, use, rng).astype(dtype)


def drawn_text(spec: InputSpec, texts: Sequence[str], seed: int) -> Array:
    """A seeded array of some of `texts`."""
    rng = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    array: Array = rng.choice(np.array(texts), spec.shape)
    return array


def words(spec: InputSpec, use: Use) -> str:
    """How an input is drawn, for people."""
    dtype = _numpy(spec.dtype)
    if use.exact:
        return f"the values {', '.join(f'{value:g}' for value in use.exact)}"
    levels = _levels(spec, use, dtype.kind in "iub")
    if levels is not None:
        return f"a mask: {levels[0]:g} keeps (the first of each row, and others), {levels[1]:g} drops"
    if dtype.kind == "b" or use.mask:
        return "a mask of both values"
    if dtype.kind in "iu":
        if use.columns:
            return f"indices below {', '.join(map(str, use.columns))}" + (", no two alike" if use.distinct else "")
        low, high = _integer_range(use, dtype, math.prod(spec.shape) == 1)
        return f"integers from {low} to {high}" + (", no two alike" if use.distinct else "")
    if not math.isfinite(use.low) and not math.isfinite(use.high):
        return "N(0, 1)"
    ends = [f"above {use.low:g}"] if math.isfinite(use.low) else []
    ends += [f"below {use.high:g}"] if math.isfinite(use.high) else []
    return " and ".join(ends)


def _numpy(dtype: str) -> np.dtype[Any]:
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    kind: np.dtype[Any] = np.dtype(dtype)
    return kind


def _levels(spec: InputSpec, use: Use, integer: bool) -> Levels | None:
    """The levels of a mask; None for what is no mask, or of which is not known what keeps."""
    if use.levels is not None:
        return use.levels
    if math.isfinite(use.high) and not (integer and use.high == 1):
        return None
    called_so = "mask" in spec.name.lower()
    if integer:
        compared = bool(use.include) and set(use.include) <= {0.0, 1.0}
        multiplies = use.factor and len(spec.shape) > 0 and not use.low > 0
        return (1.0, 0.0) if not use.mask and (compared or multiplies or called_so) else None
    if not called_so:
        return None
    return (0.0, MASKED) if use.scores else (1.0, 0.0) if use.factor else None


def _mask(shape: tuple[int, ...], levels: Levels | None, rng: np.random.Generator) -> Array:
    """A mask whose rows have both values where they have two elements or more. Rows of one element are no rows: then
    the whole array is one."""
    keep, drop = (1.0, 0.0) if levels is None else levels
    size = math.prod(shape)
    row = shape[-1] if shape and shape[-1] > 1 else max(size, 1)
    kept = rng.random((size // row, row)) < _KEEPS
    if levels is None and row == 1:
        return np.where(kept, keep, drop).reshape(shape)
    kept[:, 0] = True
    if row > 1:
        kept[:, -1] &= ~kept.all(axis=1)
    return np.where(kept, keep, drop).reshape(shape)


def _integer_range(use: Use, dtype: np.dtype[Any], alone: bool) -> tuple[int, int]:
    """The least and the largest integer to draw. `alone`: of one element, of which 0 would make too much of 0."""
    limits = np.iinfo(dtype)
    narrow = dtype.itemsize == 1
    low = math.ceil(use.low) if math.isfinite(use.low) else int(limits.min) if narrow else int(alone)
    high = math.floor(use.high) if math.isfinite(use.high) else None
    if high is None:
        high = int(limits.max) if narrow else max(low, 0) + _SMALL_INTEGERS - 1
    elif not math.isfinite(use.low):
        low = min(low, high)
    low = min(max(low, int(limits.min)), int(limits.max))
    return low, max(low, min(high, int(limits.max)))


def _integers(spec: InputSpec, use: Use, dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    shape = spec.shape
    if use.columns and shape and shape[-1] == len(use.columns):
        return _tuples(shape, use, rng)
    low, high = _integer_range(use, dtype, math.prod(shape) == 1)
    if use.distinct and shape:
        axis = (use.axis or 0) % len(shape)
        if shape[axis] <= high - low + 1:
            return _distinct_along(shape, axis, low, high, rng)
    return rng.integers(low, high, shape, endpoint=True, dtype=np.int64 if high < 2**63 - 1 else np.uint64)


def _tuples(shape: tuple[int, ...], use: Use, rng: np.random.Generator) -> Array:
    """Indices into several axes at once, one tuple a row."""
    count, places = math.prod(shape[:-1]), math.prod(use.columns)
    if use.distinct and count <= places:
        flat = rng.choice(places, count, replace=False)
        return np.stack(np.unravel_index(flat, use.columns), axis=-1).reshape(shape)
    return rng.integers(0, np.array(use.columns), shape)


def _distinct_along(shape: tuple[int, ...], axis: int, low: int, high: int, rng: np.random.Generator) -> Array:
    others = tuple(extent for index, extent in enumerate(shape) if index != axis)
    rows = [rng.choice(high - low + 1, shape[axis], replace=False) for _ in range(math.prod(others))]
    return np.moveaxis(low + np.array(rows, np.int64).reshape(*others, shape[axis]), -1, axis)


def _floats(shape: tuple[int, ...], use: Use, rng: np.random.Generator) -> Array:
    """N(0, 1) where it fits between the bounds, else values of order one away from them."""
    normal = rng.standard_normal(shape, dtype=np.float32)
    low, high = use.low, use.high
    if math.isfinite(low) and math.isfinite(high):
        if low <= -4.0 and high >= 4.0:
            return np.clip(normal, low, high)
        margin = 0.02 * (high - low)
        return rng.uniform(low + margin, high - margin, shape)
    if math.isfinite(low):
        return np.maximum(normal, low) if low <= -4.0 else low + np.exp(0.5 * normal)
    if math.isfinite(high):
        return np.minimum(normal, high) if high >= 4.0 else high - np.exp(0.5 * normal)
    return normal


def _including(values: Array, use: Use, rng: np.random.Generator) -> Array:
    """`values`, some replaced by those that the input is compared with."""
    asked = [value for value in use.include if use.low <= value <= use.high]
    if not asked or values.size < 2 or use.distinct:
        return values
    flat = values.reshape(-1).copy()
    places = rng.choice(flat.size, max(1, flat.size // _INCLUDED), replace=False)
    flat[places] = rng.choice(asked, len(places))
    return flat.reshape(values.shape)
