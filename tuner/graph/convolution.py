"""Two-dimensional convolutions: their geometry, and how they compute on packed data and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, topi

from tuner.graph.rewriter import Array


@dataclass(frozen=True)
class Geometry:
    """The shape of a 2-d convolution; padding is (top, left, bottom, right)."""

    data: tuple[int, ...]
    weight: tuple[int, ...]
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int

    @staticmethod
    def of(attrs: Any, data: Sequence[int], weight: Sequence[int]) -> Geometry:
        """From the attributes of a `relax.nn.conv2d` and its operands' shapes, [N, C, H, W] and [O, I, kh, kw]."""
        strides = [int(s) for s in attrs.strides]
        padding = [int(p) for p in attrs.padding]
        dilation = [int(d) for d in attrs.dilation]
        strides = strides * (2 // len(strides))
        dilation = dilation * (2 // len(dilation))
        padding = padding * (4 // len(padding))
        return Geometry(
            tuple(data),
            tuple(weight),
            (strides[0], strides[1]),
            (padding[0], padding[1], padding[2], padding[3]),
            (dilation[0], dilation[1]),
            int(attrs.groups),
        )

    def hint(self) -> str:
        """The kernel's name without its shapes: `conv2d_3x3s2`, `depthwise_conv2d_3x3`, `conv2d_1x1g4`."""
        kh, kw = self.weight[2:]
        text = f"conv2d_{kh}x{kw}" + (f"s{self.strides[0]}" if max(self.strides) > 1 else "")
        if self.groups == 1:
            return text
        return f"depthwise_{text}" if self.groups == self.data[1] == self.weight[0] else f"{text}g{self.groups}"

    def origin(self) -> dict[str, Any]:
        """The geometry as `Workload.origin` holds it."""
        return {
            "op": "conv2d",
            "data": list(self.data),
            "weight": list(self.weight),
            "strides": list(self.strides),
            "padding": list(self.padding),
            "dilation": list(self.dilation),
            "groups": self.groups,
        }

    @property
    def out_hw(self) -> tuple[int, int]:
        """Height and width of the output."""
        (_, _, h, w), (_, _, kh, kw) = self.data, self.weight
        top, left, bottom, right = self.padding
        rows = (h + top + bottom - self.dilation[0] * (kh - 1) - 1) // self.strides[0] + 1
        columns = (w + left + right - self.dilation[1] * (kw - 1) - 1) // self.strides[1] + 1
        return rows, columns

    def _padded(self, data: Any) -> Any:
        top, left, bottom, right = self.padding
        if not any(self.padding):
            return data
        return topi.nn.pad(data, (0, 0, top, left, 0), (0, 0, bottom, right, 0), name="pad")

    def dense(self, in_block: int, out_block: int, dtype: str = "float32") -> Callable[[Any, Any], Any]:
        """TE of an ordinary or grouped convolution; data are [N, C/in, H, W, in], weights those of `pack_weight`.

        `dtype` is that of the sums, to which narrower factors are widened.
        """
        n = self.data[0]
        o, group_c, kh, kw = self.weight
        rows, columns = self.out_hw
        (sy, sx), (dy, dx) = self.strides, self.dilation
        chunks = group_c // in_block
        group_out = o // self.groups // out_block

        def compute(data: Any, weight: Any) -> Any:
            padded = self._padded(data)
            ico = te.reduce_axis((0, chunks), "ico")
            ry = te.reduce_axis((0, kh), "ry")
            rx = te.reduce_axis((0, kw), "rx")
            ici = te.reduce_axis((0, in_block), "ici")

            def body(i: Any, oc: Any, y: Any, x: Any, k: Any) -> Any:
                chunk = ico if self.groups == 1 else oc // group_out * chunks + ico
                value = padded[i, chunk, y * sy + ry * dy, x * sx + rx * dx, ici]
                factors = value, weight[oc, ico, ry, rx, ici, k]
                return te.sum(_wide(factors[0], dtype) * _wide(factors[1], dtype), axis=[ico, ry, rx, ici])

            return te.compute((n, o // out_block, rows, columns, out_block), body, name="conv2d")

        return compute

    def depthwise(self, block: int, dtype: str = "float32") -> Callable[[Any, Any], Any]:
        """TE of a depthwise convolution; data are [N, C/block, H, W, block], weights [C/block, kh, kw, block].

        `dtype` is that of the sums, to which narrower factors are widened.
        """
        n, c, _, _ = self.data
        _, _, kh, kw = self.weight
        rows, columns = self.out_hw
        (sy, sx), (dy, dx) = self.strides, self.dilation

        def compute(data: Any, weight: Any) -> Any:
            padded = self._padded(data)
            ry = te.reduce_axis((0, kh), "ry")
            rx = te.reduce_axis((0, kw), "rx")

            def body(i: Any, j: Any, y: Any, x: Any, k: Any) -> Any:
                factors = padded[i, j, y * sy + ry * dy, x * sx + rx * dx, k], weight[j, ry, rx, k]
                return te.sum(_wide(factors[0], dtype) * _wide(factors[1], dtype), axis=[ry, rx])

            return te.compute((n, c // block, rows, columns, block), body, name="depthwise_conv2d")

        return compute


def _wide(value: Any, dtype: str) -> Any:
    return value if str(value.dtype) == dtype else value.astype(dtype)


def pack_array(array: Array, block: int) -> Array:
    """[N, C, H, W] -> [N, C/block, H, W, block]."""
    n, c, h, w = array.shape
    return np.ascontiguousarray(array.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2))


def pack_weight(weight: Array, in_block: int, out_block: int) -> Array:
    """[O, I, kh, kw] -> [O/out, I/in, kh, kw, in, out]."""
    o, i, kh, kw = weight.shape
    split = weight.reshape(o // out_block, out_block, i // in_block, in_block, kh, kw)
    return np.ascontiguousarray(split.transpose(0, 2, 4, 5, 3, 1))
