"""Softmax for CPUs over rows that vectors do not divide, e.g. the 197 tokens of a vision transformer."""

from __future__ import annotations

import math
from typing import Any

from tvm import te, tirx
from tvm.ir import Call

from tuner.graph.rewriter import shape_of

VECTOR = 16
"""fp32 lanes that rows are padded to: an AVX-512 register, two of AVX2, four of SSE and Neon."""


def softmax_rules() -> dict[str, Any]:
    """For `relax.transform.LegalizeOps`: long uneven rows of float32 by `padded_softmax`, others as TVM does."""
    return {"relax.nn.softmax": _softmax}


def _softmax(builder: Any, call: Call) -> Any:
    *rows, length = shape_of(call)
    last = int(call.attrs.axis) in (-1, len(rows))
    if last and length >= 2 * VECTOR and length % VECTOR and str(call.ty.dtype) == "float32":
        return builder.call_te(padded_softmax, call.args[0], primfunc_name_hint="softmax")
    return call.op.get_attr("FLegalize")(builder, call)


def padded_softmax(x: te.Tensor) -> te.Tensor:
    """The softmax of a float32 tensor along its last axis, all reductions of whole vectors.

    The kernel pads each row with minus infinity, which changes neither the maximum nor the sum. The powers are
    multiplied with the inverse of their sum, for half a unit in the last place: dividing vectors takes much longer.
    """
    *rows, length = (int(extent) for extent in x.shape)
    padded = -(-length // VECTOR) * VECTOR
    k_max, k_sum = te.reduce_axis((0, padded), "k"), te.reduce_axis((0, padded), "k")
    least = tirx.const(-math.inf, "float32")
    row = te.compute((*rows, padded), lambda *i: tirx.if_then_else(i[-1] < length, x(*i), least), "softmax_pad")
    most = te.compute(rows, lambda *i: te.max(row(*i, k_max), axis=k_max), "softmax_max")
    powers = te.compute((*rows, padded), lambda *i: te.exp(row(*i) - most(*i[:-1])), "softmax_exp")
    total = te.compute(rows, lambda *i: te.sum(powers(*i, k_sum), axis=k_sum), "softmax_sum")
    return te.compute(x.shape, lambda *i: powers(*i) * (1 / total(*i[:-1])), "softmax_norm")
