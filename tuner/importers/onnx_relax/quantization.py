"""Quantized operators: integers between, exact, with one rounding to even at the end.

Where scales and zero points are constant they become `relax.quantize` and `relax.dequantize` around operators on
floats, of which `tuner.graph.integers` makes products of integers. What is known only at run time is written out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from tuner.importers.onnx_relax.node import Any, Converter, Node, Unsupported, array_of, axis_of, const, relax, shape_of
from tuner.importers.onnx_relax.pooling import automatic_pads


def dequantized(node: Node, value: Any, scale: Any, zero: Any, axis: int = 1, block: int = 0) -> Any:
    """(value - zero) * scale, in the dtype of the scale: one number, one for each index of an axis, or one a block."""
    if (known := _known(value, scale, zero, axis, block)) is not None:
        return node.emit(relax.op.dequantize(value, *known, "float32"))
    dtype = str(scale.ty.dtype)
    inner = "float32" if dtype in ("float16", "bfloat16") else dtype
    shape = shape_of(value)
    wide = node.emit(relax.op.astype(value, "int32" if zero is not None else inner))
    if zero is not None:
        offset = relax.op.astype(spread(node, zero, shape, axis, block), "int32")
        wide = node.emit(relax.op.astype(relax.op.subtract(wide, offset), inner))
    factor = spread(node, scale, shape, axis, block)
    factor = factor if inner == dtype else node.emit(relax.op.astype(factor, inner))
    made = node.emit(relax.op.multiply(wide, factor))
    return made if inner == dtype else node.emit(relax.op.astype(made, dtype))


def quantized(node: Node, value: Any, scale: Any, zero: Any, dtype: str, axis: int = 1, block: int = 0) -> Any:
    """value / scale, rounded to even, plus zero, within the dtype's range."""
    known = _known(value, scale, zero, axis, block) if dtype in _BYTES else None
    if known is not None and str(value.ty.dtype) == "float32":
        return node.emit(relax.op.quantize(value, *known, dtype))
    shape = shape_of(value)
    if str(value.ty.dtype) != "float32":
        value = node.emit(relax.op.astype(value, "float32"))
    factor = spread(node, scale, shape, axis, block)
    if str(factor.ty.dtype) != "float32":
        factor = node.emit(relax.op.astype(factor, "float32"))
    steps = node.emit(relax.op.round(relax.op.divide(value, factor)))
    if zero is not None:
        offset = relax.op.astype(spread(node, zero, shape, axis, block), "float32")
        steps = node.emit(relax.op.add(steps, offset))
    limits = np.iinfo(dtype)
    return node.emit(relax.op.astype(relax.op.clip(steps, float(limits.min), float(limits.max)), dtype))


_BYTES = ("int8", "uint8")


def _known(value: Any, scale: Any, zero: Any, axis: int, block: int) -> tuple[Any, Any, int] | None:
    """A scale and a zero point that are constant, as relax's own operators take them, and their axis; None for others,
    for blocks, and for values of other types than they take."""
    factor, offset = array_of(scale), np.zeros((), np.int32) if zero is None else array_of(zero)
    dtype = str(value.ty.dtype)
    if block or factor is None or offset is None or str(scale.ty.dtype) != "float32":
        return None
    if dtype not in (*_BYTES, "int32", "float32") or offset.dtype.kind not in "iu" or max(factor.ndim, offset.ndim) > 1:
        return None
    shape = shape_of(value)
    if factor.size == offset.size == 1:
        return const(factor.reshape(()), "float32"), const(offset.reshape(()), "int32"), -1
    axis = axis_of(axis, len(shape))
    count = shape[axis]
    if {factor.size, offset.size} - {1, count}:
        raise Unsupported(f"{factor.size} scales and {offset.size} zero points for an axis of {count}")
    spread_out = [np.broadcast_to(a.reshape(-1), (count,)) for a in (factor, offset)]
    return const(spread_out[0], "float32"), const(spread_out[1], "int32"), axis


