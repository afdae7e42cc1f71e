"""Layer, root mean square and group norms, with the outputs that TVM's converters leave out."""

from __future__ import annotations

import numpy as np

from tuner.importers.onnx_relax.node import Any, Converter, Node, Unsupported, axis_of, const, relax, shape_of


def layer_normalization(node: Node) -> Any:
    """LayerNormalization: the output, and where the model wants them the mean and 1 / standard deviation."""
    shape = node.shape()
    axis = axis_of(node.attributes.get("axis", -1), len(shape))
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    return _layer_norm(node, node.input(0), node.input(1), node.input(2), axis, epsilon)


def _layer_norm(node: Node, value: Any, scale: Any, shift: Any, axis: int, epsilon: float) -> Any:
    shape, dtype = shape_of(value), str(value.ty.dtype)
    axes = list(range(axis, len(shape)))
    scale = const(np.ones(shape[axis:]), dtype) if scale is None else _spread(node, scale, shape[axis:])
    shift = const(np.zeros(shape[axis:]), dtype) if shift is None else _spread(node, shift, shape[axis:])
    wants = node.wants(1) or node.wants(2)
    if axis > 0 and not wants:
        return node.emit(relax.op.nn.layer_norm(value, scale, shift, axes, epsilon))
    wide = _wide(node, value)
    mean = node.emit(relax.op.mean(wide, axes, True))
    centred = node.emit(relax.op.subtract(wide, mean))
    variance = relax.op.mean(relax.op.multiply(centred, centred), axes, True)
    inverse = node.emit(relax.op.rsqrt(relax.op.add(variance, const(epsilon, str(wide.ty.dtype)))))
    if axis == 0:
        normed = _narrow(node, relax.op.multiply(centred, inverse), dtype)
        made = node.emit(relax.op.add(relax.op.multiply(normed, scale), shift))
    else:
        made = node.emit(relax.op.nn.layer_norm(value, scale, shift, axes, epsilon))
    return (made, mean, inverse) if wants else made


def _spread(node: Node, vector: Any, shape: tuple[int, ...]) -> Any:
    return vector if shape_of(vector) == shape else node.emit(relax.op.broadcast_to(vector, shape))


def _wide(node: Node, value: Any) -> Any:
    dtype = str(value.ty.dtype)
    return node.emit(relax.op.astype(value, "float32")) if dtype in ("float16", "bfloat16") else value


def _narrow(node: Node, value: Any, dtype: str) -> Any:
    value = node.emit(value)
    return value if str(value.ty.dtype) == dtype else node.emit(relax.op.astype(value, dtype))


def rms_normalization(node: Node) -> Any:
    """RMSNormalization, called SimplifiedLayerNormalization before the standard had it."""
    shape = node.shape()
    axis = axis_of(node.attributes.get("axis", -1), len(shape))
    return _rms_norm(node, node.input(0), node.input(1), axis, float(node.attributes.get("epsilon", 1e-5)))


def _rms_norm(node: Node, value: Any, scale: Any, axis: int, epsilon: float) -> Any:
    shape, dtype = shape_of(value), str(value.ty.dtype)
    wide = _wide(node, value)
    axes = list(range(axis, len(shape)))
    mean = relax.op.mean(node.emit(relax.op.multiply(wide, wide)), axes, True)
    inverse = node.emit(relax.op.rsqrt(relax.op.add(mean, const(epsilon, str(wide.ty.dtype)))))
    normed = _narrow(node, relax.op.multiply(wide, inverse), dtype)
    made = node.emit(relax.op.multiply(normed, scale))
    return (made, inverse) if node.wants(1) else made


