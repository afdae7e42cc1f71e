"""Reductions along axes, also of empty axes and of no axes, and norms along one axis."""

from __future__ import annotations

import functools
import math

import numpy as np
from tvm import tirx

from tuner.importers.onnx_relax.node import Any, Converter, Node, axis_of, const, is_float, like, relax, shape_of, te


def _limit(dtype: str, sign: int) -> Any:
    """The least value of a dtype for sign -1, the greatest for 1."""
    if is_float(dtype):
        return sign * math.inf
    if dtype == "bool":
        return sign > 0
    return np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min


def _of_nothing(kind: str, dtype: str) -> Any:
    """What a reduction of no elements gives."""
    if kind in ("Max", "Min"):
        return _limit(dtype, -1 if kind == "Max" else 1)
    return {"Prod": 1, "LogSum": -math.inf, "LogSumExp": -math.inf, "Mean": math.nan}.get(kind, 0)


def reduction(kind: str, node: Node) -> Any:
    """A Reduce* operator."""
    shape, value, dtype = node.shape(), node.input(0), node.dtype()
    axes = node.ints("axes", 1)
    keep = bool(node.attributes.get("keepdims", 1))
    if not axes:
        if node.attributes.get("noop_with_empty_axes", 0):
            return _each(kind, node, value)
        axes = list(range(len(shape)))
    axes = sorted(axis_of(axis, len(shape)) for axis in axes)
    if any(shape[axis] == 0 for axis in axes):
        left = [1 if axis in axes else extent for axis, extent in enumerate(shape) if keep or axis not in axes]
        return const(np.full(left, _of_nothing(kind, dtype)), dtype)
    if not axes:  # a scalar
        return _each(kind, node, value)
    if dtype == "bool":
        wide = node.emit(relax.op.astype(value, "uint8"))
        return node.emit(relax.op.astype(_reduced(node, kind, wide, axes, keep), "bool"))
    if dtype in ("float16", "bfloat16"):
        wide = node.emit(relax.op.astype(value, "float32"))
        return node.emit(relax.op.astype(_reduced(node, kind, wide, axes, keep), dtype))
    made = node.emit(_reduced(node, kind, value, axes, keep))
    return made if str(made.ty.dtype) == dtype else node.emit(relax.op.astype(made, dtype))


def _each(kind: str, node: Node, value: Any) -> Any:
    """What a reduction does to every element when it reduces along no axis."""
    if kind in ("L1", "L2"):
        return node.emit(relax.op.abs(value))
    if kind == "SumSquare":
        return node.emit(relax.op.multiply(value, value))
    return node.emit(relax.op.log(value)) if kind == "LogSum" else value


def _reduced(node: Node, kind: str, x: Any, axes: list[int], keep: bool) -> Any:
    if kind in ("Max", "Min") and is_float(str(x.ty.dtype)):
        return _extreme(node, kind, x, axes, keep)
    if kind in ("Max", "Min", "Prod", "Sum"):
        return getattr(relax.op, kind.lower())(x, axes, keep)
    if kind == "L1":
        return relax.op.sum(relax.op.abs(x), axes, keep)
    if kind == "SumSquare":
        return relax.op.sum(relax.op.multiply(x, x), axes, keep)
    if kind == "LogSum":
        return relax.op.log(relax.op.sum(x, axes, keep))
    if not is_float(str(x.ty.dtype)):  # integers: rounded towards zero at the end
        return _reduced(node, kind, relax.op.astype(x, "float64"), axes, keep)
    if kind == "Mean":
        return relax.op.mean(x, axes, keep)
    if kind == "L2":
        return relax.op.sqrt(relax.op.sum(relax.op.multiply(x, x), axes, keep))
    largest = relax.op.max(x, axes, True)
    finite = relax.op.where(relax.op.isfinite(largest), largest, like(0, x))
    total = relax.op.log(relax.op.sum(relax.op.exp(relax.op.subtract(x, finite)), axes, True))
    whole = relax.op.add(total, finite)
    return whole if keep else relax.op.squeeze(whole, axes)


def _extreme(node: Node, kind: str, x: Any, axes: list[int], keep: bool) -> Any:
    """The largest or least element. TVM's own reductions of nothing but infinities end at the last finite number."""
    shape, dtype = shape_of(x), str(x.ty.dtype)
    pick, none = (tirx.max, -math.inf) if kind == "Max" else (tirx.min, math.inf)
    reducer = te.comm_reducer(  # it counts the arguments of what it is given
        lambda a, b: pick(a, b),  # noqa: PLW0108
        lambda _: tirx.const(none, dtype),
        name=kind.lower(),
    )
    left = [1 if axis in axes else extent for axis, extent in enumerate(shape) if keep or axis not in axes]

    def kernel(value: te.Tensor) -> te.Tensor:
        inner = [te.reduce_axis((0, shape[axis]), f"k{axis}") for axis in axes]

        def element(*place: Any) -> Any:
            outer = iter([index for axis, index in enumerate(place) if axis not in axes] if keep else place)
            taps = iter(inner)
            return reducer(value(*(next(taps if axis in axes else outer) for axis in range(len(shape)))), axis=inner)

        return te.compute(left, element, name=kind.lower())

    return node.te(kernel, x if isinstance(x, relax.Var) else node.emit(x), name=f"reduce_{kind.lower()}")


def lp_normalization(node: Node) -> Any:
    """LpNormalization; a vector of zeros stays one."""
    value, dtype = node.input(0), node.dtype()
    axis = axis_of(node.attributes.get("axis", -1), len(node.shape()))
    kind = "L1" if node.attributes.get("p", 2) == 1 else "L2"
    norm = node.emit(_reduced(node, kind, value, [axis], True))
    safe = relax.op.where(relax.op.equal(norm, const(0, dtype)), const(1, dtype), norm)
    return node.emit(relax.op.divide(value, safe))


_KINDS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "LpNormalization"): lp_normalization,
    **{("", f"Reduce{kind}"): functools.partial(reduction, kind) for kind in _KINDS},
}
