"""Converters of PyTorch operators that stand before TVM's, which compute in float32 what is not, or take fewer forms.

Each takes a node of an exported program and TVM's importer, and returns what the node makes. ValueError: not this form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from tvm import relax

Converter = Callable[[Any, Any], Any]


def convolution(node: Any, importer: Any) -> Any:
    """`aten.convolution` in the precision of the data; other types than float32 of images only."""
    data, weight, bias, strides, padding, dilation, transposed, _, groups = importer.retrieve_args(node)
    if _dtype(data) == "float32":
        return importer._convolution(node)  # noqa: SLF001  TVM's own
    if transposed or len(importer.shape_of(data)) != 4:
        raise ValueError(f"of {_dtype(data)} only two-dimensional convolutions that are not transposed are converted")
    result = importer.block_builder.emit(
        relax.op.nn.conv2d(
            data, weight, strides=strides, padding=padding, dilation=dilation, groups=groups, data_layout="NCHW",
            kernel_layout="OIHW", out_dtype=_dtype(data),
        )
    )  # fmt: skip
    if bias is None:
        return result
    return importer.block_builder.emit(relax.op.add(result, relax.op.reshape(bias, (1, -1, 1, 1))))


def product(node: Any, importer: Any) -> Any:
    """`aten.mm`, `bmm` and `matmul` in the precision of the data."""
    a, b = importer.retrieve_args(node)
    return importer.block_builder.emit(relax.op.linear_algebra.matmul(a, b, out_dtype=_dtype(a)))


def addmm(node: Any, importer: Any) -> Any:
    """`aten.addmm` in the precision of the data."""
    bias, a, b = importer.retrieve_args(node)[:3]
    emit, dtype = importer.block_builder.emit, _dtype(a)
    alpha, beta = (node.kwargs.get(factor, 1) for factor in ("alpha", "beta"))
    result = emit(relax.op.linear_algebra.matmul(a, b, out_dtype=dtype))
    if alpha != 1:
        result = emit(relax.op.multiply(result, relax.const(alpha, dtype)))
    if beta == 0:
        return result
    if beta != 1:
        bias = emit(relax.op.multiply(bias, relax.const(beta, dtype)))
    return emit(relax.op.add(bias, result))


def divide_rounded(node: Any, importer: Any) -> Any:
    """`aten.div` with a rounding mode, in the type that torch gives the result."""
    a, b = importer.retrieve_args(node)[:2]
    emit, dtype = importer.block_builder.emit, made_dtype(node)
    mode = node.kwargs.get("rounding_mode")
    a, b = (_as(importer, operand, dtype) for operand in (a, b))
    if dtype.startswith("float") or dtype == "bfloat16":
        quotient = emit(relax.op.divide(a, b))
        return quotient if mode is None else emit((relax.op.floor if mode == "floor" else relax.op.trunc)(quotient))
    if mode != "floor":
        raise ValueError("whole numbers are divided with rounding_mode='floor' only")
    return emit(relax.op.floor_divide(a, b))


def promoted(op: Callable[..., Any]) -> Converter:
    """An arithmetic operator of two operands, which are first of the type that torch gives the result."""

    def convert(node: Any, importer: Any) -> Any:
        operands = [_as(importer, operand, made_dtype(node)) for operand in importer.retrieve_args(node)[:2]]
        alpha = node.kwargs.get("alpha", 1)
        if alpha != 1:
            factor = relax.const(alpha, made_dtype(node))
            operands[1] = importer.block_builder.emit(relax.op.multiply(operands[1], factor))
        return importer.block_builder.emit(op(*operands))

    return convert


def compared(op: Callable[..., Any]) -> Converter:
    """A comparison with a number, which is not made a whole one where the tensor has whole numbers."""

    def convert(node: Any, importer: Any) -> Any:
        tensor, number = importer.retrieve_args(node)
        dtype = str(torch.result_type(node.args[0].meta["val"], number)).removeprefix("torch.")
        dtype = "int8" if dtype == "bool" else dtype
        return importer.block_builder.emit(op(_as(importer, tensor, dtype), relax.const(number, dtype)))

    return convert


def same(op: Callable[..., Any]) -> Converter:
    """Whether two tensors are equal or not; truth values as whole numbers, since LLVM refuses TVM's code for them."""

    def convert(node: Any, importer: Any) -> Any:
        tensors = [argument.meta["val"] for argument in node.args]
        dtype = str(torch.result_type(*tensors)).removeprefix("torch.")
        operands = (_as(importer, o, "int8" if dtype == "bool" else dtype) for o in importer.retrieve_args(node))
        return importer.block_builder.emit(op(*operands))

    return convert


def cumulative_sum(node: Any, importer: Any) -> Any:
    """`aten.cumsum` in the type of its result: sums of truth values and small integers are int64."""
    tensor, axis = importer.retrieve_args(node)[:2]
    dtype = made_dtype(node)
    return importer.block_builder.emit(relax.op.cumsum(_as(importer, tensor, dtype), axis, dtype))


