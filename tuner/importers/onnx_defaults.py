"""Attributes that a model leaves out, written into it."""

from __future__ import annotations

from collections.abc import Iterable

import onnx


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard's operators that a model is written in."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def write_defaults(nodes: Iterable[onnx.NodeProto], opset: int) -> None:
    """Write out attributes that have their defaults, in place: a function's body is not given others."""
    for node in nodes:
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
            continue
        given = {attribute.name for attribute in node.attribute}
        for name, attribute in onnx.defs.get_schema(node.op_type, opset).attributes.items():
            if name not in given and attribute.default_value.name:
                node.attribute.append(attribute.default_value)


def functions(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes whose operators the standard defines by others."""
    named = [node for node in nodes if node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type)]
    return [node for node in named if onnx.defs.get_schema(node.op_type).has_function]  # type: ignore[attr-defined]
