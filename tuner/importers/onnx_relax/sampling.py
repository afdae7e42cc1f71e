"""Operators that read an image between its points: deformable convolution, and RoiAlign with the largest sample."""

from __future__ import annotations

import math

from tvm import tirx

from tuner.importers.onnx_relax.node import Any, Converter, Node, Unsupported, relax, shape_of, te


def deform_conv(node: Node) -> Any:
    """DeformConv over two axes: the displaced elements as columns, one kernel, and their product with the weights."""
    (batch, channels, *spatial), weights = node.shape(), node.shape(1)
    if len(spatial) != 2:
        raise Unsupported(f"a kernel over {len(spatial)} axes")
    group, kernel = int(node.attributes.get("group", 1)), weights[2:]
    extents, points = node.shape(2)[2:], math.prod(weights[2:])
    operands = [node.input(0), node.input(2), *([] if node.input(4) is None else [node.input(4)])]
    inner = "float64" if node.dtype() == "float64" else "float32"
    operands = [x if str(x.ty.dtype) == inner else node.emit(relax.op.astype(x, inner)) for x in operands]
    columns = node.te(_columns(node, channels, kernel, extents), *operands, name="deformed")
    columns = node.emit(relax.op.reshape(columns, (batch, group, channels // group * points, math.prod(extents))))
    if inner != node.dtype():
        columns = node.emit(relax.op.astype(columns, node.dtype()))
    matrix = relax.op.reshape(node.input(1), (1, group, weights[0] // group, weights[1] * points))
    made = node.emit(relax.op.reshape(relax.op.matmul(matrix, columns), (batch, weights[0], *extents)))
    if node.input(3) is None:
        return made
    return node.emit(relax.op.add(made, relax.op.reshape(node.input(3), (1, -1, 1, 1))))


def _columns(node: Node, channels: int, kernel: tuple[int, ...], extents: tuple[int, ...]) -> Any:
    """(batch, channels, points of the kernel, *extents): what each point of the kernel reads, times the mask."""
    strides, dilations = (node.attributes.get(name, [1, 1]) for name in ("strides", "dilations"))
    pads = node.attributes.get("pads", [0] * 4)
    points, width = math.prod(kernel), channels // int(node.attributes.get("offset_group", 1))

    def columns(x: te.Tensor, offset: te.Tensor, *mask: te.Tensor) -> te.Tensor:
        def element(n: Any, c: Any, tap: Any, i: Any, j: Any) -> Any:
            at = c // width * points + tap
            places = [
                (cell * strides[axis] - pads[axis] + step * dilations[axis]).astype(x.dtype)
                + offset(n, at * 2 + axis, i, j)
                for axis, (cell, step) in enumerate(((i, tap // kernel[1]), (j, tap % kernel[1])))
            ]
            value = _between(lambda row, column: x(n, c, row, column), places, x.shape[2:], x.dtype)
            return value * mask[0](n, at, i, j) if mask else value

        return te.compute([int(x.shape[0]), channels, points, *extents], element, name="columns")

    return columns


def _between(read: Any, places: list[Any], shape: Any, dtype: str) -> Any:
    """The linear mean of the four elements around a place; beyond the image they are 0."""
    low = [te.floor(place) for place in places]
    rest = [place - floor for place, floor in zip(places, low, strict=True)]
    total: Any = tirx.const(0, dtype)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight: Any = tirx.const(1, dtype)
        cells, inside = [], []
        for axis, step in enumerate(corner):
            weight = weight * (rest[axis] if step else tirx.const(1, dtype) - rest[axis])
            place = low[axis] + tirx.const(step, dtype)
            last = tirx.const(int(shape[axis]) - 1, dtype)
            inside += [place >= tirx.const(0, dtype), place <= last]
            cells.append(te.max(te.min(place, last), tirx.const(0, dtype)).astype("int32"))
        total = total + te.if_then_else(te.all(*inside), weight * read(*cells), tirx.const(0, dtype))
    return total


def roi_align(node: Node) -> Any:
    """RoiAlign. Of `max` the largest product of an element and its weight, as the standard's reference has it."""
    if node.text("mode", "avg") == "avg":
        return None
    ratio = int(node.attributes.get("sampling_ratio", 0))
    if ratio < 1:
        raise Unsupported("the largest of a number of samples that depends on the data")
    dtype = node.dtype()
    value, regions = node.input(0), node.input(1)
    half = node.text("coordinate_transformation_mode", "half_pixel" if node.opset >= 16 else "output_half_pixel")
    offset = 0.5 if half == "half_pixel" else 0.0
    scale = float(node.attributes.get("spatial_scale", 1.0))
    bins = [int(node.attributes.get(name, 1)) for name in ("output_height", "output_width")]
    count, channels = shape_of(regions)[0], node.shape()[1]

    def kernel(x: te.Tensor, rois: te.Tensor, batches: te.Tensor) -> te.Tensor:
        taps = [te.reduce_axis((0, ratio), name) for name in ("iy", "ix")]

        def number(amount: float) -> Any:
            return tirx.const(amount, dtype)

        def element(r: Any, c: Any, *cell: Any) -> Any:
            places = []
            for axis in (0, 1):
                begin, end = (rois(r, 1 - axis + 2 * side) * number(scale) - number(offset) for side in (0, 1))
                length = end - begin if offset else te.max(end - begin, number(1))
                step = length / number(bins[axis])
                part = (taps[axis].astype(dtype) + number(0.5)) * step / number(ratio)
                places.append(begin + cell[axis].astype(dtype) * step + part)
            return te.max(_largest(x, batches(r), c, places, number), axis=taps)

        return te.compute([count, channels, *bins], element, name="largest")

    return node.te(kernel, value, regions, node.input(2), name="roi_align_max")


def _largest(x: te.Tensor, batch: Any, channel: Any, places: list[Any], number: Any) -> Any:
    extents = [int(extent) for extent in x.shape[2:]]
    outside = [te.any(p < number(-1), p > number(e)) for p, e in zip(places, extents, strict=True)]
    corners = []
    for place, extent in zip(places, extents, strict=True):
        inner = te.min(te.max(place, number(0)), number(extent - 1))
        low = te.floor(inner).astype("int32")
        rest = inner - low.astype(x.dtype)
        corners.append([(low, number(1) - rest), (te.min(low + 1, extent - 1), rest)])
    products = [wy * wx * x(batch, channel, row, column) for row, wy in corners[0] for column, wx in corners[1]]
    best = te.max(te.max(products[0], products[1]), te.max(products[2], products[3]))
    return te.if_then_else(te.any(*outside), number(0), best)


CONVERTERS: dict[tuple[str, str], Converter] = {("", "DeformConv"): deform_conv, ("", "RoiAlign"): roi_align}
