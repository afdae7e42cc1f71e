"""Operators replaced by the functions that the ONNX standard defines them by."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import helper, inliner

from tuner.importers.onnx_clean import with_constants
from tuner.importers.onnx_defaults import opset_of, write_defaults
from tuner.importers.onnx_fold import settled
from tuner.importers.onnx_tensors import graft, light

_ROUNDS = 3
"""A function may be written with operators that are functions themselves."""


def expanded(model: onnx.ModelProto, known: Collection[str]) -> onnx.ModelProto:
    """A cleaned model in which operators that are not `known` are replaced by what the standard defines them by.

    The model itself where all are known. An operator that the standard defines by no other stays.
    """
    for _ in range(_ROUNDS):
        unknown = sorted({node.op_type for node in model.graph.node} - set(known))
        if not unknown:
            break
        _give_types(model.graph)
        write_defaults([node for node in model.graph.node if node.op_type in unknown], opset_of(model))
        try:
            inlined = inliner.inline_selected_functions(
                light(model), [("", name) for name in unknown], inline_schema_functions=True
            )
        except RuntimeError:  # of some bodies it cannot tell the type of an input that was left out
            break
        model = settled(with_constants(graft(model, inlined), {}))
    return model


def _give_types(graph: onnx.GraphProto) -> None:
    """Write the types of initializers where those of computed values stand: elsewhere they are not looked for."""
    typed = {value.name for value in graph.value_info}
    for tensor in graph.initializer:
        if tensor.name not in typed:
            graph.value_info.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