def spread(node: Node, parameter: Any, shape: Sequence[int], axis: int, block: int) -> Any:
    """A scale or a zero point in a shape that broadcasts over a tensor of the given one."""
    own = shape_of(parameter)
    if own in ((), (1,)):
        return node.emit(relax.op.reshape(parameter, ()))
    axis = axis_of(axis, len(shape))
    if block and len(own) == len(shape):
        array = array_of(parameter)
        keep = [slice(None)] * axis + [slice(0, shape[axis])]
        if array is not None:
            return const(np.repeat(array, block, axis)[tuple(keep)], str(parameter.ty.dtype))
        repeated = node.emit(relax.op.repeat(parameter, block, axis))
        return node.emit(relax.op.strided_slice(repeated, [axis], [0], [shape[axis]]))
    if len(own) == 1:
        return node.emit(relax.op.reshape(parameter, [-1 if a == axis else 1 for a in range(len(shape))]))
    return parameter


def dequantize_linear(node: Node) -> Any:
    """DequantizeLinear of a tensor, of an axis, or of blocks."""
    axis, block = node.attributes.get("axis", 1), int(node.attributes.get("block_size", 0))
    made = dequantized(node, node.input(0), node.input(1), node.input(2), axis, block)
    wanted = node.attributes.get("output_dtype", 0)
    return node.emit(relax.op.astype(made, _name(wanted))) if wanted else made


def quantize_linear(node: Node) -> Any:
    """QuantizeLinear of a tensor, of an axis, or of blocks, to 8, 16 or 32 bits."""
    wanted = node.attributes.get("output_dtype", 0)
    dtype = node.dtype(2) if node.input(2) is not None else _name(wanted) if wanted else "uint8"
    if not dtype.startswith(("int", "uint")) or dtype.endswith(("int4", "int2")):
        raise Unsupported(f"quantizing to {dtype}")
    axis, block = node.attributes.get("axis", 1), int(node.attributes.get("block_size", 0))
    return quantized(node, node.input(0), node.input(1), node.input(2), dtype, axis, block)


def _name(tensor_dtype: int) -> str:
    from onnx import helper

    return str(helper.tensor_dtype_to_np_dtype(tensor_dtype).name)


def centred(node: Node, value: Any, zero: Any, axis: int) -> Any:
    """value - zero as int32; the zero point may be one number or a vector along an axis."""
    wide = node.emit(relax.op.astype(value, "int32"))
    if zero is None:
        return wide
    offset = relax.op.astype(spread(node, zero, shape_of(value), axis, 0), "int32")
    return node.emit(relax.op.subtract(wide, offset))


def convolution(node: Node, value: Any, weight: Any) -> Any:
    """A convolution over one to three axes with a Conv node's attributes."""
    shape, widths = shape_of(value), list(shape_of(weight)[2:])
    rank = len(shape) - 2
    if rank not in (1, 2, 3):
        raise Unsupported(f"a kernel over {rank} axes")
    ones = [1] * rank
    strides, dilations = (list(node.attributes.get(name, ones)) for name in ("strides", "dilations"))
    pads = list(node.attributes.get("pads", [0] * 2 * rank))
    mode = node.text("auto_pad", "NOTSET")
    if mode != "NOTSET":
        pads = automatic_pads(mode, shape[2:], widths, strides, dilations)
    operator = getattr(relax.op.nn, f"conv{rank}d")
    return node.emit(operator(
        value, weight, strides, pads, dilations, int(node.attributes.get("group", 1)), out_dtype=str(value.ty.dtype)
    ))  # fmt: skip


def conv_integer(node: Node) -> Any:
    return convolution(
        node, centred(node, node.input(0), node.input(2), 1), centred(node, node.input(1), node.input(3), 0)
    )


def qlinear_conv(node: Node) -> Any:
    """QLinearConv: inputs and their scales and zero points, weights and theirs, the output's, and a bias."""
    if all_known(node, (1, 2, 4, 5, 6, 7)):
        return _conv_of_floats(node)
    data, weight = centred(node, node.input(0), node.input(2), 1), centred(node, node.input(3), node.input(5), 0)
    total = convolution(node, data, weight)
    if node.input(8) is not None:
        total = node.emit(relax.op.add(total, relax.op.reshape(node.input(8), _channels(node))))
    scale = relax.op.multiply(node.input(1), node.input(4))
    return _requantized(node, total, node.emit(scale), node.input(6), node.input(7), 1)


