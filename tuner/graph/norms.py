"""Root mean square norms, which frameworks export operator by operator, as one operator and so one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import Call

from tuner.graph.rewriter import Array, array_of, op_name, producer, shape_of


def rms_norm(builder: relax.BlockBuilder, call: Call, args: Sequence[Any]) -> Any:
    """`x / sqrt(mean(x^2) + e) * w`, w a constant vector along the last axis, as one operator; None for other calls."""
    for scaled, weight in (args, args[::-1]) if op_name(call) == "relax.multiply" else ():
        vector = array_of(weight)
        factors = _operands(builder, scaled, "relax.multiply")
        if vector is None or factors is None or vector.size != shape_of(call)[-1] or vector.shape[-1] != vector.size:
            continue
        for x, inverse in (factors, factors[::-1]):
            epsilon = _epsilon(builder, x, inverse)
            if epsilon is not None and shape_of(x) == shape_of(call):
                scale = relax.const(vector.reshape(-1), str(weight.ty.dtype))
                return builder.emit(relax.op.nn.rms_norm(x, scale, [-1], epsilon))
    return None


def _epsilon(builder: relax.BlockBuilder, x: Any, inverse: Any) -> float | None:
    """e, where an expression is 1 / sqrt(mean(x^2) + e), the mean along the last axis; else None."""
    root = _operands(builder, inverse, "relax.rsqrt")
    total = _operands(builder, root[0], "relax.add") if root else None
    for mean, constant in (total, total[::-1]) if total else ():
        value: Array | None = array_of(constant)
        reduced = producer(builder, mean)
        if value is None or value.size != 1 or reduced is None or op_name(reduced) != "relax.mean":
            continue
        squares = _operands(builder, reduced.args[0], "relax.multiply")
        axes = [int(axis) % len(shape_of(x)) for axis in reduced.attrs.axis or ()]
        along = axes == [len(shape_of(x)) - 1] and bool(reduced.attrs.keepdims)
        if along and squares is not None and all(factor.same_as(x) for factor in squares):
            return float(np.asarray(value).reshape(()))
    return None


def _operands(builder: relax.BlockBuilder, value: Any, name: str) -> list[Any] | None:
    """The operands of the call of an operator that a variable was bound to; None where it was bound to another."""
    call = producer(builder, value)
    return list(call.args) if call is not None and op_name(call) == name else None
