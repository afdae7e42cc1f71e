"""Operators on single elements, of which TVM's converters lack a dtype, an attribute or a corner."""

from __future__ import annotations

import functools
import math

import numpy as np
from tvm import DataType, tirx

from tuner.importers.onnx_relax.node import (
    Any,
    Converter,
    Node,
    Unsupported,
    const,
    in_float32,
    is_float,
    like,
    relax,
    te,
)


def modulo(node: Node) -> Any:
    """Mod: the sign of the divisor, or with `fmod` of the dividend; of floats as C's fmod does it."""
    left, right, dtype = node.input(0), node.input(1), node.dtype()
    if node.attributes.get("fmod", 0):
        if is_float(dtype):
            return _by_pairs(node, left, right, _fmod)
        return _by_pairs(node, left, right, tirx.truncmod)
    if not is_float(dtype):
        return node.emit(relax.op.floor_mod(left, right))
    return _by_pairs(node, left, right, _floored)


def _fmod(a: Any, b: Any) -> Any:
    """The remainder with the sign of `a`; NaN for infinite `a` and for a `b` of 0."""
    if str(a.ty.dtype) not in ("float32", "float64"):
        return _fmod(a.astype("float32"), b.astype("float32")).astype(a.ty.dtype)
    name = "fmodf" if str(a.ty.dtype) == "float32" else "fmod"
    return tirx.call_pure_extern(str(a.ty.dtype), name, a, b)  # of C's library: TVM has no code for its own operator


def _floored(a: Any, b: Any) -> Any:
    """The remainder with the sign of `b`, also where it is zero."""
    rest = _fmod(a, b)
    zero = tirx.const(0, rest.ty.dtype)
    apart = tirx.any(tirx.all(rest < zero, b >= zero), tirx.all(rest > zero, b < zero))
    moved = te.if_then_else(apart, rest + b, rest)
    return te.if_then_else(moved == zero, te.if_then_else(b < zero, -te.abs(moved), te.abs(moved)), moved)


def _by_pairs(node: Node, left: Any, right: Any, function: Any) -> Any:
    """A function of two elements, over tensors that are broadcast to each other."""
    shape = np.broadcast_shapes(*((*map(int, value.ty.shape),) for value in (left, right)))
    left, right = (node.emit(relax.op.broadcast_to(value, shape)) for value in (left, right))

    def kernel(a: te.Tensor, b: te.Tensor) -> te.Tensor:
        return te.compute(shape, lambda *place: function(a(*place), b(*place)), name="pairs")

    return node.te(kernel, left, right, name=getattr(function, "__name__", "pairs").strip("_"))


def power(node: Node) -> Any:
    """Pow of operands of different dtypes; the result has the dtype of the first."""
    base, exponent, dtype = node.input(0), node.input(1), node.dtype()
    if is_float(dtype) and node.dtype(1) == dtype:
        return node.emit(relax.op.power(base, exponent))
    inner = dtype if dtype == "float64" else "float32" if is_float(dtype) else "float64"
    operands = [node.emit(relax.op.astype(value, inner)) for value in (base, exponent)]
    made = node.emit(relax.op.power(*operands))
    if not is_float(dtype):
        made = node.emit(relax.op.round(made) if not is_float(node.dtype(1)) else relax.op.trunc(made))
    return node.emit(relax.op.astype(made, dtype))


def bit_shift(node: Node) -> Any:
    """BitShift; a shift by as many bits as there are, or by fewer than none, leaves only the sign."""
    left = node.text("direction", "") == "LEFT"

    def shifted(x: Any, amount: Any) -> Any:
        dtype = x.ty.dtype
        bits = int(DataType(str(dtype)).bits)
        zero, last = tirx.const(0, dtype), tirx.const(bits - 1, dtype)
        inside = tirx.all(amount >= zero, amount <= last)
        safe = tirx.Select(inside, amount, zero)
        if left:
            return tirx.Select(inside, x << safe, zero)
        sign = zero if str(dtype).startswith("uint") else x >> last
        return tirx.Select(inside, x >> safe, sign)

    return _by_pairs(node, node.input(0), node.input(1), shifted)


