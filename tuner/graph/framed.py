"""Images of bytes with their zero point around them, so that the convolution that reads them may pad by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import tvm
from tvm import tirx, topi
from tvm.ir import Call

from tuner.graph.convolution import Geometry
from tuner.graph.rewriter import Rewriter, op_name, shape_of


@dataclass(frozen=True)
class Framed:
    """A value with so many rows and columns (top, left, bottom, right) of one byte around it, as `call` makes it."""

    call: Call
    value: Any
    widths: tuple[int, int, int, int]
    fill: int


def framed(call: Call, value: Any) -> Framed | None:
    """A `relax.nn.pad` that puts one byte, a zero point, around images, to be done by the convolution that reads them;
    None for others."""
    attrs, shape, dtype = call.attrs, shape_of(call), str(call.ty.dtype)
    widths = [int(width) for width in attrs.pad_width]
    if dtype not in ("int8", "uint8") or str(attrs.pad_mode) != "constant" or len(shape) != 4:
        return None
    if any(widths[:4]) or min(widths) < 0:
        return None
    return Framed(call, value, (widths[4], widths[6], widths[5], widths[7]), int(attrs.pad_value))


def padded_by_convolutions(module: tvm.IRModule) -> tuple[tvm.IRModule, dict[str, dict[str, Any]]]:
    """The module with its convolutions of bytes in plain layout padding by themselves, and the kernels that they
    became: name -> what it computes. Where no image of bytes is padded, the module as it is."""
    calls = (b.value for block in module["main"].body.blocks for b in block.bindings if isinstance(b.value, Call))
    if not any(op_name(call) == "relax.nn.pad" and framed(call, None) for call in calls):
        return module, {}
    frames = _PlainFrames(module)
    return frames.run(), frames.origins


class _PlainFrames(Rewriter):
    def __init__(self, module: tvm.IRModule) -> None:
        super().__init__(module)
        self.origins: dict[str, dict[str, Any]] = {}

    def visit(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        if op_name(call) == "relax.nn.pad" and (made := framed(call, self.materialize(args[0]))) is not None:
            return made
        if op_name(call) == "relax.nn.conv2d" and isinstance(args[0], Framed) and _is_plain(call):
            return self._convolution(call, args[0], self.materialize(args[1]))
        return super().visit(var, call, args)

    def materialize(self, value: Any) -> Any:
        if isinstance(value, Framed):
            return self.emit(Call(value.call.op, [value.value], value.call.attrs, value.call.ty_args))
        return super().materialize(value)

    def _convolution(self, call: Call, data: Framed, weight: Any) -> Any:
        inside, attrs, dtype = shape_of(data.value), call.attrs, str(call.ty.dtype)
        geometry = replace(Geometry.of(attrs, inside, shape_of(weight)), padding=data.widths)
        (top, left, bottom, right), fill = data.widths, data.fill

        def compute(x: Any, w: Any) -> Any:
            whole = topi.nn.pad(x, (0, 0, top, left), (0, 0, bottom, right), tirx.const(fill, x.dtype), name="pad")
            strides, dilation, groups = geometry.strides, geometry.dilation, geometry.groups
            return topi.nn.conv(whole, w, strides, 0, dilation, groups, "NCHW", "OIHW", dtype)

        made = self.builder.call_te(compute, data.value, weight, primfunc_name_hint="conv2d")
        self.origins[made.args[0].name_hint] = {**geometry.origin(), "hint": geometry.hint()}
        return self.emit(made)


def _is_plain(call: Call) -> bool:
    """Whether a convolution reads plain layouts and pads nothing itself."""
    attrs = call.attrs
    layouts = str(attrs.data_layout), str(attrs.kernel_layout), str(attrs.out_layout) or "NCHW"
    return layouts == ("NCHW", "OIHW", "NCHW") and not any(int(p) for p in attrs.padding)
