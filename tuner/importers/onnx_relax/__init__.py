"""Converters from ONNX operators to relax, for those that TVM's frontend lacks or gets wrong.

`CONVERTERS` maps (domain, operator) to a function of one `Node`; the domain of standard operators is "".
"""

from __future__ import annotations

from tuner.importers.onnx_relax import (
    arithmetic,
    attention,
    caches,
    fused,
    indexing,
    linear_attention,
    norms,
    padding,
    pooling,
    quantization,
    quantized_layers,
    recurrent,
    reductions,
    resize,
    sampling,
    signal,
    tensors,
)
from tuner.importers.onnx_relax.node import Converter

CONVERTERS: dict[tuple[str, str], Converter] = {
    **arithmetic.CONVERTERS,
    **attention.CONVERTERS,
    **caches.CONVERTERS,
    **fused.CONVERTERS,
    **indexing.CONVERTERS,
    **linear_attention.CONVERTERS,
    **norms.CONVERTERS,
    **padding.CONVERTERS,
    **pooling.CONVERTERS,
    **quantization.CONVERTERS,
    **quantized_layers.CONVERTERS,
    **recurrent.CONVERTERS,
    **reductions.CONVERTERS,
    **resize.CONVERTERS,
    **sampling.CONVERTERS,
    **signal.CONVERTERS,
    **tensors.CONVERTERS,
}
