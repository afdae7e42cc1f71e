"""Named operations of linalg as index maps and what they compute of elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xdsl.ir.affine import AffineExpr, AffineMap

Maps = tuple[tuple[str, ...], ...]
"""By operand, by dimension: a counter `m`, or `h.y0`: stride 0 times h plus dilation 0 times y."""


@dataclass(frozen=True)
class Named:
    """`maps`: of all operands, results last; None: the identity, of the rank of the result. `body`: see `bodies`."""

    maps: Maps | None
    body: str

    @property
    def windows(self) -> int:
        """How many strides and dilations it has."""
        parts = [part for operand in self.maps or () for part in operand if "." in part]
        return max((int(part[-1]) + 1 for part in parts), default=0)


def _einsum(text: str) -> Named:
    """`mk,kn->mn`"""
    return Named(tuple(tuple(part) for part in text.replace("->", ",").split(",")), "multiply-add")


def _windows(data: str, taps: str, result: str, body: str = "multiply-add") -> Named:
    return Named(tuple(tuple(part.split()) for part in (data, taps, result)), body)


_PRODUCTS = {
    "matmul": "mk,kn->mn", "matmul_transpose_a": "km,kn->mn", "matmul_transpose_b": "mk,nk->mn",
    "batch_matmul": "bmk,bkn->bmn", "batch_matmul_transpose_a": "bkm,bkn->bmn",
    "batch_matmul_transpose_b": "bmk,bnk->bmn", "batch_reduce_matmul": "bmk,bkn->mn", "matvec": "mk,k->m",
    "vecmat": "k,kn->n", "batch_matvec": "bmk,bk->bm", "batch_vecmat": "bk,bkn->bn", "dot": "k,k->",
}  # fmt: skip
_CONVOLUTIONS = {
    "conv_1d": ("w.x0", "x", "w"), "conv_2d": ("h.y0 w.x1", "y x", "h w"),
    "conv_3d": ("d.z0 h.y1 w.x2", "z y x", "d h w"),
    "conv_1d_nwc_wcf": ("n w.x0 c", "x c f", "n w f"), "conv_1d_ncw_fcw": ("n c w.x0", "f c x", "n f w"),
    "conv_2d_nhwc_hwcf": ("n h.y0 w.x1 c", "y x c f", "n h w f"),
    "conv_2d_nhwc_fhwc": ("n h.y0 w.x1 c", "f y x c", "n h w f"),
    "conv_2d_nchw_fchw": ("n c h.y0 w.x1", "f c y x", "n f h w"),
    "conv_2d_ngchw_fgchw": ("n g c h.y0 w.x1", "f g c y x", "n g f h w"),
    "conv_2d_ngchw_gfchw": ("n g c h.y0 w.x1", "g f c y x", "n g f h w"),
    "conv_2d_nhwgc_gfhwc": ("n h.y0 w.x1 g c", "g f y x c", "n h w g f"),
    "conv_3d_ndhwc_dhwcf": ("n d.z0 h.y1 w.x2 c", "z y x c f", "n d h w f"),
    "conv_3d_ncdhw_fcdhw": ("n c d.z0 h.y1 w.x2", "f c z y x", "n f d h w"),
    "depthwise_conv_1d_nwc_wc": ("n w.x0 c", "x c", "n w c"),
    "depthwise_conv_1d_ncw_cw": ("n c w.x0", "c x", "n c w"),
    "depthwise_conv_1d_nwc_wcm": ("n w.x0 c", "x c m", "n w c m"),
    "depthwise_conv_2d_nhwc_hwc": ("n h.y0 w.x1 c", "y x c", "n h w c"),
    "depthwise_conv_2d_nchw_chw": ("n c h.y0 w.x1", "c y x", "n c h w"),
    "depthwise_conv_2d_nhwc_hwcm": ("n h.y0 w.x1 c", "y x c m", "n h w c m"),
}  # fmt: skip
_POOLS = {
    "nhwc": ("n h.y0 w.x1 c", "y x", "n h w c"), "nchw": ("n c h.y0 w.x1", "y x", "n c h w"),
    "nwc": ("n w.x0 c", "x", "n w c"), "ncw": ("n c w.x0", "x", "n c w"),
    "ndhwc": ("n d.z0 h.y1 w.x2 c", "z y x", "n d h w c"),
}  # fmt: skip
_ELEMENTWISE = (
    "add", "sub", "mul", "div", "div_unsigned", "max", "min", "powf", "exp", "log", "abs", "ceil", "floor", "negf",
    "sqrt", "rsqrt", "square", "reciprocal", "tanh", "erf", "select", "copy", "fill",
)  # fmt: skip

NAMED: Mapping[str, Named] = {
    **{name: _einsum(text) for name, text in _PRODUCTS.items()},
    **{name: _windows(*parts) for name, parts in _CONVOLUTIONS.items()},
    **{
        f"pooling_{layout}_{body}": _windows(*parts, body=f"pool-{body}")
        for layout, parts in _POOLS.items() for body in ("sum", "max", "min")
    },
    **{name: Named(None, name) for name in _ELEMENTWISE},
}  # fmt: skip
"""By name, without `linalg.`."""


def maps_of(
    named: Named, operands: int, rank: int, strides: Sequence[int], dilations: Sequence[int]
) -> list[AffineMap]:
    """The index maps of the operands. Counters of the result come first."""
    if named.maps is None:
        return [AffineMap.identity(rank)] * operands
    names = list(dict.fromkeys([*named.maps[-1], *_counters(named.maps)]))

    def place(name: str) -> AffineExpr:
        return AffineExpr.dimension(names.index(name))

    def subscript(part: str) -> AffineExpr:
        if "." not in part:
            return place(part)
        window = int(part[3])
        return place(part[0]) * strides[window] + place(part[2]) * dilations[window]

    return [AffineMap(len(names), 0, tuple(map(subscript, parts))) for parts in named.maps]


def _counters(maps: Maps) -> list[str]:
    return [letter for parts in maps for part in parts for letter in part.split(".")[0] + part.partition(".")[2][:1]]