def is_infinite(node: Node) -> Any:
    """IsInf, of one sign where an attribute says so."""
    value = node.input(0)
    signs = [sign for sign, name in ((1, "detect_positive"), (-1, "detect_negative")) if node.attributes.get(name, 1)]
    tests = [relax.op.equal(value, like(sign * math.inf, value)) for sign in signs]
    if not tests:
        return node.emit(relax.op.zeros(node.shape(), "bool"))
    return node.emit(tests[0] if len(tests) == 1 else relax.op.logical_or(*tests))


def eye_like(node: Node) -> Any:
    """EyeLike of any dtype."""
    from onnx import helper

    rows, columns = node.shape()
    wanted = node.attributes.get("dtype")
    dtype = node.dtype() if wanted is None else str(helper.tensor_dtype_to_np_dtype(wanted))
    return const(np.eye(rows, columns, k=int(node.attributes.get("k", 0))), dtype)


def one_hot(node: Node) -> Any:
    """OneHot: values may be computed by the model, depth may not; indices below zero count from the end."""
    depth_value = node.constant(1)
    if depth_value is None:
        raise Unsupported("a depth that is left out")
    depth, shape = int(depth_value.reshape(-1)[0]), node.shape()
    axis = node.attributes.get("axis", -1)
    axis = axis + len(shape) + 1 if axis < 0 else axis
    dtype = node.dtype(2)

    def kernel(indices: te.Tensor, values: te.Tensor) -> te.Tensor:
        def element(*place: Any) -> Any:
            index = indices(*place[:axis], *place[axis + 1 :]).astype("int64")
            wrapped = tirx.Select(index < 0, index + depth, index)
            return tirx.Select(wrapped == place[axis].astype("int64"), values[1], values[0])

        return te.compute([*shape[:axis], depth, *shape[axis:]], element, name="one_hot")

    made = node.te(kernel, node.input(0), node.input(2), name="one_hot")
    return made if str(made.ty.dtype) == dtype else node.emit(relax.op.astype(made, dtype))


