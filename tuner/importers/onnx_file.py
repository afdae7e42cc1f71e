"""Reading an untrusted ONNX file: bounded, checked, and never outside its own folder."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import helper

from tuner.errors import ModelError
from tuner.importers.onnx_quantized import check_quantized
from tuner.importers.onnx_tensors import array_of, bytes_of, every, graft, is_large, light, put

MAX_ELEMENTS = 2**31
"""Elements of one tensor: indices in the generated code are 32 bits."""

KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Those that ONNX Runtime knows: the standard's own, by two names, its one for machine learning, and the runtime's."""

MAX_PARAMETER_BYTES = 2**34
"""Parameters of one model: 16 GiB. Above 2 GiB they lie in files beside it, since no protobuf message is larger."""
LIGHT_FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LIGHT_MODELS = tuple(
    f"light_{name}"
    for name in (
        "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50",
        "shufflenet", "squeezenet", "vgg19", "zfnet512",
    )
)  # fmt: skip


def read(source: str) -> onnx.ModelProto:
    """The model of `onnx:PATH` or `onnx:light_NAME`, valid, functions inlined. Raises ModelError.

    Large weights that lie in files of their own stay there (`onnx_tensors`); their files have been checked.
    """
    path = locate(source)
    try:
        size = path.stat().st_size
        if size == 0:
            raise ModelError(source, "the file is empty")
        if size >= 2**31:
            raise ModelError(source, f"the file has {size} bytes", "ONNX files end at 2 GiB; use external data")
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise ModelError(source, f"cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise ModelError(source, "not an ONNX file, or a broken or truncated one") from error
    if not all(isinstance(text, str) for text in _texts(model)):
        raise ModelError(source, "a text in this file is not UTF-8; it is broken, or something else")
    if not model.ir_version or not model.graph.node:
        raise ModelError(source, "no ONNX graph in this file; it is broken, truncated or something else")
    if model.graph.sparse_initializer:
        raise ModelError(
            source, f"the sparse tensor {model.graph.sparse_initializer[0].values.name!r} is not supported"
        )
    check_sizes(model, source)
    _forget_negative(model.graph)
    _load_external_data(model, path.parent, source)
    check_quantized(model, source)
    return _checked(model, source)


def locate(source: str) -> Path:
    """The file behind a source. Raises ModelError when there is none."""
    name = source.removeprefix("onnx:")
    if name in LIGHT_MODELS:
        return LIGHT_FOLDER / f"{name}.onnx"
    path = Path(name)
    try:
        if path.is_file():
            return path
        what = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "no such file"
    except (OSError, ValueError) as error:  # a name that the file system refuses
        raise ModelError(source, "not a file name") from error
    raise ModelError(source, what, f"give a path to an .onnx file, or one of {', '.join(LIGHT_MODELS)}")


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those in subgraphs included."""
    for one in graphs(graph):
        yield from one.node


def described(node: onnx.NodeProto) -> str:
    """For a message: a node's operator, with the domain if not the standard's, and its name, or else its outputs."""
    if node.name:
        return f"{operator_of(node)} of node {node.name!r}"
    outputs = ", ".join(repr(name) for name in node.output if name)
    return f"{operator_of(node)} of the node that makes {outputs or 'nothing'}"


def operator_of(node: onnx.NodeProto) -> str:
    """A node's operator, with the domain if not the standard's."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from graphs(subgraph)


def _forget_negative(graph: onnx.GraphProto) -> None:
    """Extents that a file states as negative are not known: exporters of other frameworks write -1 for those."""
    for one in graphs(graph):
        for value in (*one.input, *one.value_info, *one.output):
            if not value.type.HasField("tensor_type"):  # to touch it in another type would make it one
                continue
            for extent in value.type.tensor_type.shape.dim:
                if extent.HasField("dim_value") and extent.dim_value < 0:
                    extent.Clear()


def check_sizes(model: onnx.ModelProto, source: str) -> None:
    """Raise ModelError when a stored tensor, or all of them together, is too large to be true."""
    total = 0
    for tensor in every(model):
        total += check_tensor(source, tensor.name, tensor.dims, _itemsize(tensor, source))
    if total > MAX_PARAMETER_BYTES:
        raise ModelError(source, f"{total / 2**30:.1f} GiB of parameters", "at most 16 GiB are supported")


def check_tensor(source: str, name: str, shape: object, itemsize: int) -> int:
    """Bytes of one tensor. Raises ModelError when its shape is negative or huge."""
    extents = [int(extent) for extent in shape]  # type: ignore[attr-defined]
    if min(extents, default=0) < 0:
        raise ModelError(source, f"tensor {name!r} has the shape {extents}")
    if math.prod(extents) > MAX_ELEMENTS:
        raise ModelError(source, f"tensor {name!r} has the shape {extents}", "more than 2**31 elements")
    return math.prod(extents) * itemsize


def _checked(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    for node in nodes(model.graph):
        local = any(f.domain == node.domain and f.name == node.op_type for f in model.functions)
        if node.domain not in KNOWN_DOMAINS and not local:
            raise ModelError(source, f"operator {described(node)} is not a standard ONNX operator")
    for tensor in model.graph.initializer:
        if is_large(tensor) and not _is_whole(tensor):
            raise ModelError(source, f"tensor {tensor.name!r} has another number of elements than its shape says")
    try:
        small = light(model)
        onnx.checker.check_model(small)
        if model.functions:
            model = graft(model, onnx.inliner.inline_local_functions(small))
    except (onnx.checker.ValidationError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(source, f"not a valid ONNX model: {first_line(error)}") from error
    return model


def _is_whole(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor that checkers do not see has as many elements as its shape says."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return True  # compared with its file
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data) in (bytes_of(tensor), _stored_bytes(tensor))
    try:
        return int(array_of(tensor).nbytes) == bytes_of(tensor)
    except (ValueError, TypeError):
        return False


def first_line(error: BaseException) -> str:
    """The gist of an error that another library raised, for a message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _texts(message: Message) -> Iterator[object]:
    """Every text of a message and of those in it: bytes where the file holds no UTF-8 (ONNX is a proto2 format)."""
    for field in message.DESCRIPTOR.fields:
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        if field.is_repeated:
            values = getattr(message, field.name)
        else:
            values = [getattr(message, field.name)] if message.HasField(field.name) else []
        for value in values:
            if isinstance(value, Message):
                yield from _texts(value)
            else:
                yield value


def _itemsize(tensor: onnx.TensorProto, source: str) -> int:
    if tensor.data_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        return 1
    try:
        return int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError as error:
        raise ModelError(source, f"tensor {tensor.name!r} has the unknown type {tensor.data_type}") from error


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    """What a tensor of numbers takes in a file: several of less than a byte share one."""
    names = {code: name for name, code in onnx.TensorProto.DataType.items()}
    width = re.fullmatch(r"U?INT([24])|FLOAT(4)E.*", names.get(tensor.data_type, ""))
    bits = int(next(filter(None, width.groups()))) if width else 8
    return -(-bytes_of(tensor) * bits // 8)


def _load_external_data(model: onnx.ModelProto, folder: Path, source: str) -> None:
    """Read external tensors into the model: exactly the bytes that their shape asks for, from inside the folder.

    Large initializers are left where they are, with their place as an absolute path.
    """
    own = {tensor.name for tensor in model.graph.initializer if is_large(tensor)}
    for tensor in every(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        _itemsize(tensor, source)
        entries = {entry.key: entry.value for entry in tensor.external_data}
        path = _inside(folder, entries.get("location", ""), tensor.name, source)
        expected = _stored_bytes(tensor)
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", expected))
        except ValueError as error:
            raise ModelError(source, f"tensor {tensor.name!r}: offset or length is not a number") from error
        if offset < 0 or length != expected or offset + length > path.stat().st_size:
            raise ModelError(
                source, f"tensor {tensor.name!r}: {expected} bytes at {offset} are not in its external data"
            )
        if tensor.name in own and expected == bytes_of(tensor):
            put(tensor, str(path.resolve()), offset, length)
            continue
        with path.open("rb") as file:
            file.seek(offset)
            tensor.raw_data = file.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _inside(folder: Path, location: str, tensor: str, source: str) -> Path:
    """The external file, which must lie in the model's folder without any link on the way."""

    def refused(why: str) -> ModelError:
        return ModelError(source, f"external data {location!r} of tensor {tensor!r} {why}")

    if not location or "\0" in location:
        raise refused("is not a file name")
    windows = PureWindowsPath(location)  # its parts split at / and at \, and it knows drives
    if PurePosixPath(location).is_absolute() or windows.is_absolute() or windows.drive or ".." in windows.parts:
        raise refused("leaves the model's folder")
    path = folder
    for part in PurePosixPath(location).parts:
        path = path / part
        if path.is_symlink():
            raise refused("is a link")
    if not path.is_file():
        raise refused("does not exist or is not a regular file")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise refused("leaves the model's folder")
    return path
