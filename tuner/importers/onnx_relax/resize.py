"""Resize and Upsample in all their modes: along each axis, every output is a weighted sum of a few inputs.

Which inputs, and with which weights, is known at import, so that each axis is one kernel that reads tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tuner.importers.onnx_relax.node import Any, Array, Converter, Node, Unsupported, axis_of, const, relax, table, te

_CUBIC_TAPS = 4


def resize(node: Node) -> Any:
    """Resize of operator set 10 and newer."""
    shape = node.shape()
    if node.opset < 11:
        mode = {"nearest": "floor_asymmetric"}.get(node.text("mode", "nearest"), "asymmetric")
        return _along_axes(node, shape, [float(s) for s in node.required(1)], None, None, mode)
    axes = [axis_of(int(axis), len(shape)) for axis in node.attributes.get("axes", range(len(shape)))]
    scales, sizes = _spread(node.constant(2), axes, len(shape)), _spread(node.constant(3), axes, len(shape))
    roi = _roi(node, axes, len(shape))
    if sizes is not None:
        sizes = _kept_aspect(node, shape, sizes, axes)
        policy = node.text("keep_aspect_ratio_policy", "stretch")
        scale = next((sizes[a][1] for a in axes if shape[a]), 1.0) if policy != "stretch" else None
        factors = [scale if scale and a in axes else size / max(extent, 1)
                   for a, (extent, (size, _)) in enumerate(zip(shape, sizes, strict=True))]  # fmt: skip
        return _along_axes(node, shape, factors, [size for size, _ in sizes], roi, "")
    if scales is None:
        raise Unsupported("neither scales nor sizes are given")
    return _along_axes(node, shape, scales, None, roi, "")


def upsample(node: Node) -> Any:
    """Upsample of operator sets 7 and 9, which Resize replaced."""
    scales = node.attributes["scales"] if "scales" in node.attributes else node.required(1)
    mode = "floor_asymmetric" if node.text("mode", "nearest") == "nearest" else "asymmetric"
    return _along_axes(node, node.shape(), [float(scale) for scale in scales], None, None, mode)


def _spread(values: Array | None, axes: list[int], rank: int) -> list[Any] | None:
    """Values of some axes as values of all, 1.0 or None for the others."""
    if values is None or values.size == 0:
        return None
    spread: list[Any] = [1.0 if values.dtype.kind == "f" else None] * rank
    for axis, value in zip(axes, values.tolist(), strict=True):
        spread[axis] = value
    return spread


def _roi(node: Node, axes: list[int], rank: int) -> list[tuple[float, float]]:
    roi: list[tuple[float, float]] = [(0.0, 1.0)] * rank
    if node.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        values = node.constant(1)
        if values is None or values.size != 2 * len(axes):
            raise Unsupported("tf_crop_and_resize needs a constant roi")
        for axis, start, end in zip(axes, values[: len(axes)], values[len(axes) :], strict=True):
            roi[axis] = float(start), float(end)
    return roi


def _kept_aspect(
    node: Node, shape: tuple[int, ...], sizes: list[int | None], axes: list[int]
) -> list[tuple[int, float]]:
    """Each axis's extent and scale under `keep_aspect_ratio_policy`."""
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    ratios = [(sizes[axis] or 0) / shape[axis] for axis in axes if shape[axis]]
    if policy == "stretch" or not ratios:
        return [(extent if size is None else size, 1.0) for extent, size in zip(shape, sizes, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [(math.floor(scale * extent + 0.5), scale) if axis in axes else (extent, 1.0)
            for axis, extent in enumerate(shape)]  # fmt: skip


def _along_axes(
    node: Node, shape: tuple[int, ...], scales: list[float], sizes: list[int] | None, roi: Any, legacy: str
) -> Any:
    value = node.input(0)
    order = sorted(range(len(shape)), key=lambda axis: scales[axis])  # what shrinks first leaves less to do
    for axis in order:
        extent = sizes[axis] if sizes is not None else math.floor(shape[axis] * scales[axis])
        region = roi[axis] if roi is not None else (0.0, 1.0)
        if extent == shape[axis] and scales[axis] == 1.0 and region == (0.0, 1.0):
            continue
        value = _along(node, value, axis, extent, scales[axis], region, legacy)
    return value


def _along(node: Node, value: Any, axis: int, extent: int, scale: float, roi: tuple[float, float], legacy: str) -> Any:
    length = int(value.ty.shape[axis])
    mode = {"floor_asymmetric": "nearest", "asymmetric": "linear"}.get(legacy) or node.text("mode", "nearest")
    transform = "asymmetric" if legacy else node.text("coordinate_transformation_mode", "half_pixel")
    places = _coordinates(transform, extent, length, scale, roi)
    outside = (places < 0) | (places > length - 1) if transform == "tf_crop_and_resize" else np.zeros(extent, bool)
    if mode == "nearest":
        rounding = "floor" if legacy else node.text("nearest_mode", "round_prefer_floor")
        indices = np.clip(_ROUNDINGS[rounding](places), 0, length - 1).astype(np.int32)
        value = _taken(node, value, axis, indices)
    else:
        value = _weighted(node, value, axis, *_taps(node, mode, places, length, scale))
    if not outside.any():
        return value
    spread = [1] * len(value.ty.shape)
    spread[axis] = extent
    fill = const(float(node.attributes.get("extrapolation_value", 0.0)), str(value.ty.dtype))
    return node.emit(relax.op.where(const(outside.reshape(spread), "bool"), fill, value))


def _coordinates(transform: str, extent: int, length: int, scale: float, roi: tuple[float, float]) -> Array:
    """Where each output lies on the input's axis (formulas of the ONNX operator documentation).

    In float32, as ONNX Runtime computes them: where a place falls between two inputs decides which is nearest.
    """
    f = np.float32
    out, scale32 = np.arange(extent, dtype=f), f(scale)
    if transform == "asymmetric":
        return out / scale32
    if transform == "align_corners":
        return np.zeros(1, f) if extent == 1 else out * f(length - 1) / f(extent - 1)
    if transform == "tf_crop_and_resize":
        start, end = f(roi[0]), f(roi[1])
        if extent == 1:
            return f(0.5) * (start + end) * f(length - 1) * np.ones(1, f)
        return start * f(length - 1) + out * (end - start) * f(length - 1) / f(extent - 1)
    places = (out + f(0.5)) / scale32 - f(0.5)
    if transform == "pytorch_half_pixel" and extent == 1:
        return np.zeros(1, f)
    if transform == "half_pixel_symmetric":
        adjustment = f(extent) / (scale32 * f(length))
        return places + f(length) / f(2) * (f(1) - adjustment)
    if transform in ("half_pixel", "pytorch_half_pixel"):
        return places
    raise Unsupported(f"the coordinate transformation {transform!r} is unknown")


_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda places: np.ceil(places - 0.5),
    "round_prefer_ceil": lambda places: np.floor(places + 0.5),
}


def _taps(node: Node, mode: str, places: Array, length: int, scale: float) -> tuple[Array, Array]:
    """Indices and weights, each of shape (taps, outputs); indices are inside the axis."""
    if mode not in ("linear", "cubic"):
        raise Unsupported(f"the mode {mode!r} is unknown")
    stretch = min(scale, 1.0) if node.attributes.get("antialias", 0) else 1.0
    reach = (1.0 if mode == "linear" else 2.0) / stretch
    a = float(node.attributes.get("cubic_coeff_a", -0.75))
    places = places.astype(np.float64)
    if stretch == 1.0:
        first = np.floor(places) - (mode == "cubic")
        count = 2 if mode == "linear" else _CUBIC_TAPS
    else:
        first = np.floor(places - reach) + 1
        count = math.ceil(2 * reach)
    indices = first + np.arange(count)[:, None]
    weights = _KERNELS[mode]((indices - places) * stretch, a)
    if node.attributes.get("exclude_outside", 0):
        weights = np.where((indices < 0) | (indices >= length), 0.0, weights)
    weights = weights / weights.sum(axis=0)
    return np.clip(indices, 0, length - 1).astype(np.int32), weights


def _cubic(distance: Array, a: float) -> Array:
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


_KERNELS: dict[str, Callable[[Array, float], Array]] = {
    "linear": lambda distance, _: np.maximum(0.0, 1.0 - np.abs(distance)),
    "cubic": _cubic,
}


def _taken(node: Node, value: Any, axis: int, indices: Array) -> Any:
    """The given elements of an axis; repetitions need no table."""
    length = int(value.ty.shape[axis])
    times = len(indices) // max(length, 1)
    if times * length == len(indices) and (indices == np.arange(len(indices)) // max(times, 1)).all():
        return node.emit(relax.op.repeat(value, times, axis))
    return node.emit(relax.op.take(value, table(indices), axis))


def _weighted(node: Node, value: Any, axis: int, indices: Array, weights: Array) -> Any:
    dtype = str(value.ty.dtype)
    inner = dtype if dtype in ("float32", "float64") else "float32"

    def kernel(x: te.Tensor, where: te.Tensor, weight: te.Tensor) -> te.Tensor:
        shape = [*x.shape[:axis], indices.shape[1], *x.shape[axis + 1 :]]

        def element(*place: Any) -> Any:
            total = None
            for tap in range(indices.shape[0]):
                source = x(*place[:axis], where[tap, place[axis]], *place[axis + 1 :])
                term = source.astype(inner) * weight[tap, place[axis]]
                total = term if total is None else total + term
            return total

        return te.compute(shape, element, name="resized")

    made = node.te(kernel, value, const(indices, "int32"), const(weights, inner), name="resize")
    return made if inner == dtype else node.emit(relax.op.astype(_rounded(node, made, dtype), dtype))


def _rounded(node: Node, value: Any, dtype: str) -> Any:
    """Integers are truncated, and stay within their range."""
    if "int" not in dtype:
        return value
    limits = np.iinfo(dtype)
    return node.emit(relax.op.clip(value, float(limits.min), float(limits.max)))


CONVERTERS: dict[tuple[str, str], Converter] = {("", "Resize"): resize, ("", "Upsample"): upsample}
