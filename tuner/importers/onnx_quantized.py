"""Whether the quantized operators of an ONNX model make sense: scales, zero points, types and how they fit together.

What is known from the file alone is looked at; what a model computes itself is not. ONNX's own checks do not look at
values, and say of a contradiction neither which node has it nor what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tuner.errors import ModelError
from tuner.importers.onnx_tensors import array_of
from tuner.protocols import Array

_HINT = "the quantizer that wrote the model is the place to mend it"
_STEPS = ("int", "uint", "float8", "float4")
"""How the names of types begin that hold steps."""


class _Contradiction(ValueError):
    """What is wrong with a node."""


@dataclass(frozen=True)
class _Known:
    """What the file says of its tensors: `stored` ones, `types` and `shapes` (with None for extents that are open)."""

    stored: Mapping[str, onnx.TensorProto]
    types: Mapping[str, str]
    shapes: Mapping[str, tuple[int | None, ...]]


@dataclass(frozen=True)
class _Looked:
    """A node with what is known of its inputs."""

    node: onnx.NodeProto
    known: _Known

    def name(self, index: int) -> str:
        return self.node.input[index] if index < len(self.node.input) else ""

    def array(self, index: int) -> Array | None:
        tensor = self.known.stored.get(self.name(index))
        return None if tensor is None else array_of(tensor)

    def dtype(self, index: int) -> str | None:
        return self.known.types.get(self.name(index))

    def shape(self, index: int) -> tuple[int | None, ...] | None:
        return self.known.shapes.get(self.name(index))

    def attribute(self, name: str, default: int) -> int:
        found = (a for a in self.node.attribute if a.name == name)
        return next((int(a.i) for a in found), default)


def check_quantized(model: onnx.ModelProto, source: str) -> None:
    """Raises ModelError, naming the node, for the first quantized operator that contradicts itself."""
    if not any(node.op_type in _CHECKS for node in model.graph.node):
        return
    known = _known(model.graph)
    for node in model.graph.node:
        check = _CHECKS.get(node.op_type)
        if check is None or node.domain not in ("", "ai.onnx", "com.microsoft"):
            continue
        try:
            check(_Looked(node, known))
        except _Contradiction as error:
            named = f"{node.op_type} of node {node.name or node.output[0]!r}"
            raise ModelError(source, f"operator {named}: {error}", _HINT) from None


def _known(graph: onnx.GraphProto) -> _Known:
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            stored |= dict((node.output[0], a.t) for a in node.attribute if a.name == "value")
    types = {name: _dtype(tensor.data_type) for name, tensor in stored.items()}
    shapes: dict[str, tuple[int | None, ...]] = {name: tuple(tensor.dims) for name, tensor in stored.items()}
    for value in (*graph.input, *graph.value_info):
        tensor = value.type.tensor_type
        if value.name not in stored and tensor.elem_type:
            types[value.name] = _dtype(tensor.elem_type)
            if tensor.HasField("shape"):
                dims = tensor.shape.dim
                shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
    return _Known(stored, types, shapes)


def _dtype(code: int) -> str:
    try:
        return str(helper.tensor_dtype_to_np_dtype(code).name)
    except (KeyError, ValueError, TypeError):
        return "?"


# --- parameters -----------------------------------------------------------------------------------


def _parameters(at: _Looked, scale: int, zero: int, what: str, quantized: str | None = None) -> tuple[int, int]:
    """Check a scale and its zero point; how many of each there are, 0 where that is not known. `quantized`: the type of
    what they belong to."""
    steps, offset = at.array(scale), at.array(zero)
    kind = at.dtype(scale)
    if kind is not None and not kind.startswith(("float", "bfloat")):
        raise _Contradiction(f"the scale of {what} is {kind}, and scales are floats")
    if steps is not None:
        _check_scale(np.asarray(steps, np.float64), what)
    zero_kind = at.dtype(zero)
    if zero_kind is not None and not zero_kind.startswith(_STEPS):
        raise _Contradiction(f"the zero point of {what} is {zero_kind}, and zero points are of the type of its steps")
    if zero_kind is not None and quantized is not None and zero_kind != quantized:
        raise _Contradiction(f"the zero point of {what} is {zero_kind}, and its steps are {quantized}")
    counts = tuple(0 if array is None or array.ndim > 1 else array.size for array in (steps, offset))
    if steps is not None and offset is not None and counts[0] != counts[1] and 1 not in counts:
        raise _Contradiction(f"{what} has {counts[0]} scales and {counts[1]} zero points")
    return counts[0], counts[1]


def _check_scale(scale: Array, what: str) -> None:
    if not scale.size:
        raise _Contradiction(f"the scale of {what} is empty")
    wrong = scale[~(np.isfinite(scale) & (scale > 0))]
    if wrong.size:
        raise _Contradiction(f"a scale of {what} is {wrong.flat[0]:g}, and scales are finite numbers above 0")


def _one(counts: tuple[int, int], what: str) -> None:
    if max(counts) > 1:
        raise _Contradiction(f"{what} has {max(counts)} scales or zero points, and one holds for all of it")


def _one_each(counts: tuple[int, int], extent: int | None, what: str) -> None:
    """One, or one for each of `extent` places."""
    for count in counts:
        if count > 1 and extent is not None and count != extent:
            raise _Contradiction(f"{what}: {count} scales or zero points for {extent} of them")


# --- operators ------------------------------------------------------------------------------------


def _linear(at: _Looked) -> None:
    quantizes = at.node.op_type == "QuantizeLinear"
    given = at.dtype(0)
    if given is not None and given != "?":
        wide = given.startswith(("float", "bfloat")) and not given.startswith(_STEPS)
        if quantizes and not wide and given != "int32":
            raise _Contradiction(f"what it quantizes is {given}, not floats")
        if not quantizes and wide:
            raise _Contradiction(f"what it dequantizes is {given}, not steps")
    counts = _parameters(at, 1, 2, "its input", None if quantizes else given)
    zero, kind = at.array(2), at.dtype(2)
    if given == "int32" and not quantizes and zero is not None and np.any(zero):
        raise _Contradiction("a zero point of int32 steps is not 0")
    wanted = at.attribute("output_dtype", 0)
    if quantizes and wanted and kind is not None and _dtype(wanted) != kind:
        raise _Contradiction(f"output_dtype is {_dtype(wanted)}, and its zero point is {kind}")
    _check_axis(at, counts)


def _check_axis(at: _Looked, counts: tuple[int, int]) -> None:
    scale, shape = at.shape(1), at.shape(0)
    block, axis = at.attribute("block_size", 0), at.attribute("axis", 1)
    if block < 0:
        raise _Contradiction(f"block_size is {block}")
    if scale is None or ((len(scale) == 0 or scale == (1,)) and max(counts) <= 1):
        return
    if not block and len(scale) > 1:
        raise _Contradiction(f"its scale has {len(scale)} axes, and block_size says nothing of blocks")
    if shape is None:
        return
    if not -len(shape) <= axis < len(shape):
        raise _Contradiction(f"axis is {axis}, and its input has {len(shape)} axes")
    extent = shape[axis]
    if not block:
        _one_each(counts, extent, f"axis {axis}")
    elif len(scale) != len(shape) or (extent is not None and scale[axis] != -(-extent // block)):
        raise _Contradiction(f"blocks of {block} along axis {axis} of {_shown(shape)}, and scales {_shown(scale)}")


def _linear_conv(at: _Looked) -> None:
    weight = at.shape(3)
    filters = weight[0] if weight else None
    _one(_parameters(at, 1, 2, "the data", at.dtype(0)), "the data")
    _one_each(_parameters(at, 4, 5, "the weight", at.dtype(3)), filters, "the weight's filters")
    _one(_parameters(at, 6, 7, "the output"), "the output")
    if at.dtype(8) not in (None, "int32"):
        raise _Contradiction(f"the bias is {at.dtype(8)}, not int32")
    bias = at.shape(8)
    if bias is not None and filters is not None and bias != (filters,):
        raise _Contradiction(f"the bias has {_shown(bias)} elements for {filters} filters")
    _check_channels(at, 0, 3)


def _conv_integer(at: _Looked) -> None:
    weight = at.shape(1)
    _zero_point(at, 2, 0, "the data", 1)
    _zero_point(at, 3, 1, "the weight", weight[0] if weight else None)
    _check_channels(at, 0, 1)


def _check_channels(at: _Looked, data: int, weight: int) -> None:
    image, kernel, groups = at.shape(data), at.shape(weight), at.attribute("group", 1)
    if not image or not kernel or len(image) != len(kernel) or len(image) < 3:
        return
    if groups < 1 or (kernel[0] is not None and kernel[0] % groups):
        raise _Contradiction(f"{groups} groups do not divide {kernel[0]} filters")
    if image[1] is not None and kernel[1] is not None and image[1] != kernel[1] * groups:
        raise _Contradiction(f"{image[1]} channels of data, and filters for {kernel[1]} in each of {groups} groups")


def _linear_matmul(at: _Looked) -> None:
    left, right = at.shape(0), at.shape(3)
    rows, columns = left[-2] if left and len(left) > 1 else 1, right[-1] if right else None
    _one_each(_parameters(at, 1, 2, "the left operand", at.dtype(0)), rows, "rows of the left operand")
    _one_each(_parameters(at, 4, 5, "the right operand", at.dtype(3)), columns, "columns of the right operand")
    _parameters(at, 6, 7, "the output")
    _check_inner(left, right)


def _matmul_integer(at: _Looked) -> None:
    left, right = at.shape(0), at.shape(1)
    _zero_point(at, 2, 0, "the left operand", left[-2] if left and len(left) > 1 else 1)
    _zero_point(at, 3, 1, "the right operand", right[-1] if right else None)
    _check_inner(left, right)


def _check_inner(left: tuple[int | None, ...] | None, right: tuple[int | None, ...] | None) -> None:
    if not left or not right:
        return
    inner = right[-2] if len(right) > 1 else right[0]
    if left[-1] is not None and inner is not None and left[-1] != inner:
        raise _Contradiction(f"rows of {left[-1]} elements times columns of {inner}")


def _zero_point(at: _Looked, zero: int, steps: int, what: str, extent: int | None) -> None:
    kind, given, array = at.dtype(zero), at.dtype(steps), at.array(zero)
    if kind is not None and given is not None and kind != given:
        raise _Contradiction(f"the zero point of {what} is {kind}, and its steps are {given}")
    if array is not None and array.size > 1 and extent is not None and array.size != extent:
        raise _Contradiction(f"{what}: {array.size} zero points for {extent} of them")


def _shown(shape: Any) -> str:
    return "x".join("?" if extent is None else str(extent) for extent in shape)


_CHECKS: Mapping[str, Callable[[_Looked], None]] = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _linear,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _linear_conv,
    "QLinearMatMul": _linear_matmul,
    "QuantizeLinear": _linear,
}
