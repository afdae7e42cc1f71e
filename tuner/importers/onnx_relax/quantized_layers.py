"""Quantized layers of com.microsoft that are float layers between two quantizations, and its quantized Gemm."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.importers.onnx_relax.node import Any, Converter, Node, Unsupported, axis_of, const, relax, shape_of
from tuner.importers.onnx_relax.pooling import average_pool
from tuner.importers.onnx_relax.quantization import all_known, centred, dequantized, quantized, spread


def concat(node: Node) -> Any:
    """QLinearConcat: the output's scale and zero point, then each input with its own."""
    parts = [
        dequantized(node, *(node.input(index + offset) for offset in range(3)))
        for index in range(2, len(node.inputs), 3)
    ]
    joined = node.emit(relax.op.concat(parts, axis_of(int(node.attributes["axis"]), len(shape_of(parts[0])))))
    return _quantized(node, joined, 0)


def where(node: Node) -> Any:
    """QLinearWhere: a condition, two inputs and the output, each of these with scale and zero point."""
    first, second = (dequantized(node, *(node.input(begin + offset) for offset in range(3))) for begin in (1, 4))
    return _quantized(node, node.emit(relax.op.where(node.input(0), first, second)), 7)


def average(node: Node) -> Any:
    """QLinearAveragePool."""
    _refuse_channels_last(node)
    inner = Node(node.builder, [_first(node)], node.attributes, node.opset)
    return _quantized(node, average_pool(inner), 3)


def mean(node: Node) -> Any:
    """QLinearReduceMean over axes that an attribute has."""
    axes = [axis_of(int(axis), len(node.shape())) for axis in node.attributes.get("axes", range(len(node.shape())))]
    return _quantized(node, node.emit(relax.op.mean(_first(node), axes, bool(node.attributes.get("keepdims", 1)))), 3)


def softmax(node: Node) -> Any:
    """QLinearSoftmax; before operator set 13 over all axes from one on."""
    shape, value = node.shape(), _first(node)
    axis = axis_of(int(node.attributes.get("axis", -1)), len(shape))
    if int(node.attributes.get("opset", 13)) >= 13:
        return _quantized(node, node.emit(relax.op.nn.softmax(value, axis)), 3)
    flat = node.emit(relax.op.reshape(value, (*shape[:axis], -1)))
    made = node.emit(relax.op.nn.softmax(flat, axis))
    return _quantized(node, node.emit(relax.op.reshape(made, shape)), 3)


def gemm(node: Node) -> Any:
    """QGemm: alpha * a @ b + c in integers, to floats or, with a scale of the output, to integers again."""
    turned = [bool(node.attributes.get(name, 0)) for name in ("transA", "transB")]
    if all_known(node, (1, 2, 4, 5, 7, 8)) and node.input(4) is not None:
        return _gemm_of_floats(node, turned)
    a = centred(node, node.input(0), node.input(2), 0)
    b = centred(node, node.input(3), node.input(5), 0 if turned[1] else 1)  # columns have their own zero points
    operands = [node.emit(relax.op.permute_dims(x, [1, 0])) if t else x for x, t in zip((a, b), turned, strict=True)]
    total = node.emit(relax.op.matmul(*operands))
    if node.input(6) is not None:
        total = node.emit(relax.op.add(total, node.input(6)))
    alpha = const(float(node.attributes.get("alpha", 1.0)), "float32")
    scale = node.emit(relax.op.multiply(relax.op.multiply(node.input(1), node.input(4)), alpha))
    wide = relax.op.multiply(relax.op.astype(total, "float32"), spread(node, scale, shape_of(total), 1, 0))
    made = node.emit(wide)
    if node.input(7) is None:
        return made
    return _quantized(node, made, 7)


def _gemm_of_floats(node: Node, turned: Sequence[bool]) -> Any:
    """The same as a product of what its operands stand for."""
    scales = [node.required(place).reshape(-1) for place in (1, 4)]
    a = dequantized(node, node.input(0), node.input(1), node.input(2))
    b = dequantized(node, node.input(3), node.input(4), node.input(5), 0 if turned[1] else 1)
    operands = [node.emit(relax.op.permute_dims(x, [1, 0])) if t else x for x, t in zip((a, b), turned, strict=True)]
    total = node.emit(relax.op.matmul(*operands))
    if node.input(6) is not None:
        bias = dequantized(node, node.input(6), const(scales[0] * scales[1], "float32"), None, -1)
        total = node.emit(relax.op.add(total, bias))
    if (alpha := float(node.attributes.get("alpha", 1.0))) != 1.0:
        total = node.emit(relax.op.multiply(total, const(alpha, "float32")))
    return total if node.input(7) is None else _quantized(node, total, 7)


def expand_dims(node: Node) -> Any:
    """ExpandDims: an axis of extent 1, where a constant says."""
    axis = int(node.required(1).reshape(-1)[0])
    return node.emit(relax.op.expand_dims(node.input(0), axis_of(axis, len(node.shape()) + 1)))


def _first(node: Node) -> Any:
    return dequantized(node, node.input(0), node.input(1), node.input(2))


def _quantized(node: Node, value: Any, scale: int) -> Any:
    """A value quantized by the scale at a position, and the zero point after it."""
    zero = node.input(scale + 1)
    if zero is None:
        return quantized(node, value, node.input(scale), None, "uint8")
    return quantized(node, value, node.input(scale), zero, str(zero.ty.dtype))


def _refuse_channels_last(node: Node) -> None:
    if node.attributes.get("channels_last", 0):
        raise Unsupported("channels_last")


_MS = "com.microsoft"
_LAYERS: Sequence[tuple[str, Converter]] = (
    ("ExpandDims", expand_dims),
    ("QGemm", gemm),
    ("QLinearAveragePool", average),
    ("QLinearConcat", concat),
    ("QLinearReduceMean", mean),
    ("QLinearSoftmax", softmax),
    ("QLinearWhere", where),
)
CONVERTERS: dict[tuple[str, str], Converter] = {(_MS, name): converter for name, converter in _LAYERS}
