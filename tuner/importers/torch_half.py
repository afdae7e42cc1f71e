"""Converters for models in half precision: TVM's own return float32, which does not fit what follows in float16."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def convolution(node: Any, importer: Any) -> Any:
    """`aten.convolution` of images, in the precision of the data. Raises ValueError for others."""
    from tvm import relax

    data, weight, bias, strides, padding, dilation, transposed, _, groups = importer.retrieve_args(node)
    if transposed or len(importer.shape_of(data)) != 4:
        raise ValueError("in half precision only two-dimensional convolutions that are not transposed are converted")
    result = importer.block_builder.emit(
        relax.op.nn.conv2d(
            data, weight, strides=strides, padding=padding, dilation=dilation, groups=groups, data_layout="NCHW",
            kernel_layout="OIHW", out_dtype=_dtype(data),
        )
    )  # fmt: skip
    if bias is None:
        return result
    return importer.block_builder.emit(relax.op.add(result, relax.op.reshape(bias, (1, -1, 1, 1))))


def addmm(node: Any, importer: Any) -> Any:
    """`aten.addmm` in the precision of the data. Raises ValueError where its factors are not 1."""
    from tvm import relax

    if any(node.kwargs.get(factor, 1) != 1 for factor in ("alpha", "beta")):
        raise ValueError("in half precision addmm is converted only without factors")
    bias, a, b = importer.retrieve_args(node)[:3]
    product = importer.block_builder.emit(relax.op.linear_algebra.matmul(a, b, out_dtype=_dtype(a)))
    return importer.block_builder.emit(relax.op.add(bias, product))


CONVERTERS: Mapping[str, Callable[[Any, Any], Any]] = {"convolution.default": convolution, "addmm.default": addmm}
"""By the name of the operator, as `from_exported_program` takes them."""


def _dtype(tensor: Any) -> str:
    return str(tensor.ty.dtype)
