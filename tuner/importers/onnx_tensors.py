"""The stored tensors of an ONNX model. Large ones that lie in files of their own stay there until somebody reads them.

Protobuf ends at 2 GiB, and so does whatever takes a model as one message: `onnx`'s checker, its shape inference and its
inliner. They are given `light` copies, in which large tensors are inputs.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tuner import files

LARGE_BYTES = 1 << 20
"""So large a tensor is read when it is needed, and not shown to what only looks at the graph."""

PROTOBUF_BYTES = 2**31 - 2**24
"""Parameters that a model given as one message may have, with room for its graph."""

_ALIGNED = 4096
"""Where tensors begin in a file: a page, so that runtimes may map them."""


def array_of(tensor: onnx.TensorProto) -> NDArray[Any]:
    """The values of a stored tensor, read from its file where it lies in one. Raises OSError."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    path, offset = place_of(tensor)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    values = np.fromfile(path, np.uint8, bytes_of(tensor), offset=offset)
    if values.nbytes < bytes_of(tensor):
        raise OSError(errno.EIO, "shorter than when it was checked", path)
    return values.view(dtype).reshape(tuple(tensor.dims))


def place_of(tensor: onnx.TensorProto) -> tuple[str, int]:
    """The file in which a tensor lies, and where it begins there."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return entries["location"], int(entries.get("offset", 0))


def put(tensor: onnx.TensorProto, path: str, offset: int, length: int) -> None:
    """Let a tensor lie in a file, in place."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", path), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def bytes_of(tensor: onnx.TensorProto) -> int:
    """What a tensor of numbers takes in memory; 0 for texts."""
    if tensor.data_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        return 0
    itemsize: int = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(math.prod(tensor.dims)) * itemsize


def is_large(tensor: onnx.TensorProto) -> bool:
    return bytes_of(tensor) >= LARGE_BYTES


def light(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large initializers are inputs of the same names and types."""
    graph, copy = model.graph, onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    copy.graph.name = graph.name or "main"
    copy.graph.node.extend(graph.node)
    copy.graph.input.extend(graph.input)
    copy.graph.output.extend(graph.output)
    copy.graph.value_info.extend(graph.value_info)
    named = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if not is_large(tensor):
            copy.graph.initializer.append(tensor)
        elif tensor.name not in named:
            copy.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return copy


def graft(model: onnx.ModelProto, changed: onnx.ModelProto) -> onnx.ModelProto:
    """A model, in place, with the nodes of its changed `light` copy; its weights are not copied."""
    del model.functions[:]
    model.functions.extend(changed.functions)
    del model.opset_import[:]
    model.opset_import.extend(changed.opset_import)
    for field in ("node", "value_info"):
        mine = getattr(model.graph, field)
        del mine[:]
        mine.extend(getattr(changed.graph, field))
    stored = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(tensor for tensor in changed.graph.initializer if tensor.name not in stored)
    return model


def parameter_bytes(model: onnx.ModelProto) -> int:
    """What all parameters together take in memory."""
    return sum(bytes_of(tensor) for tensor in model.graph.initializer)


def complete(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all tensors in itself: the same one where they are."""
    if not any(_is_apart(tensor) for tensor in model.graph.initializer):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if _is_apart(tensor):
            values = array_of(tensor)
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.DEFAULT
            tensor.raw_data = values.tobytes()
    return copy


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write a model of any size: its graph into `path`, its large tensors into one file beside it, `path`.data."""
    data, offset = path.with_name(path.name + ".data"), 0
    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    copy.graph.name = model.graph.name or "main"
    for field in ("node", "input", "output", "value_info"):
        getattr(copy.graph, field).extend(getattr(model.graph, field))
    with data.open("wb") as file:
        for tensor in model.graph.initializer:
            if not is_large(tensor):
                copy.graph.initializer.append(tensor)
                continue
            file.seek(offset)
            array_of(tensor).tofile(file)
            entry = copy.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            put(entry, data.name, offset, bytes_of(tensor))
            offset += -(-bytes_of(tensor) // _ALIGNED) * _ALIGNED
    files.write_aside(path, copy.SerializeToString())


def every(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: initializers, those in attributes, in subgraphs and in functions."""
    graphs = [model.graph]
    pending = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while pending:
        for attribute in pending.pop().attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                graphs.append(graph)
                pending += graph.node
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)


def _is_apart(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)