def _conv_of_floats(node: Node) -> Any:
    """The same as a convolution of what its operands stand for."""
    data = dequantized(node, node.input(0), node.input(1), node.input(2))
    weight = dequantized(node, node.input(3), node.input(4), node.input(5), 0)
    total = convolution(node, data, weight)
    if node.input(8) is not None:
        scale = node.required(1).reshape(-1) * node.required(4).reshape(-1)
        bias = dequantized(node, node.input(8), const(scale, "float32"), None, 0)
        total = node.emit(relax.op.add(total, relax.op.reshape(bias, _channels(node))))
    return quantized(node, total, node.input(6), node.input(7), str(node.input(7).ty.dtype))


def _channels(node: Node) -> tuple[int, ...]:
    return (1, -1, *([1] * (len(node.shape()) - 2)))


def all_known(node: Node, places: Sequence[int]) -> bool:
    """Whether none of these inputs is computed by the model."""
    return all(node.input(place) is None or array_of(node.input(place)) is not None for place in places)


def _requantized(node: Node, total: Any, scale: Any, out_scale: Any, zero: Any, axis: int) -> Any:
    factor = spread(node, node.emit(relax.op.divide(scale, out_scale)), shape_of(total), axis, 0)
    steps = node.emit(relax.op.multiply(relax.op.astype(total, "float32"), factor))
    return quantized(node, steps, const(1.0, "float32"), zero, str(zero.ty.dtype))


def qlinear_matmul(node: Node) -> Any:
    """QLinearMatMul: a, its scale and zero point, b and its, and the output's; rows or columns may have their own."""
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = (node.input(index) for index in range(8))
    if all_known(node, (1, 2, 4, 5, 6, 7)) and a_scale.ty.ndim + b_scale.ty.ndim <= 2:
        operands = dequantized(node, a, a_scale, a_zero, -2), dequantized(node, b, b_scale, b_zero, -1)
        return quantized(node, node.emit(relax.op.matmul(*operands)), scale, zero, str(zero.ty.dtype))
    left, right = centred(node, a, a_zero, -2), centred(node, b, b_zero, -1)
    total = node.emit(relax.op.matmul(left, right))
    factors = [
        spread(node, parameter, shape_of(total), axis, 0)
        for parameter, axis in ((a_scale, len(shape_of(total)) - 2), (b_scale, len(shape_of(total)) - 1))
    ]
    product = node.emit(relax.op.multiply(*factors))
    wide = node.emit(relax.op.astype(total, "float32"))
    scaled = node.emit(relax.op.multiply(wide, relax.op.astype(product, "float32")))
    return quantized(node, scaled, scale, zero, str(zero.ty.dtype))


def dynamic_quantize_matmul(node: Node) -> Any:
    """DynamicQuantizeMatMul of com.microsoft: a is quantized as DynamicQuantizeLinear does it, b was before."""
    a, b, b_scale, b_zero, bias = (node.input(index) for index in range(5))
    whole = list(range(len(node.shape())))
    zero_f, top = const(0.0, "float32"), const(255.0, "float32")
    highest = node.emit(relax.op.maximum(relax.op.max(a, whole), zero_f))
    lowest = node.emit(relax.op.minimum(relax.op.min(a, whole), zero_f))
    scale = node.emit(relax.op.divide(relax.op.subtract(highest, lowest), top))
    zero = node.emit(relax.op.round(relax.op.clip(relax.op.divide(relax.op.negative(lowest), scale), 0.0, 255.0)))
    steps = node.emit(relax.op.astype(quantized(node, a, scale, zero, "uint8"), "int32"))
    left = node.emit(relax.op.subtract(steps, relax.op.astype(zero, "int32")))
    total = node.emit(relax.op.matmul(left, centred(node, b, b_zero, -1)))
    return _to_float(node, total, scale, b_scale, bias)


def _to_float(node: Node, total: Any, scale: Any, b_scale: Any, bias: Any) -> Any:
    factor = spread(node, b_scale, shape_of(total), -1, 0)
    scaled = relax.op.multiply(relax.op.astype(total, "float32"), node.emit(relax.op.multiply(scale, factor)))
    made = node.emit(scaled)
    return made if bias is None else node.emit(relax.op.add(made, bias))


