"""Assigning layouts: channels packed into vector-sized blocks, weights prepacked, converted only where needed.

A packed tensor of C channels and block b is stored as [N, C/b, H, W, b] ("NCHWbc"). Convolutions read
any block and write the widest block that divides their channels and fits `lanes`; element-wise
operators, pooling and concatenation along channels stay packed; everything else sees plain NCHW.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx, topi
from tvm.ir import Call

from kernels.dots import Dot
from tuner.graph import winograd
from tuner.graph.convolution import Geometry, pack_array, pack_weight
from tuner.graph.dot_convolution import DotConvolution
from tuner.graph.framed import Framed, framed
from tuner.graph.rewriter import Array, Rewriter, array_of, constant_of, op_name, shape_of

_UNARY = {
    "relax.abs", "relax.clip", "relax.erf", "relax.exp", "relax.log", "relax.negative", "relax.nn.gelu",
    "relax.nn.gelu_tanh", "relax.nn.leakyrelu", "relax.nn.relu", "relax.nn.silu", "relax.rsqrt", "relax.sigmoid",
    "relax.sqrt", "relax.square", "relax.tanh", "relax.astype", "relax.round", "relax.floor",
}  # fmt: skip
"""Operators that treat each element of their first operand alike; what else they read are numbers."""

_BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "relax.add": relax.op.add,
    "relax.subtract": relax.op.subtract,
    "relax.multiply": relax.op.multiply,
    "relax.divide": relax.op.divide,
    "relax.maximum": relax.op.maximum,
    "relax.minimum": relax.op.minimum,
}
_POOLS = {"relax.nn.max_pool2d": "max", "relax.nn.avg_pool2d": "avg"}


@dataclass(frozen=True)
class Packed:
    """A value held as [N, C/block, H, W, block]. `plain` is the NCHW shape it stands for."""

    expr: Any
    block: int
    plain: tuple[int, ...]


def block_of(channels: int, lanes: int) -> int:
    """How many channels to put into one block: a power of two that divides them and fits `lanes`.

    A vector register is best filled whole or to a half. Where that is less than four, the largest
    divisor (all three channels of an image).
    """
    divisors = [d for d in range(1, lanes + 1) if channels % d == 0]
    power = max(d for d in divisors if d & (d - 1) == 0)
    return power if power >= 4 else max(divisors)


class Pack(Rewriter):
    """Rewrites `main` to packed layouts. `origins` says what each emitted kernel computes.

    `tile`: convolutions that F(tile x tile, 3 x 3) is worth a search for are computed that way; 0 for none. `dots`: the
    CPU's dot-product instructions.
    """

    def __init__(self, module: tvm.IRModule, lanes: int, tile: int = 0, dots: Sequence[Dot] = ()) -> None:
        super().__init__(module)
        self.lanes = lanes
        self.tile = tile
        self.dots = dots
        self.origins: dict[str, dict[str, Any]] = {}

    def materialize(self, value: Any) -> Any:
        if isinstance(value, Framed):
            value = self._unframed(value)
        if isinstance(value, Packed):
            return self._unpack(value)
        return super().materialize(value)

    def visit(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        name = op_name(call)
        result: Packed | Framed | None = None
        if name != "relax.nn.conv2d":
            args = [self._unframed(a) for a in args]
        if name == "relax.nn.conv2d":
            result = self._convolution(call, args)
        elif name == "relax.nn.pad":
            result = framed(call, args[0])
        elif name in _UNARY and isinstance(args[0], Packed):
            rest = [self.materialize(a) for a in args[1:]]
            made = self.emit(Call(call.op, [args[0].expr, *rest], call.attrs, call.ty_args))
            result = Packed(made, args[0].block, args[0].plain)
        elif name in _BINARY:
            result = self._binary(name, call, args)
        elif name in _POOLS and isinstance(args[0], Packed):
            result = self._pool(_POOLS[name], call, args[0])
        elif name == "relax.mean" and isinstance(args[0], Packed):
            result = self._mean(call, args[0])
        elif name == "relax.concat":
            result = self._concat(call, args)
        return super().visit(var, call, args) if result is None else result

    def _unframed(self, value: Any) -> Any:
        """A value that nothing is around, or that was copied into its frame."""
        if isinstance(value, tuple):
            return tuple(self._unframed(v) for v in value)
        if not isinstance(value, Framed):
            return value
        if not isinstance(value.value, Packed):
            return self.emit(Call(value.call.op, [self.materialize(value.value)], value.call.attrs))
        inner, (top, left, bottom, right) = value.value, value.widths
        n, c, h, w = inner.plain

        def compute(x: Any) -> Any:
            widths = (0, 0, top, left, 0), (0, 0, bottom, right, 0)
            return topi.nn.pad(x, *widths, pad_value=tirx.const(value.fill, x.dtype), name="pad")

        made = self._kernel(compute, inner.expr, hint="pad")
        return Packed(made, inner.block, (n, c, h + top + bottom, w + left + right))

    # --- conversions --------------------------------------------------------------------------

    def _kernel(
        self, compute: Callable[..., Any], *args: Any, hint: str, origin: Mapping[str, Any] | None = None
    ) -> Any:
        call = self.builder.call_te(compute, *args, primfunc_name_hint=hint)
        if origin:
            self.origins[call.args[0].name_hint] = {**origin, "hint": hint}
        return self.emit(call)

    def _pack(self, value: Any, block: int) -> Packed:
        plain = shape_of(value)
        n, c, h, w = plain
        constant = array_of(value)
        if constant is not None:
            return Packed(constant_of(pack_array(constant, block)), block, plain)
        if c == block:  # one block: moving the axis is all there is to do
            packed = self._kernel(
                lambda x: te.compute((n, 1, h, w, c), lambda i, _, y, z, k: x[i, k, y, z], "pack"), value, hint="pack"
            )
        else:
            packed = self._kernel(
                lambda x: te.compute(
                    (n, c // block, h, w, block), lambda i, j, y, z, k: x[i, j * block + k, y, z], "pack"
                ),
                value,
                hint="pack",
            )
        return Packed(packed, block, plain)

    def _unpack(self, value: Packed) -> Any:
        n, c, h, w = value.plain
        block = value.block
        if h == w == 1:
            return self.emit(relax.op.reshape(value.expr, value.plain))
        return self._kernel(
            lambda x: te.compute((n, c, h, w), lambda i, j, y, z: x[i, j // block, y, z, j % block], "unpack"),
            value.expr,
            hint="unpack",
        )

    # --- operators ----------------------------------------------------------------------------

    def _convolution(self, call: Call, args: Sequence[Any]) -> Packed | None:
        weight = array_of(args[1])
        attrs = call.attrs
        if weight is None or str(attrs.data_layout) != "NCHW" or str(attrs.kernel_layout) != "OIHW":
            return None
        n, c, h, w = shape_of(call.args[0])
        out_channels, group_channels, kh, kw = weight.shape
        groups = int(attrs.groups)
        depthwise = groups == c == out_channels
        out_block = block_of(out_channels // (1 if depthwise else groups), self.lanes)
        if out_block < min(4, self.lanes):
            return None
        if not depthwise and (made := self._dot_convolution(call, args[0], weight, out_block)) is not None:
            return made
        geometry = Geometry.of(attrs, (n, c, h, w), weight.shape)
        data = self._unframed(args[0])
        if not isinstance(data, Packed):
            data = self._pack(self.materialize(data), out_block if depthwise else block_of(c // groups, self.lanes))
        if (depthwise and data.block != out_block) or (not depthwise and group_channels % data.block):
            data = self._pack(self._unpack(data), out_block if depthwise else block_of(c // groups, self.lanes))
        if self.tile in winograd.sizes(geometry, str(weight.dtype)):
            return self._winograd(call, geometry, data, weight, out_block)
        if depthwise:
            packed_weight = weight.reshape(c // out_block, out_block, kh, kw).transpose(0, 2, 3, 1)
            compute = geometry.depthwise(out_block, str(call.ty.dtype))
        else:
            packed_weight = pack_weight(weight, data.block, out_block)
            compute = geometry.dense(data.block, out_block, str(call.ty.dtype))
        packed = constant_of(np.ascontiguousarray(packed_weight))
        result = self._kernel(compute, data.expr, packed, hint=geometry.hint(), origin=geometry.origin())
        return Packed(result, out_block, shape_of(call))

    def _dot_convolution(self, call: Call, data: Any, weight: Array, out_block: int) -> Packed | None:
        """A convolution of bfloat16 or of bytes by the CPU's instructions, which a frame around its data becomes part
        of; None without them."""
        left, right, result = str(call.args[0].ty.dtype), str(weight.dtype), str(call.ty.dtype)
        unsigned = "uint8" if left == "int8" else left
        dot = next((d for d in self.dots if (d.left, d.right, d.result) == (unsigned, right, result)), None)
        if dot is None or out_block % min(d.lanes for d in self.dots if d.left == dot.left):
            return None
        geometry, fill = Geometry.of(call.attrs, shape_of(call.args[0]), weight.shape), 0
        if isinstance(data, Framed) and not any(geometry.padding):
            geometry = replace(geometry, data=shape_of(data.call.args[0]), padding=data.widths)
            data, fill = data.value, data.fill
        data = self._unframed(data)
        group_channels = weight.shape[1]
        in_block = block_of(group_channels, self.lanes)
        if isinstance(data, Packed) and group_channels % data.block == 0 and data.block % dot.steps == 0:
            in_block = data.block
        elif isinstance(data, Packed):
            data = self._pack(self._unpack(data), in_block)
        made = DotConvolution(
            geometry, dot, in_block, out_block, plain=not isinstance(data, Packed), signed=left != unsigned, fill=fill
        )
        operands = [data.expr if isinstance(data, Packed) else self.materialize(data), constant_of(made.pack(weight))]
        if made.signed:
            operands.append(constant_of(made.correction(weight)))
        origin = {**geometry.origin(), "flops": made.flops}
        expr = self._kernel(made.compute(), *operands, hint=geometry.hint(), origin=origin)
        return Packed(expr, out_block, shape_of(call))

    def _winograd(self, call: Call, geometry: Geometry, data: Packed, weight: Array, out_block: int) -> Packed:
        packed = constant_of(winograd.pack_weight(weight, self.tile, data.block, out_block))
        compute = winograd.convolution(geometry, self.tile, data.block, out_block)
        origin = {
            **geometry.origin(),
            "algorithm": f"winograd{self.tile}",
            "flops": winograd.flops(geometry, self.tile),
        }
        hint = f"{geometry.hint()}_winograd{self.tile}"
        result = self._kernel(compute, data.expr, packed, hint=hint, origin=origin)
        return Packed(result, out_block, shape_of(call))

    def _binary(self, name: str, call: Call, args: Sequence[Any]) -> Packed | None:
        packed = next((a for a in args if isinstance(a, Packed)), None)
        if packed is None or packed.plain != shape_of(call):
            return None
        operands = [self._operand(a, packed, shape_of(old)) for a, old in zip(args, call.args, strict=True)]
        if any(o is None for o in operands):
            return None
        return Packed(self.emit(_BINARY[name](*operands)), packed.block, packed.plain)

    def _operand(self, value: Any, like: Packed, shape: tuple[int, ...]) -> Any:
        """An operand as an expression in the layout of `like`; None when it does not fit."""
        if isinstance(value, Packed):
            if value.plain != like.plain:
                return None
            return value.expr if value.block == like.block else self._pack(self._unpack(value), like.block).expr
        constant = array_of(value)
        if constant is not None:
            if constant.size == 1:
                return constant_of(constant.reshape(constant.shape if constant.shape == (1,) else ()))
            full = constant.reshape([1] * (4 - constant.ndim) + list(constant.shape)) if constant.ndim <= 4 else None
            if full is None or full.shape[1] not in (1, like.plain[1]):
                return None
            if full.shape[1] == 1:
                return constant_of(full[..., None])
            return constant_of(pack_array(full, like.block))
        return self._pack(self.materialize(value), like.block).expr if shape == like.plain else None

    def _pool(self, kind: str, call: Call, data: Packed) -> Packed | None:
        attrs = call.attrs
        if str(attrs.layout) != "NCHW":
            return None
        ints = {k: [int(v) for v in getattr(attrs, k)] for k in ("pool_size", "strides", "dilation", "padding")}
        padding = ints["padding"] if len(ints["padding"]) == 4 else ints["padding"] * (4 // len(ints["padding"]))

        def compute(x: Any) -> Any:
            return topi.nn.pool2d(
                x, ints["pool_size"], ints["strides"], ints["dilation"], padding, kind,
                ceil_mode=bool(attrs.ceil_mode), layout=f"NCHW{data.block}c",
                count_include_pad=bool(attrs.count_include_pad),
            )  # fmt: skip

        result = self._kernel(compute, data.expr, hint=f"{kind}_pool2d")
        return Packed(result, data.block, shape_of(call))

    def _mean(self, call: Call, data: Packed) -> Any:
        axes = sorted(int(a) % 4 for a in call.attrs.axis)
        if axes != [2, 3]:
            return None
        n, c = data.plain[:2]
        mean = self.emit(relax.op.mean(data.expr, [2, 3], keepdims=True))
        packed = Packed(mean, data.block, (n, c, 1, 1))
        return packed if call.attrs.keepdims else self.emit(relax.op.reshape(mean, (n, c)))

    def _concat(self, call: Call, args: Sequence[Any]) -> Packed | None:
        fields = args[0]
        if not isinstance(fields, tuple) or call.attrs.axis is None or int(call.attrs.axis) not in (1, -3):
            return None
        if len(shape_of(call)) != 4 or not any(isinstance(f, Packed) for f in fields):
            return None
        block = max(f.block for f in fields if isinstance(f, Packed))
        if any(f.plain[1] % block if isinstance(f, Packed) else shape_of(f)[1] % block for f in fields):
            return None
        same = [
            f if isinstance(f, Packed) and f.block == block else self._pack(self.materialize(f), block) for f in fields
        ]
        return Packed(self.emit(relax.op.concat([f.expr for f in same], axis=1)), block, shape_of(call))