def split(node: Node) -> Any:
    """Split into parts, each of which may be empty."""
    shape, axis = node.shape(), node.attributes.get("axis", 0)
    extent = shape[axis]
    sizes = node.ints("split", 1)
    if sizes is None:
        count = int(node.attributes.get("num_outputs", len(node.outputs)))
        each = -(-extent // count)
        sizes = [min(each, max(0, extent - index * each)) for index in range(count)]
    ends = np.cumsum(sizes).tolist()
    if 0 not in sizes and len(sizes) > 1:
        parts = node.emit(relax.op.split(node.input(0), ends[:-1], axis))
        return tuple(node.emit(relax.TupleGetItem(parts, index)) for index in range(len(sizes)))
    starts = [end - size for end, size in zip(ends, sizes, strict=True)]
    return tuple(
        node.emit(relax.op.strided_slice(node.input(0), [axis], [start], [end]))
        for start, end in zip(starts, ends, strict=True)
    )


def space_to_depth(node: Node) -> Any:
    """SpaceToDepth in both orders of the new channels."""
    n, c, h, w = node.shape()
    b = int(node.attributes["blocksize"])
    order = [0, 1, 3, 5, 2, 4] if node.text("mode", "DCR") == "CRD" else [0, 3, 5, 1, 2, 4]
    cells = relax.op.permute_dims(relax.op.reshape(node.input(0), (n, c, h // b, b, w // b, b)), order)
    return node.emit(relax.op.reshape(cells, (n, c * b * b, h // b, w // b)))


def dropout(node: Node) -> Any:
    """Dropout as inference has it: nothing is dropped, and the mask says so."""
    training = node.constant(2)
    if training is not None and training.any():
        raise Unsupported("training_mode")
    return (node.input(0), const(np.ones(node.shape()), "bool")) if node.wants(1) else node.input(0)


def bit_cast(node: Node) -> Any:
    """BitCast to a dtype of the same width."""
    from onnx import helper

    dtype = str(helper.tensor_dtype_to_np_dtype(node.attributes["to"]))
    value = node.input(0)
    if dtype == "bool" or node.dtype() == "bool":
        value = node.emit(relax.op.astype(value, "uint8"))
        return value if dtype == "uint8" else node.emit(relax.op.astype(value, dtype))

    def kernel(x: te.Tensor) -> te.Tensor:
        return te.compute(x.shape, lambda *place: tirx.reinterpret(dtype, x(*place)), name="bit_cast")

    return node.te(kernel, value, name="bit_cast")


def celu(node: Node) -> Any:
    """Celu in the form that never overflows."""
    alpha = float(node.attributes.get("alpha", 1.0))

    def function(x: Any) -> Any:
        below = relax.op.subtract(relax.op.exp(relax.op.divide(relax.op.minimum(x, _f(0)), _f(alpha))), _f(1))
        return relax.op.add(relax.op.maximum(x, _f(0)), relax.op.multiply(below, _f(alpha)))

    return in_float32(node, function, node.input(0))


def elu(node: Node) -> Any:
    """Elu, in a form that never overflows."""
    alpha = float(node.attributes.get("alpha", 1.0))

    def function(x: Any) -> Any:
        below = relax.op.subtract(relax.op.exp(relax.op.minimum(x, like(0, x))), like(1, x))
        return relax.op.add(relax.op.maximum(x, like(0, x)), relax.op.multiply(below, like(alpha, x)))

    return in_float32(node, function, node.input(0))


def _f(value: float) -> Any:
    return const(value, "float32")


def swish(node: Node) -> Any:
    """x * sigmoid(alpha * x)."""
    alpha = float(node.attributes.get("alpha", 1.0))
    value = node.input(0)
    inner = value if alpha == 1.0 else relax.op.multiply(value, like(alpha, value))
    return node.emit(relax.op.multiply(value, relax.op.sigmoid(inner)))


def quick_gelu(node: Node) -> Any:
    alpha, value = float(node.attributes.get("alpha", 1.702)), node.input(0)
    return node.emit(relax.op.multiply(value, relax.op.sigmoid(relax.op.multiply(value, like(alpha, value)))))


def gelu(node: Node) -> Any:
    """Gelu, and with a bias that is added before: BiasGelu."""
    value = _with_bias(node)
    tanh = node.text("approximate", "none") == "tanh"
    return node.emit(relax.op.nn.gelu_tanh(value) if tanh else relax.op.nn.gelu(value))


def fast_gelu(node: Node) -> Any:
    """FastGelu: the form with tanh, after an optional bias."""
    return node.emit(relax.op.nn.gelu_tanh(_with_bias(node)))


def _with_bias(node: Node) -> Any:
    """The first input, plus the second where there is one."""
    bias = node.input(1)
    return node.input(0) if bias is None else node.emit(relax.op.add(node.input(0), bias))


def equal(node: Node) -> Any:
    """Of truth values as of whole numbers: LLVM refuses TVM's code for the former."""
    operands = [node.input(0), node.input(1)]
    if node.dtype() == "bool":
        operands = [node.emit(relax.op.astype(operand, "int8")) for operand in operands]
    return node.emit(relax.op.equal(*operands))


def depends_on_data(what: str, node: Node) -> Any:
    """Refuses an operator whose output has as many elements as its inputs' values say."""
    raise Unsupported(f"{what} depends on the data")


_REFUSED = {
    "Compress": "the number of kept elements",
    "NonMaxSuppression": "the number of selected boxes",
    "NonZero": "the number of elements that are not zero",
    "Unique": "the number of different elements",
}
_MS = "com.microsoft"
CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "BitCast"): bit_cast,
    ("", "BitShift"): bit_shift,
    ("", "Celu"): celu,
    ("", "Dropout"): dropout,
    ("", "Elu"): elu,
    ("", "EyeLike"): eye_like,
    ("", "Gelu"): gelu,
    ("", "Equal"): equal,
    ("", "IsInf"): is_infinite,
    ("", "Mod"): modulo,
    ("", "OneHot"): one_hot,
    ("", "Pow"): power,
    ("", "SpaceToDepth"): space_to_depth,
    ("", "Split"): split,
    ("", "Swish"): swish,
    (_MS, "BiasGelu"): gelu,
    (_MS, "FastGelu"): fast_gelu,
    (_MS, "Gelu"): gelu,
    (_MS, "QuickGelu"): quick_gelu,
    **{("", name): functools.partial(depends_on_data, what) for name, what in _REFUSED.items()},
}