def matmul_integer_to_float(node: Node) -> Any:
    """MatMulIntegerToFloat of com.microsoft: a, b, their scales, their zero points, a bias."""
    left, right = centred(node, node.input(0), node.input(4), -2), centred(node, node.input(1), node.input(5), -1)
    total = node.emit(relax.op.matmul(left, right))
    scale = node.emit(relax.op.reshape(node.input(2), ()))
    return _to_float(node, total, scale, node.input(3), node.input(6))


def matmul_n_bits(node: Node) -> Any:
    """MatMulNBits of com.microsoft: constant weights in blocks of 4 or 8 bits become numbers at import."""
    k, n, bits = (int(node.attributes[name]) for name in ("K", "N", "bits"))
    block = int(node.attributes["block_size"])
    packed, scales = node.constant(1), node.constant(2)
    if packed is None or scales is None or bits not in (4, 8) or node.input(4) is not None:
        raise Unsupported(f"weights of {bits} bits, or in another order")
    blocks = -(-k // block)
    steps = _unpacked(packed.reshape(n, -1), bits).reshape(n, blocks, block).astype(np.float32)
    zeros = node.constant(3)
    if zeros is None:
        offset: Any = np.float32(1 << (bits - 1))
    elif zeros.dtype == np.uint8:
        offset = _unpacked(zeros.reshape(n, -1), bits)[:, :blocks, None].astype(np.float32)
    else:
        offset = zeros.reshape(n, blocks, 1).astype(np.float32)
    weights = (steps - offset) * scales.reshape(n, blocks, 1).astype(np.float32)
    made = node.emit(relax.op.matmul(node.input(0), const(weights.reshape(n, -1)[:, :k].T, node.dtype())))
    return made if node.input(5) is None else node.emit(relax.op.add(made, node.input(5)))


def _unpacked(packed: Any, bits: int) -> Any:
    """Rows of bytes as rows of numbers; of two in a byte the lower half comes first."""
    return packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)


def _on_floats(operator: Callable[..., Any], operands: int, node: Node) -> Any:
    """A quantized operator of com.microsoft that is defined as one on floats between two quantizations."""
    values = [
        dequantized(node, node.input(3 * index), node.input(3 * index + 1), node.input(3 * index + 2))
        for index in range(operands)
    ]
    scale, zero = node.input(3 * operands), node.input(3 * operands + 1)
    return quantized(node, node.emit(operator(node, *values)), scale, zero, node.dtype())


def _leaky(node: Node, value: Any) -> Any:
    return relax.op.nn.leakyrelu(value, float(node.attributes.get("alpha", 0.01)))


def _pooled(node: Node, value: Any) -> Any:
    if node.attributes.get("channels_last", 0):
        raise Unsupported("channels_last")
    return relax.op.mean(value, list(range(2, len(node.shape()))), True)


_MS = "com.microsoft"
CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "ConvInteger"): conv_integer,
    ("", "DequantizeLinear"): dequantize_linear,
    ("", "QLinearConv"): qlinear_conv,
    ("", "QLinearMatMul"): qlinear_matmul,
    ("", "QuantizeLinear"): quantize_linear,
    (_MS, "DequantizeLinear"): dequantize_linear,
    (_MS, "DynamicQuantizeMatMul"): dynamic_quantize_matmul,
    (_MS, "MatMulIntegerToFloat"): matmul_integer_to_float,
    (_MS, "MatMulNBits"): matmul_n_bits,
    (_MS, "QLinearAdd"): functools.partial(_on_floats, lambda node, a, b: relax.op.add(a, b), 2),
    (_MS, "QLinearGlobalAveragePool"): functools.partial(_on_floats, _pooled, 1),
    (_MS, "QLinearLeakyRelu"): functools.partial(_on_floats, _leaky, 1),
    (_MS, "QLinearMul"): functools.partial(_on_floats, lambda node, a, b: relax.op.multiply(a, b), 2),
    (_MS, "QLinearSigmoid"): functools.partial(_on_floats, lambda node, a: relax.op.sigmoid(a), 1),
    (_MS, "QuantizeLinear"): quantize_linear,
}
