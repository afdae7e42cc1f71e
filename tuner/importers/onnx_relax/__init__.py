"""Converters from ONNX operators to relax, for those that TVM's frontend lacks or gets wrong.

`CONVERTERS` maps (domain, operator) to a function of one `Node`; the domain of standard operators is "".
"""

from __future__ import annotations

from tuner.importers.onnx_relax import (
    arithmetic,
    attention,
    fused,
    norms,
    padding,
    pooling,
    quantization,
    recurrent,
    reductions,
    resize,
    signal,
)
from tuner.importers.onnx_relax.node import Converter

CONVERTERS: dict[tuple[str, str], Converter] = {
    **arithmetic.CONVERTERS,
    **attention.CONVERTERS,
    **fused.CONVERTERS,
    **norms.CONVERTERS,
    **padding.CONVERTERS,
    **pooling.CONVERTERS,
    **quantization.CONVERTERS,
    **recurrent.CONVERTERS,
    **reductions.CONVERTERS,
    **resize.CONVERTERS,
    **signal.CONVERTERS,
}