def group_normalization(node: Node) -> Any:
    """GroupNormalization: scale and shift are per channel since operator set 21, per group before."""
    shape, groups = node.shape(), int(node.attributes["num_groups"])
    scale, shift = node.input(1), node.input(2)
    if node.opset < 21 and shape_of(scale)[0] != shape[1]:
        scale, shift = (node.emit(relax.op.repeat(value, shape[1] // groups, 0)) for value in (scale, shift))
    epsilon, dtype = float(node.attributes.get("epsilon", 1e-5)), node.dtype()
    cells = _wide(node, node.emit(relax.op.reshape(node.input(0), (shape[0], groups, -1))))
    inner = str(cells.ty.dtype)
    mean = node.emit(relax.op.mean(cells, [2], True))
    centred = node.emit(relax.op.subtract(cells, mean))
    variance = relax.op.mean(relax.op.multiply(centred, centred), [2], True)
    inverse = relax.op.rsqrt(relax.op.add(variance, const(epsilon, inner)))
    normed = relax.op.reshape(_narrow(node, relax.op.multiply(centred, inverse), dtype), shape)
    spread = (1, -1, *([1] * (len(shape) - 2)))
    scaled = relax.op.multiply(normed, relax.op.reshape(scale, spread))
    return node.emit(relax.op.add(scaled, relax.op.reshape(shift, spread)))


def skip_layer_normalization(node: Node) -> Any:
    """SkipLayerNormalization: a layer norm of a sum; the sum is the fourth output."""
    total = _sum(node, node.input(4))
    made = _layer_norm(
        _only_output(node), total, node.input(2), node.input(3), len(node.shape()) - 1, _epsilon(node)
    )  # fmt: skip
    return _with_sum(node, made, total)


def skip_rms_normalization(node: Node) -> Any:
    """SkipSimplifiedLayerNormalization: the same with a root mean square norm."""
    total = _sum(node, node.input(3))
    return _with_sum(
        node, _rms_norm(_only_output(node), total, node.input(2), len(node.shape()) - 1, _epsilon(node)), total
    )


def _epsilon(node: Node) -> float:
    return float(node.attributes.get("epsilon", 1e-12))


def _sum(node: Node, bias: Any) -> Any:
    total = node.emit(relax.op.add(node.input(0), node.input(1)))
    return total if bias is None else node.emit(relax.op.add(total, bias))


def _only_output(node: Node) -> Node:
    if node.wants(1) or node.wants(2):
        raise Unsupported("the mean or the variance as outputs")
    return Node(node.builder, node.inputs, node.attributes, node.opset)


def _with_sum(node: Node, made: Any, total: Any) -> Any:
    return (made, None, None, total) if node.wants(3) else made


def embed_layer_normalization(node: Node) -> Any:
    """EmbedLayerNormalization: embeddings of words, places and segments, added and normed; then the mask's sums."""
    ids, segments, words, places, kinds = (node.input(index) for index in range(5))
    batch, length = node.shape()
    width = shape_of(words)[1]
    total = node.emit(relax.op.take(words, ids, 0))
    if node.input(8) is None:
        taken = relax.op.reshape(relax.op.strided_slice(places, [0], [0], [length]), (1, length, width))
    else:
        taken = relax.op.take(places, node.input(8), 0)
    total = node.emit(relax.op.add(total, taken))
    if segments is not None:
        total = node.emit(relax.op.add(total, relax.op.take(kinds, segments, 0)))
    made = _layer_norm(
        Node(node.builder, node.inputs, node.attributes, node.opset), total, node.input(5), node.input(6), 2,
        _epsilon(node),
    )  # fmt: skip
    mask = node.input(7)
    counts = const(np.zeros(batch), "int32") if mask is None else node.emit(relax.op.sum(mask, [1]))
    return (made, counts, total)


_MS = "com.microsoft"
CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "GroupNormalization"): group_normalization,
    ("", "LayerNormalization"): layer_normalization,
    ("", "RMSNormalization"): rms_normalization,
    ("", "SimplifiedLayerNormalization"): rms_normalization,
    (_MS, "EmbedLayerNormalization"): embed_layer_normalization,
    (_MS, "SimplifiedLayerNormalization"): rms_normalization,
    (_MS, "SkipLayerNormalization"): skip_layer_normalization,
    (_MS, "SkipSimplifiedLayerNormalization"): skip_rms_normalization,
}
