"""ONNX operators written with torch: one function each, its keywords named as the operator's attributes.

Values are torch tensors; the inputs that LITERAL_INPUTS lists are Python numbers and lists instead. A keyword `opset`
receives the version of the operator set, a keyword `outputs` how many outputs the node has. Semantics:
https://onnx.ai/onnx/operators. A function raises NotImplementedError for an attribute value that it does not support.
"""

from __future__ import annotations

from tuner.importers.onnx_operators import (
    arithmetic,
    indexing,
    normalization,
    quantization,
    recurrent,
    reductions,
    resizing,
    shapes,
    windows,
)
from tuner.importers.onnx_operators.arithmetic import DIRECT
from tuner.importers.onnx_operators.base import Forms, Literals

__all__ = ["DIRECT", "LITERAL_INPUTS", "OPERATORS"]

OPERATORS: Forms = {
    **windows.OPERATORS,
    **normalization.OPERATORS,
    **arithmetic.OPERATORS,
    **reductions.OPERATORS,
    **shapes.OPERATORS,
    **indexing.OPERATORS,
    **resizing.OPERATORS,
    **quantization.OPERATORS,
    **recurrent.OPERATORS,
}
LITERAL_INPUTS: Literals = {
    **arithmetic.LITERAL_INPUTS,
    **indexing.LITERAL_INPUTS,
    **recurrent.LITERAL_INPUTS,
    **reductions.LITERAL_INPUTS,
    **resizing.LITERAL_INPUTS,
    **shapes.LITERAL_INPUTS,
}
