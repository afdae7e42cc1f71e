"""Cleaning an imported graph: constants folded, batch norms folded into convolutions, no-ops gone."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call

from tuner.graph.fold import fold
from tuner.graph.identities import simplified
from tuner.graph.integers import in_integers
from tuner.graph.norms import rms_norm
from tuner.graph.reshapes import Reshapes
from tuner.graph.rewriter import Array, Rewriter, array_of, constant_of, op_name, shape_of
from tuner.graph.scales import scaled_product


@dataclass(frozen=True)
class _Convolution:
    """A convolution not emitted yet, so that scales and shifts after it can go into its weights."""

    call: Call
    data: Any
    weight: Array
    attrs: Any
    bias: Array | None = None

    def scaled(self, scale: Array) -> _Convolution:
        weight = self.weight * scale.reshape(-1, *([1] * (self.weight.ndim - 1)))
        return replace(self, weight=weight, bias=None if self.bias is None else self.bias * scale)

    def shifted(self, shift: Array) -> _Convolution:
        return replace(self, bias=shift if self.bias is None else self.bias + shift)


@dataclass(frozen=True)
class _Padded:
    """Rows and columns of zeros around images, not emitted yet, so that a convolution may take them as its padding."""

    call: Call
    data: Any

    @property
    def padding(self) -> list[int]:
        """Top, left, bottom, right."""
        top, bottom, left, right = (int(width) for width in self.call.attrs.pad_width[4:])
        return [top, left, bottom, right]


class Clean(Rewriter):
    """Folds constants; batch norms and per-channel scales and shifts into the convolution before them; and padding into
    the convolution after it."""

    def visit(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        name = op_name(call)
        if name == "relax.nn.dropout":
            return (args[0], args[0])
        if name in ("relax.reshape", "relax.broadcast_to") and shape_of(call.args[0]) == shape_of(call):
            return args[0]
        folded = fold(call, args)
        if folded is not None:
            return relax.const(folded, str(call.ty.dtype))
        if name == "relax.nn.pad" and _pads_images(call):
            return _Padded(call, self.materialize(args[0]))
        if name == "relax.nn.conv2d":
            return self._convolution(var, call, args)
        if name == "relax.nn.batch_norm":
            return self._batch_norm(var, call, args)
        if name in ("relax.add", "relax.multiply", "relax.subtract"):
            merged = self._merge(var, name, call, args)
            if merged is not None:
                return merged
        if all(isinstance(arg, tvm.ir.Expr) for arg in args):  # nothing is pending
            for rule in (simplified, rms_norm, scaled_product):
                made = rule(self.builder, call, args)
                if made is not None:
                    return made
        return super().visit(var, call, args)

    def materialize(self, value: Any) -> Any:
        if isinstance(value, _Convolution):
            return self._emit_convolution(value)
        if isinstance(value, _Padded):
            return self.emit(Call(value.call.op, [value.data], value.call.attrs, value.call.ty_args))
        return super().materialize(value)

    def _convolution(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        weight = array_of(args[1])
        plain = str(call.attrs.data_layout) == "NCHW" and str(call.attrs.kernel_layout) == "OIHW"
        if weight is None or not plain:
            return super().visit(var, call, args)
        data, attrs = args[0], call.attrs
        if isinstance(data, _Padded):
            padding = [int(p) for p in attrs.padding]
            padding = [a + b for a, b in zip(padding * (4 // len(padding)), data.padding, strict=True)]
            attrs = relax.op.nn.conv2d(
                data.data, call.args[1], attrs.strides, padding, attrs.dilation, attrs.groups, attrs.data_layout,
                attrs.kernel_layout, attrs.out_layout, attrs.out_dtype,
            ).attrs  # fmt: skip
            data = data.data
        pending = _Convolution(call, self.materialize(data), weight, attrs)
        return pending if self.uses[var] == 1 else self._emit_convolution(pending)

    def _emit_convolution(self, pending: _Convolution) -> Any:
        call = pending.call
        weight = constant_of(pending.weight.astype(str(call.args[1].ty.dtype)))
        result = self.emit(Call(call.op, [pending.data, weight], pending.attrs, call.ty_args))
        if pending.bias is None:
            return result
        bias = pending.bias.reshape(1, -1, 1, 1).astype(str(call.ty.dtype))
        return self.emit(relax.op.add(result, constant_of(bias)))

    def _batch_norm(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        statistics = [array_of(a) for a in args[1:5]]
        if any(s is None for s in statistics) or call.attrs.training:
            return super().visit(var, call, args)
        gamma, beta, mean, variance = (np.asarray(s, dtype=np.float64) for s in statistics)
        scale = gamma / np.sqrt(variance + float(call.attrs.epsilon))
        shift = beta - mean * scale
        if isinstance(args[0], _Convolution):
            result: Any = args[0].scaled(scale).shifted(shift)
            result = result if self._first_field_uses[var] == 1 else self._emit_convolution(result)
        else:
            shape = shape_of(call.args[0])
            dtype = str(call.args[0].ty.dtype)
            spread = [1] * len(shape)
            spread[int(call.attrs.axis)] = -1
            scaled = self.emit(
                relax.op.multiply(self.materialize(args[0]), constant_of(scale.reshape(spread).astype(dtype)))
            )
            result = self.emit(relax.op.add(scaled, constant_of(shift.reshape(spread).astype(dtype))))
        return (result, args[3], args[4])

    @functools.cached_property
    def _first_field_uses(self) -> Counter[Any]:
        """How often the first field of each tuple-valued variable is used."""
        uses: Counter[Any] = Counter()
        for block in self.module["main"].body.blocks:
            for binding in block.bindings:
                value = binding.value
                if isinstance(value, tvm.ir.TupleGetItem) and value.index == 0:
                    uses[value.tuple_value] += self.uses[binding.var]
        return uses

    def _merge(self, var: Any, name: str, call: Call, args: Sequence[Any]) -> Any:
        """A per-channel constant added to, or multiplied with, a pending convolution."""
        pairs = [(0, 1)] if name == "relax.subtract" else [(0, 1), (1, 0)]
        for here, there in pairs:
            pending, constant = args[here], array_of(args[there])
            if not isinstance(pending, _Convolution) or constant is None:
                continue
            vector = _per_channel(constant, shape_of(call))
            if vector is None or shape_of(call) != shape_of(call.args[here]):
                continue
            if name == "relax.multiply":
                merged = pending.scaled(vector)
            else:
                merged = pending.shifted(vector if name == "relax.add" else -vector)
            return merged if self.uses[var] == 1 else self._emit_convolution(merged)
        return None


def _pads_images(call: Call) -> bool:
    """Whether a `relax.nn.pad` puts zeros around the last two of four axes."""
    attrs = call.attrs
    widths = [int(width) for width in attrs.pad_width]
    zeros = str(attrs.pad_mode) == "constant" and float(attrs.pad_value) == 0.0
    return zeros and len(widths) == 8 and not any(widths[:4]) and min(widths) >= 0


def _per_channel(constant: Array, shape: Sequence[int]) -> Array | None:
    """A constant as one number for each channel of an NCHW tensor, or None when it is not that."""
    padded = constant.reshape([1] * (len(shape) - constant.ndim) + list(constant.shape))
    if padded.ndim != 4 or padded.shape[0] != 1 or padded.shape[2:] != (1, 1):
        return None
    return np.broadcast_to(padded.reshape(-1), (shape[1],)).astype(np.float64)


def clean(module: tvm.IRModule, data_bytes: str = "uint8") -> tvm.IRModule:
    """The same function with less in it, and its quantized products in integers, of data that are held as uint8 or as
    int8. Numerics change only by the rounding of folded weights, and of scaled sums."""
    module = Reshapes(Clean(in_integers(module, data_bytes)).run()).run()
    return tvm.transform.Sequential(
        [
            relax.transform.CanonicalizeBindings(),
            relax.transform.EliminateCommonSubexpr(),
            relax.transform.DeadCodeElimination(),
        ]
    )(module)
