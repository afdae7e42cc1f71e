"""A model as converters to other runtimes want it: in a newer set of operators, without guards against NaN."""

from __future__ import annotations

from tuner.errors import MissingPackage

try:
    import onnx
except ModuleNotFoundError as error:
    raise MissingPackage("onnx", "an ONNX model", "onnx") from error

from onnx import version_converter

OPSET = 17
"""Before 13 softmax ran over several axes at once, and axes were attributes; 17 is what converters are tested with."""


def plain(data: bytes) -> bytes:
    """The bytes of a model that computes the same, but for the softmax of a row in which everything is masked out.

    It is in operator set `OPSET` at least, unless `onnx` cannot convert it.
    """
    model = onnx.load_model_from_string(data)
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    guards = _remove_guards(model.graph)
    if version < OPSET:
        try:
            newer: bytes = version_converter.convert_version(model, OPSET).SerializeToString()
            return newer
        except (version_converter.ConvertError, RuntimeError, ValueError):
            pass  # the converter that reads it may know more
    return model.SerializeToString() if guards else data


def _remove_guards(graph: onnx.GraphProto) -> bool:
    """Whether any `where(isnan(y), 0, y)`, `y` a softmax, became `y`: PyTorch's attention is exported like this."""
    made_by = {name: node for node in graph.node for name in node.output}
    kept = {output.name for output in graph.output}
    renamed: dict[str, str] = {}
    for node in graph.node:
        if node.op_type != "Where" or node.output[0] in kept:
            continue
        test, value = made_by.get(node.input[0]), made_by.get(node.input[2])
        guarded = test is not None and test.op_type == "IsNaN" and test.input[0] == node.input[2]
        if guarded and value is not None and value.op_type == "Softmax":
            renamed[node.output[0]] = node.input[2]
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    read = {name for node in graph.node for name in node.input if node.output[0] not in renamed} | kept
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if node.output[0] in renamed or (node.op_type == "IsNaN" and node.output[0] not in read):
            del graph.node[index]
    return bool(renamed)
