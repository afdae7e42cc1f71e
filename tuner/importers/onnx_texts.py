"""The texts that stand in an ONNX model: what its own text inputs may be, as far as a model can tell."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from tuner.importers.onnx_file import nodes

_LISTS = ("cats_strings", "classes_strings", "keys_strings", "pool_strings", "string_vocabulary", "keys_tensor")
"""Attributes in which operators have the texts that they look for."""


def texts_of(model: onnx.ModelProto) -> Iterator[str]:
    """Every text of the stored tensors and of the tables in attributes, those of subgraphs included."""
    tensors = list(model.graph.initializer)
    for node in nodes(model.graph):
        for attribute in node.attribute:
            if attribute.name in _LISTS:
                yield from (text.decode(errors="replace") for text in attribute.strings)
                tensors.append(attribute.t)
    for tensor in tensors:
        yield from (text.decode(errors="replace") for text in tensor.string_data)
