"""Values of TensorIR expressions over a part of a block's domain."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from kernels.reference.domain import Array, Domain, NeedSplit, NotAffine, Range, Unsupported, bounds
from kernels.reference.dtypes import bits_as, is_float, rounded, storage_dtype


def _erf(x: Array) -> Array:
    x = np.asarray(x, dtype=np.float64)
    return np.fromiter(map(math.erf, x.ravel()), np.float64, x.size).reshape(x.shape)


def _truncated_div(a: Array, b: Array) -> Array:
    quotient = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -quotient, quotient)


BINARY: Mapping[type, Callable[..., Any]] = {
    tirx.Add: np.add, tirx.Sub: np.subtract, tirx.Mul: np.multiply, tirx.Div: np.divide,
    tirx.FloorDiv: np.floor_divide, tirx.FloorMod: np.mod, tirx.Mod: np.fmod, tirx.Min: np.minimum,
    tirx.Max: np.maximum, tirx.EQ: np.equal, tirx.NE: np.not_equal, tirx.LT: np.less, tirx.LE: np.less_equal,
    tirx.GT: np.greater, tirx.GE: np.greater_equal, tirx.And: np.logical_and, tirx.Or: np.logical_or,
    tirx.BitwiseAnd: np.bitwise_and, tirx.BitwiseOr: np.bitwise_or, tirx.BitwiseXor: np.bitwise_xor,
    tirx.LShift: np.left_shift, tirx.RShift: np.right_shift,
}  # fmt: skip

_CALLS: Mapping[str, Callable[..., Any]] = {
    "exp": np.exp, "exp2": np.exp2, "exp10": lambda x: np.power(10.0, x), "log": np.log, "log2": np.log2,
    "log10": np.log10, "log1p": np.log1p, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "pow": np.power,
    "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "erf": _erf, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "atan2": np.arctan2, "hypot": np.hypot,
    "fabs": np.abs, "abs": np.abs, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "nearbyint": np.rint,
    "fmod": np.fmod, "copysign": np.copysign, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
    "likely": lambda x: x, "fma": lambda a, b, c: a * b + c,
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "bitwise_not": np.invert, "shift_left": np.left_shift, "shift_right": np.right_shift,
    "round": lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),  # half away from zero, as C rounds
}  # fmt: skip


NEAR_ONE = ("exp", "exp2", "erf", "sigmoid", "tanh")
"""Functions that programs add to one, or subtract from it: what remains may be as small as the error of one."""


def _children(expr: Any) -> list[Any]:
    if isinstance(expr, tvm.ir.TensorLoad):
        return list(expr.indices)
    if isinstance(expr, tvm.ir.Call):
        return list(expr.args)
    names = ("a", "b", "value", "body", "condition", "true_value", "false_value")
    leaf = isinstance(expr, (tirx.Var, tirx.IntImm, tirx.FloatImm))
    return [] if leaf else [getattr(expr, name) for name in names if hasattr(expr, name)]


def subexpressions(expr: Any, into_loads: bool = True) -> Iterator[Any]:
    """An expression and everything it is made of, with the indices of loads or without."""
    yield expr
    if into_loads or not isinstance(expr, tvm.ir.TensorLoad):
        for child in _children(expr):
            yield from subexpressions(child, into_loads)


def loads_from(expr: Any, buffers: Sequence[Any]) -> bool:
    """Whether an expression loads from one of the buffers."""
    return any(
        isinstance(e, tvm.ir.TensorLoad) and any(e.source.same_as(b) for b in buffers) for e in subexpressions(expr)
    )


@dataclass(frozen=True)
class Scope:
    """Values of expressions over one part of a block's domain.

    `state` maps a reduction's output buffers to its running values. `guarded` is set where a
    condition may discard the value, so that indices outside a buffer are clipped, not an error. `shift` is the relative
    error that functions of `NEAR_ONE` are given.
    """

    arrays: Mapping[Any, Array]
    domain: Domain
    ranges: tuple[Range, ...]
    env: Mapping[Any, Array]
    state: Mapping[Any, Array] = field(default_factory=dict)
    guarded: bool = False
    shift: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(high - low for low, high in self.ranges)

    def bind(self, var: Any, value: Array) -> Scope:
        """The scope with one more variable."""
        return replace(self, env={**self.env, var: value})

    def guard(self) -> Scope:
        """The scope inside a branch whose value may be discarded."""
        return replace(self, guarded=True)

    def value(self, expr: Any) -> Array:
        """The expression over the ranges: one axis for each atom, of length 1 where the value does not depend on it."""
        if isinstance(expr, tirx.Var):
            if expr not in self.env:
                raise Unsupported(f"free variable {expr}")
            return self.env[expr]
        if isinstance(expr, tirx.IntImm):
            return np.asarray(int(expr.value)).astype(dtype_of(expr))
        if isinstance(expr, tirx.FloatImm):
            return np.asarray(float(expr.value))
        if isinstance(expr, tvm.ir.TensorLoad):
            return self.load(expr)
        if isinstance(expr, (tirx.Select, tvm.ir.Call)):
            return self._call(expr)
        if isinstance(expr, tirx.Cast):
            return rounded(self.value(expr.value), dtype_of(expr))
        if isinstance(expr, tirx.Not):
            return np.asarray(np.logical_not(self.value(expr.a)))
        if isinstance(expr, tirx.Let):
            return self.bind(expr.var, self.value(expr.value)).value(expr.body)
        if type(expr) not in BINARY:
            raise Unsupported(f"expression {type(expr).__name__}")
        dtype = dtype_of(expr)
        operation = BINARY[type(expr)]
        if isinstance(expr, tirx.Div) and not is_float(dtype):
            operation = _truncated_div
        result = np.asarray(operation(self.value(expr.a), self.value(expr.b)))
        return result.astype(storage_dtype(dtype), copy=False)  # integers wrap as those of the program

    def _call(self, expr: Any) -> Array:
        if isinstance(expr, tirx.Select):
            name, args = "if_then_else", [expr.condition, expr.true_value, expr.false_value]
        else:
            name, args = called(expr), list(expr.args)
        if name == "if_then_else":
            guarded = self.guard()
            return np.where(self.value(args[0]), guarded.value(args[1]), guarded.value(args[2]))
        if name == "reinterpret":
            return bits_as(self.value(args[0]), dtype_of(args[0]), dtype_of(expr))
        if name not in _CALLS:
            raise Unsupported(f"call of {name or expr.op}")
        value = np.asarray(_CALLS[name](*map(self.value, args)))
        if self.shift and name in NEAR_ONE:
            value = value * (1.0 + self.shift)
        return value.astype(storage_dtype(dtype_of(expr)), copy=False)

    def load(self, expr: Any) -> Array:
        """A load in the dtype in which the buffer's values are computed with."""
        if expr.source in self.state:
            return self.state[expr.source]
        raw = self.raw(expr)
        return raw.astype(storage_dtype(str(expr.source.dtype)), copy=False)

    def raw(self, expr: Any) -> Array:
        """A load in the dtype in which the buffer is stored."""
        if expr.source not in self.arrays:
            raise Unsupported(f"read of unknown buffer {expr.source.name}")
        array = self.arrays[expr.source]
        view = self.view(array, expr.indices)
        return array[self.gather(array, expr.indices)] if view is None else view

    def view(self, array: Array, indices: Sequence[Any]) -> Array | None:
        """The elements at affine indices without copying; None when they are not affine or not inside."""
        strides, offset = [0] * len(self.ranges), 0
        try:
            forms = [self.domain.linear(index) for index in indices]
        except (NotAffine, NeedSplit):
            return None
        for (terms, constant), extent, stride in zip(forms, array.shape, array.strides, strict=True):
            low, high = bounds(terms, constant, self.ranges)
            if low < 0 or high >= extent:
                return None
            strides = [s + t * stride for s, t in zip(strides, terms, strict=True)]
            start = constant + sum(t * first for t, (first, _) in zip(terms, self.ranges, strict=True))
            offset += start * stride // array.itemsize
        shape = [size if stride else 1 for size, stride in zip(self.shape, strides, strict=True)]
        return np.lib.stride_tricks.as_strided(array.reshape(-1)[offset:], shape, strides)

    def gather(self, array: Array, indices: Sequence[Any]) -> tuple[Array, ...]:
        """Index arrays, clipped where the value may be discarded. Raises Unsupported for others outside the buffer."""
        positions = []
        for index, extent in zip(indices, array.shape, strict=True):
            position = self.value(index)
            if position.min() < 0 or position.max() >= extent:
                if not self.guarded:
                    raise Unsupported("a read outside of its buffer")
                position = np.clip(position, 0, extent - 1)
            positions.append(position)
        return tuple(positions)


def called(call: Any) -> str:
    """The name of the function of a call, without its family."""
    return str(getattr(call.op, "name", "")).rpartition(".")[2]


def dtype_of(expr: Any) -> str:
    return str(expr.ty.dtype)


def write(scope: Scope, store: Any, value: Array) -> None:
    """Store a value over the ranges of a scope."""
    array = scope.arrays[store.buffer]
    view = scope.view(array, store.indices)
    if view is not None and view.shape == scope.shape:
        view[...] = value
    else:
        array[tuple(np.broadcast_arrays(*scope.gather(array, store.indices)))] = value
