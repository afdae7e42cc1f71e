"""One node of an ONNX graph as converters see it, and the small relax expressions that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, te
from tvm.ir import GenericConst

from tuner.protocols import Array


class Unsupported(ValueError):
    """A form of an operator that has no converter; the message says which."""


@dataclass(frozen=True)
class Node:
    """A node: `inputs` are relax expressions, None for those left out; `attributes` are as onnx.helper reads them.

    `outputs` tells which outputs the model names, by position.
    """

    builder: relax.BlockBuilder
    inputs: Sequence[Any]
    attributes: Mapping[str, Any]
    opset: int
    outputs: Sequence[bool] = (True,)

    def input(self, index: int) -> Any:
        """An input, or None when it was left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def shape(self, index: int = 0) -> tuple[int, ...]:
        return shape_of(self.inputs[index])

    def dtype(self, index: int = 0) -> str:
        return str(self.inputs[index].ty.dtype)

    def constant(self, index: int) -> Array | None:
        """The value of an input that must be known; None when it was left out. Raises Unsupported."""
        value = self.input(index)
        if value is None:
            return None
        array = array_of(value)
        if array is None:
            raise Unsupported(f"input {index} is computed by the model, and only a constant one is supported")
        return array

    def required(self, index: int) -> Array:
        """The value of an input that must be there and be known. Raises Unsupported."""
        array = self.constant(index)
        if array is None:
            raise Unsupported(f"input {index} is left out")
        return array

    def ints(self, name: str, index: int) -> list[int] | None:
        """What older operator sets have as an attribute and newer ones as a constant input; None where neither is."""
        if name in self.attributes:
            return [int(value) for value in self.attributes[name]]
        array = self.constant(index)
        return None if array is None else [int(value) for value in array.reshape(-1)]

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def wants(self, output: int) -> bool:
        """Whether the model names an output."""
        return output < len(self.outputs) and self.outputs[output]

    def emit(self, expr: Any) -> Any:
        return self.builder.emit(expr)

    def te(self, function: Callable[..., Any], *args: Any, name: str) -> Any:
        """One kernel made of a tensor expression."""
        return self.builder.emit_te(function, *args, primfunc_name_hint=name)


def shape_of(expr: Any) -> tuple[int, ...]:
    """The static shape of a tensor. Raises Unsupported where an extent is not known."""
    try:
        return tuple(int(extent) for extent in expr.ty.shape)
    except (TypeError, AttributeError) as error:
        raise Unsupported("a shape that depends on the data") from error


def array_of(expr: Any) -> Array | None:
    """The value of a constant expression, or None."""
    return np.asarray(expr.value.numpy()) if isinstance(expr, GenericConst) else None


Converter = Callable[[Node], Any]
"""Gives a relax expression, or a tuple of them for several outputs; None for a form that is TVM's to convert. Raises
Unsupported."""


def const(value: Any, dtype: str) -> Any:
    """A constant of that dtype; relax.const without one would narrow int64 and float64."""
    return relax.const(np.asarray(value).astype(_numpy(dtype)), dtype)


def _numpy(dtype: str) -> Any:
    if dtype == "bfloat16":
        import ml_dtypes

        return ml_dtypes.bfloat16
    return np.dtype(dtype)


def is_float(dtype: str) -> bool:
    return "float" in dtype


def axis_of(axis: int, rank: int) -> int:
    """The axis counted from the front."""
    return axis + rank if axis < 0 else axis


def like(value: Any, reference: Any) -> Any:
    """A scalar constant of the dtype of a tensor."""
    return const(value, str(reference.ty.dtype))


def in_float32(node: Node, convert: Callable[[Any], Any], value: Any) -> Any:
    """A function of float32 applied to a tensor of any floating dtype."""
    dtype = str(value.ty.dtype)
    if dtype not in ("float16", "bfloat16"):
        return node.emit(convert(value))
    return node.emit(relax.op.astype(convert(node.emit(relax.op.astype(value, "float32"))), dtype))


def table(values: Sequence[int] | Array, dtype: str = "int32") -> Any:
    """A constant vector of integers, for kernels that look indices up."""
    return const(np.asarray(values), dtype)


__all__ = [
    "Any", "Array", "Converter", "Node", "Unsupported", "array_of", "axis_of", "const", "in_float32", "is_float",
    "like", "relax", "shape_of", "table", "te",
]  # fmt: skip
