"""Evaluating operators whose arguments are constants: any operator that becomes one TensorIR function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax, tirx
from tvm.ir import Call

from kernels import reference
from tuner.graph.rewriter import Array, array_of, op_name, shape_of

_MOST_NEW_BYTES = 1 << 22
"""A result larger than this, and larger than its arguments, is computed by the model instead of stored in it."""


def fold(call: Call, args: Sequence[Any]) -> Array | None:
    """The value of an operator call whose arguments are the given values; None where it stays.

    Floating point is evaluated in float64 by `kernels.reference` and rounded once to the call's dtype. A call stays
    that reads what is not constant, has effects, makes more than it reads (over 4 MiB), or has no rule there.
    """
    constants: list[Any] = []
    operands = [_parameters(arg, constants) for arg in args]
    pure = op_name(call) and call.op.get_attr("FPurity")
    if not pure or any(operand is None for operand in operands) or not hasattr(call.ty, "dtype"):
        return None
    dtype = str(call.ty.dtype)
    try:
        size = math.prod(shape_of(call)) * np.dtype(dtype).itemsize
        arrays = [np.asarray(constant.value.numpy()) for constant, _ in constants]
    except (TypeError, ValueError):  # a symbolic shape, or a dtype that numpy does not have
        return None
    if size > max(_MOST_NEW_BYTES, sum(array.nbytes for array in arrays)):
        return None
    if op_name(call) in ("relax.permute_dims", "relax.reshape"):  # of weights, gigabytes in float64
        return _moved(call, arrays[0])
    if op_name(call) == "relax.cumsum" and not call.attrs.exclusive:  # TVM makes a library call of it
        return np.cumsum(arrays[0], call.attrs.axis, dtype)
    made = _legalized(Call(call.op, operands, call.attrs, call.ty_args), [parameter for _, parameter in constants])
    if made is None or array_of(made) is not None:
        return array_of(made)
    try:
        [value] = reference.evaluate(made, arrays)
    except (reference.Unsupported, ValueError):
        return None
    return value.astype(dtype)


def _moved(call: Call, array: Array) -> Array:
    """A constant reshaped, or with its axes in another order."""
    if op_name(call) == "relax.permute_dims":
        array = array.transpose([int(axis) for axis in call.attrs.axes] if call.attrs.axes else None)
    return np.ascontiguousarray(array).reshape(shape_of(call))


def _parameters(value: Any, constants: list[Any]) -> Any:
    """An argument with a parameter for each constant in it, noted in `constants`; None where it is no constant."""
    if isinstance(value, (relax.ShapeExpr, tirx.IntImm, tirx.FloatImm)):
        return value
    if isinstance(value, tuple):
        fields = [_parameters(field, constants) for field in value]
        return None if any(field is None for field in fields) else relax.Tuple(fields)
    if array_of(value) is None:
        return None
    constants.append((value, relax.Var(f"c{len(constants)}", value.ty)))
    return constants[-1][1]


def _legalized(call: Call, parameters: Sequence[Any]) -> Any:
    """The TensorIR function, or the constant, that TVM makes of a call of `parameters`; None where it is neither."""
    builder = relax.BlockBuilder()
    with builder.function("main", list(parameters)):
        builder.emit_func_output(builder.emit(call))
    module = relax.transform.LegalizeOps()(builder.get())
    values = [binding.value for block in module["main"].body.blocks for binding in block.bindings]
    calls = [value for value in values if isinstance(value, Call)]
    if not calls:
        return values[-1] if array_of(values[-1]) is not None else None
    return module[calls[0].args[0]] if [op_name(made) for made in calls] == ["relax.call_tir"] else None
