"""Scales before a matrix product are applied after it, where they are part of its kernel.

PyTorch's attention scales queries and keys by the same root before it multiplies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax
from tvm.ir import Call

from tuner.graph.rewriter import array_of, op_name, producer

_MOVES = ("relax.reshape", "relax.permute_dims", "relax.expand_dims", "relax.squeeze")


def scaled_product(builder: relax.BlockBuilder, call: Call, args: Sequence[Any]) -> Any:
    """A float32 product of operands that scalars scale as the scaled product of the operands; None for other calls.

    In float16 the product of what is not scaled could overflow.
    """
    if op_name(call) != "relax.matmul" or any(str(side.ty.dtype) != "float32" for side in (call, *args)):
        return None
    (left, first), (right, second) = (_unscaled(builder, arg) for arg in args)
    if first * second == 1:
        return None
    product = builder.emit(Call(call.op, [left, right], call.attrs, call.ty_args))
    return builder.emit(relax.op.multiply(product, relax.const(first * second, "float32")))


def _unscaled(builder: relax.BlockBuilder, value: Any) -> tuple[Any, float]:
    """An operand without the scalar that multiplies it before it is reshaped or transposed, and that scalar."""
    moves: list[Call] = []
    call = producer(builder, value)
    while call is not None and op_name(call) in _MOVES:
        moves.append(call)
        call = producer(builder, call.args[0])
    name = "" if call is None else op_name(call)
    if call is None or name not in ("relax.multiply", "relax.divide"):
        return value, 1.0
    for x, factor in (call.args, call.args[::-1])[: 1 if name == "relax.divide" else 2]:
        scale = array_of(factor)
        if scale is not None and scale.shape == () and scale != 0:
            scale = 1 / scale if name == "relax.divide" else scale
            for move in reversed(moves):
                x = builder.emit(Call(move.op, [x, *move.args[1:]], move.attrs, move.ty_args))
            return x, float(scale)
    return value, 1.0
