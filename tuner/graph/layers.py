"""A model's layers: the products and convolutions with constant weights, which may take narrower operands.

They are numbered in the order of a cleaned module, so that a number means the same layer in each process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call

from tuner.graph.convolution import Geometry
from tuner.graph.rewriter import array_of, op_name, shape_of

_CONVOLUTIONS = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d")


@dataclass(frozen=True)
class Layer:
    """A layer of a cleaned module: its number, what it computes in words, and the multiply-adds of one call."""

    number: int
    name: str
    multiply_adds: int


def layers(module: tvm.IRModule) -> list[Layer]:
    """The layers of `main` in float32, in order."""
    return [Layer(number, *_described(call)) for number, call in enumerate(layer_calls(module))]


def is_layer(call: Call) -> bool:
    """Whether a call is a float32 product with a constant matrix, or a convolution that sums over channels.

    Depthwise convolutions are none: they sum over few elements, and memory is what they take.
    """
    name = op_name(call)
    if name not in (*_CONVOLUTIONS, "relax.matmul") or any(str(t.ty.dtype) != "float32" for t in (*call.args, call)):
        return False
    weight = array_of(call.args[1])
    if weight is None or array_of(call.args[0]) is not None or 0 in (*weight.shape, *shape_of(call)):
        return False
    if name == "relax.matmul":
        return weight.ndim >= 2
    plain = str(call.attrs.data_layout).startswith("NC") and str(call.attrs.kernel_layout).startswith("OI")
    return plain and weight.shape[1] > 1


def recomputed(call: Call, data: Any, weight: Any, sums: str, padding: Any = None) -> Call:
    """A product or convolution as `call` says it, of other operands, with sums of another dtype; a convolution perhaps
    with another padding."""
    if op_name(call) == "relax.matmul":
        return relax.op.matmul(data, weight, out_dtype=sums)
    a = call.attrs
    convolve = getattr(relax.op.nn, op_name(call).rpartition(".")[2])
    padding = a.padding if padding is None else padding
    return convolve(
        data, weight, a.strides, padding, a.dilation, a.groups, a.data_layout, a.kernel_layout, a.out_layout, sums
    )


def layer_calls(module: tvm.IRModule) -> list[Call]:
    """The calls of the layers of `main`, in order."""
    calls = (b.value for block in module["main"].body.blocks for b in block.bindings if isinstance(b.value, Call))
    return [call for call in calls if is_layer(call)]


def _described(call: Call) -> tuple[str, int]:
    data, weight = shape_of(call.args[0]), shape_of(call.args[1])
    if op_name(call) == "relax.matmul":
        name = f"matmul {_times(data)} by {_times(weight)}"
        return name, math.prod(shape_of(call)) * weight[-2]
    hint = Geometry.of(call.attrs, data, weight).hint() if len(data) == 4 else str(op_name(call)).rpartition(".")[2]
    return f"{hint} {_times(data[1:])} to {weight[0]}", math.prod(shape_of(call)) * math.prod(weight[1:])


def _times(shape: Any) -> str:
    return "x".join(map(str, shape))
