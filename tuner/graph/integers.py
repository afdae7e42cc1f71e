"""Products of quantized values in integers: what a model says as dequantize, product, quantize.

The zero point of the data goes into a constant sum (of each column of the weight), a quantized bias is added in
integers, and one multiplication scales the sum. What only moves elements moves steps. All else is computed in float32,
as the standard says it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call

from tuner.graph.layers import recomputed
from tuner.graph.quantized import MOST_SUM, Steps, Total, along, largest_sum, narrow_weight, steps_of
from tuner.graph.rewriter import Array, Rewriter, array_of, constant_of, op_name, shape_of

_CONVOLUTIONS = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d")
_MOVES = {
    "relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten", "relax.permute_dims",
    "relax.strided_slice", "relax.broadcast_to", "relax.nn.max_pool1d", "relax.nn.max_pool2d", "relax.take",
}  # fmt: skip
"""What gives elements of its first operand, or the largest of some."""


def in_integers(module: tvm.IRModule, data_bytes: str = "uint8") -> tvm.IRModule:
    """The module with its quantized products in integers, and without `relax.quantize` and `relax.dequantize`.

    `data_bytes`: the type in which quantized data are held, whichever of uint8 and int8 the model says.
    """
    calls = (b.value for block in module["main"].body.blocks for b in block.bindings if isinstance(b.value, Call))
    if not any(op_name(call) in ("relax.quantize", "relax.dequantize") for call in calls):
        return module
    return Integers(module, data_bytes).run()


@dataclass(frozen=True)
class _Shifted:
    """Quantized to the other type of bytes than they are held in: with 128 more as uint8, with 128 less as int8."""

    expr: Any


class Integers(Rewriter):
    """Rewrites `main`. Dequantized values and sums are held back until it is known what reads them."""

    def __init__(self, module: tvm.IRModule, data_bytes: str) -> None:
        super().__init__(module)
        self._held = data_bytes
        self._other, self._more = ("int8", 128) if data_bytes == "uint8" else ("uint8", -128)

    def visit(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        name = op_name(call)
        made: Any = None
        if name in ("relax.quantize", "relax.dequantize") and any(array_of(a) is None for a in args[1:3]):
            return self._computed(call, [self.materialize(a) for a in args])
        if name == "relax.dequantize":
            return self._dequantized(call, args)
        if name == "relax.quantize":
            return self._quantized(call, args)
        if name == "relax.matmul":
            made = self._matmul(call, args)
        elif name in _CONVOLUTIONS:
            made = self._convolution(call, args)
        elif name in _MOVES:
            made = self._moved(call, args)
        elif name == "relax.concat":
            made = self._concat(call, args)
        elif name == "relax.nn.relu":
            made = self._relu(args[0])
        elif name == "relax.add":
            made = self._biased(args)
        return super().visit(var, call, args) if made is None else made

    # --- values ---------------------------------------------------------------------------------

    def materialize(self, value: Any) -> Any:
        if isinstance(value, _Shifted):
            wide = self.emit(relax.op.astype(value.expr, "int16"))
            steps = relax.op.subtract(wide, relax.const(self._more, "int16"))
            return self.emit(relax.op.astype(steps, self._other))
        if isinstance(value, Total):
            scale = along(value.scale, len(shape_of(value.expr)), value.axis).astype(np.float32)
            wide = self.emit(relax.op.astype(self._summed(value), "float32"))
            return self.emit(relax.op.multiply(wide, constant_of(scale)))
        if not isinstance(value, Steps):
            return super().materialize(value)
        known = value.constant()
        if known is not None:
            return constant_of(known)
        rank = len(value.shape)
        wide = value.expr
        if value.zero.any():
            offset = constant_of(along(value.zero, rank, value.axis).astype(np.int32))
            wide = self.emit(relax.op.subtract(relax.op.astype(wide, "int32"), offset))
        scale = constant_of(along(value.scale, rank, value.axis).astype(np.float32))
        return self.emit(relax.op.multiply(self.emit(relax.op.astype(wide, "float32")), scale))

    def _summed(self, total: Total) -> Any:
        """The integers of a sum."""
        if total.offset is None or not total.offset.any():
            return total.expr
        return self.emit(relax.op.add(total.expr, constant_of(total.offset.astype(np.int32))))

    def _computed(self, call: Call, args: Sequence[Any]) -> Any:
        """Quantized or dequantized by a scale and a zero point of which the model computes one, in float32."""
        rank, axis = len(shape_of(call)), int(call.attrs.axis) % max(len(shape_of(call)), 1)
        value, scale, zero = (self.emit(relax.op.astype(a, "float32")) for a in args)
        along_axis = [-1 if place == axis else 1 for place in range(rank)]
        scale, zero = (
            self.emit(relax.op.reshape(a, along_axis if np.prod(shape_of(a)) > 1 else ())) for a in (scale, zero)
        )
        dtype = str(call.ty.dtype)
        if op_name(call) == "relax.dequantize":
            made = self.emit(relax.op.multiply(self.emit(relax.op.subtract(value, zero)), scale))
            return self.emit(relax.op.astype(made, dtype))
        steps = self.emit(relax.op.round(self.emit(relax.op.divide(value, scale))))
        steps = self.emit(relax.op.add(steps, zero))
        limits = np.iinfo(dtype)
        return self.emit(relax.op.astype(relax.op.clip(steps, float(limits.min), float(limits.max)), dtype))

    def _dequantized(self, call: Call, args: Sequence[Any]) -> Steps:
        scale, zero = (np.asarray(array_of(a)) for a in args[1:3])
        value, axis = args[0], int(call.attrs.axis)
        if isinstance(value, _Shifted):
            return Steps(value.expr, scale, zero.astype(np.int64) + self._more, axis)
        return Steps(self.materialize(value), scale, zero.astype(np.int64), axis)

    def _quantized(self, call: Call, args: Sequence[Any]) -> Any:
        scale, zero = (np.asarray(array_of(a)) for a in args[1:3])
        value, axis, dtype = args[0], int(call.attrs.axis), str(call.ty.dtype)
        if _is_expr(value) and (known := array_of(value)) is not None:  # weights as training leaves them
            return constant_of(steps_of(known, scale, zero, axis, dtype))
        shift = self._more if dtype == self._other else 0
        if isinstance(value, Steps) and value.same_steps(scale, zero.astype(np.int64) + shift, self._held):
            return _Shifted(value.expr) if shift else value.expr
        if isinstance(value, Steps) and value.same_steps(scale, zero, dtype):
            return value.expr
        rank = len(shape_of(call))
        if isinstance(value, Total) and scale.size == 1:  # one multiplication instead of two
            factor = value.scale.astype(np.float64) / scale.astype(np.float64).item()
            wide = self.emit(relax.op.astype(self._summed(value), "float32"))
            steps = self.emit(relax.op.multiply(wide, constant_of(along(factor, rank, value.axis).astype(np.float32))))
        else:
            divisor = constant_of(along(scale, rank, axis).astype(np.float32))
            steps = self.emit(relax.op.divide(self.materialize(value), divisor))
        steps = self.emit(relax.op.round(steps))
        offset = along(zero, rank, axis).astype(np.float32) + np.float32(shift)
        if offset.any():
            steps = self.emit(relax.op.add(steps, constant_of(offset)))
        limits = np.iinfo(self._held if shift else dtype)
        made = relax.op.astype(relax.op.clip(steps, float(limits.min), float(limits.max)), str(limits.dtype))
        return _Shifted(self.emit(made)) if shift else self.emit(made)

    # --- operators ------------------------------------------------------------------------------

    def _moved(self, call: Call, args: Sequence[Any]) -> Any:
        value, rest = args[0], args[1:]
        if isinstance(value, Steps) and value.array is not None:
            return self._moved_constant(call, value, rest)
        whole = isinstance(value, _Shifted) or (isinstance(value, Steps) and value.is_whole)
        if not whole or any(isinstance(a, (Steps, Total, _Shifted)) for a in rest):
            return None
        made = self.emit(Call(call.op, [value.expr, *map(self.materialize, rest)], call.attrs, call.ty_args))
        return _Shifted(made) if isinstance(value, _Shifted) else value.like(made)

    def _moved_constant(self, call: Call, value: Steps, rest: Sequence[Any]) -> Any:
        """Weights turned, and constants in another shape."""
        steps, shape = np.asarray(value.array), shape_of(call)
        if op_name(call) == "relax.permute_dims":
            rank = steps.ndim
            axes = [int(a) % rank for a in call.attrs.axes] if call.attrs.axes else list(reversed(range(rank)))
            turned = constant_of(np.ascontiguousarray(steps.transpose(axes)))
            return Steps(turned, value.scale, value.zero, axes.index(value.axis % rank))
        if op_name(call) in ("relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten"):
            if value.is_whole:
                return value.like(constant_of(steps.reshape(shape)))
            return constant_of(np.asarray(value.constant()).reshape(shape))
        if op_name(call) == "relax.take" and value.is_whole:  # rows of a table
            return value.like(
                self.emit(Call(call.op, [value.expr, *map(self.materialize, rest)], call.attrs, call.ty_args))
            )
        return None

    def _concat(self, call: Call, args: Sequence[Any]) -> Steps | None:
        fields = args[0]
        if not isinstance(fields, tuple) or not all(isinstance(f, Steps) for f in fields):
            return None
        first = fields[0]
        if not all(f.same_steps(first.scale, first.zero, first.dtype) for f in fields):
            return None
        made: Steps = first.like(self.emit(relax.op.concat([f.expr for f in fields], call.attrs.axis)))
        return made

    def _relu(self, value: Any) -> Any:
        if isinstance(value, Total):
            return Total(self.emit(relax.op.nn.relu(self._summed(value))), value.scale, value.axis)
        if isinstance(value, Steps) and value.is_whole and value.array is None:
            limits = np.iinfo(value.dtype)
            zero = int(value.zero.item())
            if zero <= limits.min:
                return value
            if zero <= limits.max:
                return value.like(self.emit(relax.op.maximum(value.expr, relax.const(zero, value.dtype))))
        return None

    def _biased(self, args: Sequence[Any]) -> Total | None:
        """A constant added to a sum, in integers where it is a whole number of its steps."""
        for total, other in (args, args[::-1]):
            value = other.constant() if isinstance(other, Steps) else array_of(other) if _is_expr(other) else None
            if not isinstance(total, Total) or value is None:
                continue
            bias = total.bias(value)
            if bias is not None:
                rank = len(shape_of(total.expr))
                return total.plus(bias.reshape(-1) if total.axis % rank == rank - 1 else bias)
        return None

    def _matmul(self, call: Call, args: Sequence[Any]) -> Total | None:
        data, weight = args
        if not (isinstance(data, Steps) and isinstance(weight, Steps) and data.is_whole and data.array is None):
            return None
        if weight.array is None:
            return self._product_of_two(call, data, weight)
        rank = len(weight.shape)
        last = rank - 1
        columns = {along(p, rank, weight.axis).size for p in (weight.scale, weight.zero)}
        if rank < 2 or (columns != {1} and weight.axis % rank != last):
            return None
        steps = narrow_weight(weight)
        if steps is None or largest_sum(steps, (rank - 2,)) > MOST_SUM or (rank > 2 and data.zero.any()):
            return None
        operands = self._operands(data, steps)
        made = self.emit(relax.op.matmul(*operands, out_dtype="int32"))
        total = Total(made, _scales(data, weight), len(shape_of(call)) - 1)
        return _without_zero(total, data, steps.astype(np.int64).sum(axis=rank - 2))

    def _product_of_two(self, call: Call, data: Steps, other: Steps) -> Total | None:
        """Of two values that the model computes: around zero, in wider integers where a zero point asks for it."""
        if not other.is_whole or 255 * 255 * data.shape[-1] > MOST_SUM:
            return None
        operands = [self._centred(side) for side in (data, other)]
        made = self.emit(relax.op.matmul(*operands, out_dtype="int32"))
        return Total(made, _scales(data, other), len(shape_of(call)) - 1)

    def _centred(self, value: Steps) -> Any:
        if not value.zero.any():
            return value.expr
        wide = self.emit(relax.op.astype(value.expr, "int16"))
        return self.emit(relax.op.subtract(wide, relax.const(int(value.zero.item()), "int16")))

    def _convolution(self, call: Call, args: Sequence[Any]) -> Total | None:
        data, weight = args
        if not (isinstance(data, Steps) and isinstance(weight, Steps) and data.is_whole and data.array is None):
            return None
        steps, attrs = narrow_weight(weight), call.attrs
        by_channel = all(p.size == 1 for p in (weight.scale, weight.zero)) or weight.axis % len(weight.shape) == 0
        plain = str(attrs.data_layout).startswith("NC") and str(attrs.kernel_layout).startswith("OI")
        if steps is None or not by_channel or not plain:
            return None
        summed = tuple(range(1, steps.ndim))
        if largest_sum(steps, summed) > MOST_SUM:
            return None
        padding = [int(p) for p in attrs.padding]
        rank = steps.ndim - 2
        padding = padding if len(padding) == 2 * rank else padding * (2 * rank // len(padding))
        expr, operand_steps = self._operands(data, steps)
        if data.zero.any() and any(padding):  # zeros are steps, too
            widths = [0, 0, 0, 0, *(p for pair in zip(padding[:rank], padding[rank:], strict=True) for p in pair)]
            expr = self.emit(relax.op.nn.pad(expr, widths, "constant", int(data.zero.item())))
            padding = [0] * 2 * rank
        made = self.emit(recomputed(call, expr, operand_steps, "int32", padding))
        sums = steps.astype(np.int64).sum(axis=summed).reshape(1, -1, *([1] * rank))
        return _without_zero(Total(made, _scales(data, weight), 1), data, sums)

    def _operands(self, data: Steps, weight: Array) -> tuple[Any, Any]:
        """Data and weight; data as wide as a weight that needs more than eight bits."""
        expr = data.expr if weight.dtype == np.int8 else self.emit(relax.op.astype(data.expr, str(weight.dtype)))
        return expr, constant_of(weight)


def _without_zero(total: Total, data: Steps, sums: Array) -> Total:
    """Sums less what the zero point of the data adds to them; `sums` are those of the weight."""
    return total.plus(-(sums * int(data.zero.item()))) if data.zero.any() else total


def _scales(data: Steps, weight: Steps) -> Array:
    """What a sum of products is scaled by, in float32 as the standard multiplies them."""
    product: Array = data.scale.astype(np.float32).reshape(()) * weight.scale.astype(np.float32).reshape(-1)
    return product


def _is_expr(value: Any) -> bool:
    return not isinstance(value, (tuple, Steps, Total, _Shifted))