def selected(node: Any, importer: Any) -> Any:
    """`aten.select`; TVM's own reads before the beginning where the index counts from the end."""
    tensor, axis, index = importer.retrieve_args(node)
    place = relax.const(index % _extents(tensor)[axis], "int64")
    return importer.block_builder.emit(relax.op.take(tensor, place, axis=axis, mode="fast"))


def indexed(node: Any, importer: Any) -> Any:
    """`aten.index` with tensors of whole numbers, which may count from the end; None stands for a whole axis."""
    data, indices = importer.retrieve_args(node)[:2]
    emit, extents = importer.block_builder.emit, _extents(data)
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    if any(_dtype(indices[axis]) == "bool" for axis in axes):
        raise ValueError("how many elements a mask takes depends on the data")
    places = [_from_begin(importer, indices[axis], extents[axis]) for axis in axes]
    if len(axes) == 1:
        return emit(relax.op.take(data, places[0], axis=axes[0]))
    others = [axis for axis in range(len(extents)) if axis not in axes]
    if axes != list(range(len(axes))):
        data = emit(relax.op.permute_dims(data, [*axes, *others]))
    result = emit(relax.op.index_tensor(data, places))
    side_by_side = axes == list(range(axes[0], axes[-1] + 1))
    before = axes[0] if side_by_side else 0  # axes that stand before those that the indices make
    if not before:
        return result
    made = len(_extents(result)) - len(others)
    order = [*range(made, made + before), *range(made), *range(made + before, len(_extents(result)))]
    return emit(relax.op.permute_dims(result, order))


def _from_begin(importer: Any, index: Any, extent: int) -> Any:
    """An index whose negative numbers count from the end, as one without."""
    emit, dtype = importer.block_builder.emit, _dtype(index)
    shifted = emit(relax.op.add(index, relax.const(extent, dtype)))
    return emit(relax.op.where(emit(relax.op.less(index, relax.const(0, dtype))), shifted, index))


def joined(node: Any, importer: Any) -> Any:
    """`aten.cat`, which leaves out tensors of the shape (0,), whatever the shape of the others."""
    tensors, *rest = importer.retrieve_args(node)
    axis = rest[0] if rest else node.kwargs.get("dim", 0)
    dtype = made_dtype(node)
    kept = [_as(importer, tensor, dtype) for tensor in tensors if _extents(tensor) != (0,)] or tensors[:1]
    return importer.block_builder.emit(relax.op.concat(kept, axis=axis)) if len(kept) > 1 else kept[0]


def to_copy(node: Any, importer: Any) -> Any:
    """`aten._to_copy`, also of a number that was written in the model."""
    if isinstance(node.args[0], (bool, int, float)):
        return relax.const(node.args[0], str(node.kwargs["dtype"]).removeprefix("torch."))
    return importer._to_copy(node)  # noqa: SLF001  TVM's own


CONVERTERS: Mapping[str, Converter] = {
    "_to_copy.default": to_copy,
    "convolution.default": convolution,
    "mm.default": product,
    "bmm.default": product,
    "matmul.default": product,
    "addmm.default": addmm,
    "div.Tensor_mode": divide_rounded,
    "div.Tensor": promoted(relax.op.divide),
    "div.Scalar": promoted(relax.op.divide),
    **{f"{name}.{form}": promoted(op) for name, op in (("add", relax.op.add), ("mul", relax.op.multiply),
                                                       ("sub", relax.op.subtract)) for form in ("Tensor", "Scalar")},
    **{f"{name}.Scalar": compared(getattr(relax.op, op)) for name, op in (
        ("eq", "equal"), ("ne", "not_equal"), ("ge", "greater_equal"), ("gt", "greater"), ("le", "less_equal"),
        ("lt", "less"))},
    "eq.Tensor": same(relax.op.equal),
    "ne.Tensor": same(relax.op.not_equal),
    "cumsum.default": cumulative_sum,
    "select.int": selected,
    "index.Tensor": indexed,
    "cat.default": joined,
}  # fmt: skip
"""By the name of the operator, without its namespace."""


def made_dtype(node: Any) -> str:
    """The type that torch gives what a node makes."""
    return str(node.meta["val"].dtype).removeprefix("torch.")


def _as(importer: Any, operand: Any, dtype: str) -> Any:
    """An operand in a type: a number as a constant, a tensor of another type converted."""
    if isinstance(operand, (bool, int, float)):
        return relax.const(operand, dtype)
    if _dtype(operand) == dtype:
        return operand
    return importer.block_builder.emit(relax.op.astype(operand, dtype))


def _extents(tensor: Any) -> tuple[int, ...]:
    return tuple(int(extent) for extent in tensor.ty.shape)


def _dtype(tensor: Any) -> str:
    return str(tensor.ty.dtype)
