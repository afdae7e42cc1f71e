"""Pad and CenterCropPad: any mode, axes, and amounts below zero, which crop."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.importers.onnx_relax.node import Any, Converter, Node, Unsupported, array_of, axis_of, const, relax, te

MODES = ("constant", "edge", "reflect", "wrap")


def pad(node: Node) -> Any:
    """Pad of every operator set."""
    rank = len(node.shape())
    amounts = node.ints("pads", 1) or node.ints("paddings", 1) or []
    given = node.constant(3)
    axes = [axis_of(int(axis), rank) for axis in (range(rank) if given is None else given.reshape(-1))]
    before, after = [0] * rank, [0] * rank
    for axis, low, high in zip(axes, amounts[: len(axes)], amounts[len(axes) :], strict=True):
        before[axis], after[axis] = low, high
    mode = node.text("mode", "constant")
    if mode not in MODES:
        raise Unsupported(f"the mode {mode!r} is unknown")
    fill = node.input(2)
    if fill is None:
        fill = const(node.attributes.get("value", 0), node.dtype())
    return padded(node, node.input(0), before, after, mode, fill)


def padded(node: Node, value: Any, before: Sequence[int], after: Sequence[int], mode: str, fill: Any) -> Any:
    """A tensor with so many elements more on each side of its axes, or fewer. `fill` is a scalar tensor."""
    value = cropped(node, value, [max(0, -low) for low in before], [max(0, -high) for high in after])
    before, after = [max(0, low) for low in before], [max(0, high) for high in after]
    if not any(before) and not any(after):
        return value
    if mode == "constant":
        return _with_constant(node, value, before, after, node.emit(relax.op.reshape(fill, ())))

    def kernel(x: te.Tensor) -> te.Tensor:
        shape = [low + int(extent) + high for low, extent, high in zip(before, x.shape, after, strict=True)]

        def element(*place: Any) -> Any:
            return x(*(
                _inside(mode, index - low, int(extent), low, high) if low or high else index
                for index, low, extent, high in zip(place, before, x.shape, after, strict=True)
            ))  # fmt: skip

        return te.compute(shape, element, name="padded")

    return node.te(kernel, value, name="pad")


def _with_constant(node: Node, value: Any, before: Sequence[int], after: Sequence[int], fill: Any) -> Any:
    known = array_of(fill)
    if known is not None and str(value.ty.dtype).startswith("float"):
        widths = [width for pair in zip(before, after, strict=True) for width in pair]
        return node.emit(relax.op.nn.pad(value, widths, "constant", float(known.reshape(-1)[0])))

    def kernel(x: te.Tensor, rest: te.Tensor) -> te.Tensor:
        shape = [low + int(extent) + high for low, extent, high in zip(before, x.shape, after, strict=True)]

        def element(*place: Any) -> Any:
            places = list(zip(place, before, x.shape, strict=True))
            inside = [te.all(i >= low, i < low + extent) for i, low, extent in places]
            return te.if_then_else(te.all(*inside), x(*(i - low for i, low, _ in places)), rest())

        return te.compute(shape, element, name="padded")

    return node.te(kernel, value, fill, name="pad")


def _inside(mode: str, index: Any, extent: int, low: int, high: int) -> Any:
    """The element of an axis of that extent which stands at a place beyond its ends."""
    last = extent - 1
    if mode == "edge":
        return te.max(te.min(index, last), 0)
    if mode == "wrap":
        return te.indexmod(index + low // extent * extent + extent, extent)
    if max(low, high) <= last:
        return te.min(te.abs(index), 2 * last - index)
    period = max(2 * last, 1)
    turned = te.indexmod(index + (low // period + 1) * period, period)
    return te.min(turned, period - turned)


def cropped(node: Node, value: Any, begin: Sequence[int], end: Sequence[int]) -> Any:
    """A tensor without so many elements on each side of its axes."""
    shape = [int(extent) for extent in value.ty.shape]
    axes = [axis for axis in range(len(shape)) if begin[axis] or end[axis]]
    if not axes:
        return value
    stops = [max(begin[axis], shape[axis] - end[axis]) for axis in axes]
    return node.emit(relax.op.strided_slice(value, axes, [begin[axis] for axis in axes], stops))


def center_crop_pad(node: Node) -> Any:
    """CenterCropPad to a constant shape."""
    shape = node.shape()
    axes = [axis_of(int(axis), len(shape)) for axis in node.attributes.get("axes", range(len(shape)))]
    wanted = node.ints("", 1)
    before, after = [0] * len(shape), [0] * len(shape)
    for axis, extent in zip(axes, wanted or [], strict=True):
        more = extent - shape[axis]
        before[axis] = more // 2 if more >= 0 else -(-more // 2)
        after[axis] = more - before[axis]
    return padded(node, node.input(0), before, after, "constant", const(0, node.dtype()))


CONVERTERS: dict[tuple[str, str], Converter] = {("", "Pad"): pad, ("", "CenterCropPad"): center_crop_pad}
