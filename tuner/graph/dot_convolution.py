"""Convolutions as a CPU's dot-product instructions compute them, on packed data.

The weights have some input channels side by side. Data are copied first where they are not as the instructions read
them: padded, with too few channels, signed bytes, or not packed at all (an image).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx

from kernels.dots import Dot, copied, widened
from tuner.graph.convolution import Geometry, pack_weight
from tuner.graph.rewriter import Array


@dataclass(frozen=True)
class DotConvolution:
    """A convolution of [N, C/in, H, W, in], or of plain [N, C, H, W], that `dot` computes [N, O/out, H, W, out] of.

    `signed`: the data are signed bytes where the instruction wants unsigned ones, so 128 is added to each, and what
    that adds to each output channel is subtracted from the sums. `fill` is what the data are padded with.
    """

    geometry: Geometry
    dot: Dot
    in_block: int
    out_block: int
    plain: bool
    signed: bool
    fill: int = 0

    @property
    def depth(self) -> int:
        """Channels of a block as they are computed with."""
        return -(-self.in_block // self.dot.steps) * self.dot.steps

    def pack(self, weight: Array) -> Array:
        """[O, I, kh, kw] -> [O/out, I/in, kh, kw, depth/steps, out, steps], with zeros for channels that were added."""
        packed = pack_weight(weight, self.in_block, self.out_block)  # [O/out, I/in, kh, kw, in, out]
        wide = np.pad(packed, [(0, 0)] * 4 + [(0, self.depth - self.in_block), (0, 0)])
        steps = wide.reshape(*wide.shape[:4], -1, self.dot.steps, self.out_block)
        return np.ascontiguousarray(steps.swapaxes(-1, -2))

    def correction(self, weight: Array) -> Array:
        """What adding 128 to the data adds to each channel, int32 [O/out, out]."""
        sums = weight.astype(np.int32).sum(axis=(1, 2, 3), dtype=np.int32)
        added: Array = 128 * sums.reshape(-1, self.out_block)
        return added

    @property
    def flops(self) -> float:
        """Of the convolution itself, without what the copies cost."""
        n = self.geometry.data[0]
        return 2.0 * n * math.prod(self.geometry.out_hw) * math.prod(self.geometry.weight)

    def compute(self) -> Callable[..., Any]:
        """TE of data, packed weights and, where `signed`, the correction."""
        n, geometry = self.geometry.data[0], self.geometry
        o, group_c, kh, kw = geometry.weight
        rows, columns = geometry.out_hw
        (sy, sx), (dy, dx) = geometry.strides, geometry.dilation
        chunks, group_out = group_c // self.in_block, o // geometry.groups // self.out_block
        shape = (n, o // self.out_block, rows, columns, self.out_block)
        dot = self.dot

        def compute(data: Any, weight: Any, correction: Any = None) -> Any:
            aligned = self._aligned(data)
            ico, ry, rx, ici = (
                te.reduce_axis((0, extent), name)
                for extent, name in ((chunks, "ico"), (kh, "ry"), (kw, "rx"), (self.depth, "ici"))
            )

            def body(i: Any, oc: Any, y: Any, x: Any, k: Any) -> Any:
                chunk = ico if geometry.groups == 1 else oc // group_out * chunks + ico
                left = aligned[i, chunk, y * sy + ry * dy, x * sx + rx * dx, ici]
                right = weight[oc, ico, ry, rx, ici // dot.steps, k, ici % dot.steps]
                return te.sum(widened(left, dot.result) * widened(right, dot.result), axis=[ico, ry, rx, ici])

            sums = te.compute(shape, body, name="conv2d")
            if correction is None:
                return sums
            return te.compute(shape, lambda i, c, y, x, k: sums[i, c, y, x, k] - correction[c, k], "stored")

        return compute

    def _aligned(self, data: Any) -> Any:
        """The data as the instruction reads them: a copy, unless they are so already."""
        n, c, h, w = self.geometry.data
        top, left, bottom, right = padding = self.geometry.padding
        if not (self.plain or self.signed or any(padding) or self.depth != self.in_block):
            return data
        dot, block = self.dot, self.in_block

        def element(i: Any, j: Any, y: Any, x: Any, k: Any) -> Any:
            here = (i, j * block + k, y - top, x - left) if self.plain else (i, j, y - top, x - left, k)
            value = copied(data[here], dot.left)
            inside = [y >= top, y < h + top] * bool(top or bottom) + [x >= left, x < w + left] * bool(left or right)
            inside += [k < block] * (self.depth != block)
            if not inside:
                return value
            return te.if_then_else(te.all(*inside), value, tirx.const(self.fill + 128 * self.signed, dot.copied))

        shape = (n, c // block, h + top + bottom, w + left + right, self.depth)
        return te.compute(shape, element, "aligned")
