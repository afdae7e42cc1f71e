"""ONNX's form of inputs and expected outputs: folders test_data_set_N of input_N.pb and output_N.pb."""

from __future__ import annotations

import re
from pathlib import Path

from tuner.errors import ConfigError, MissingPackage
from tuner.importers.data_set import KEY, DataSet
from tuner.protocols import Array

try:
    import onnx
except ModuleNotFoundError as error:
    raise MissingPackage("onnx", "reading .pb files", "onnx") from error

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

_FILE = re.compile(r"(input|output)_(\d+)\.pb")


def read_set(folder: Path) -> DataSet:
    """One folder as a set. Raises ConfigError, naming the file."""
    inputs, outputs = (_numbered(folder, kind) for kind in ("input", "output"))
    if not inputs:
        raise ConfigError(KEY, f"{folder}: there is no input_0.pb")
    tensors = [_tensor(file) for file in inputs]
    names = [name for name, _ in tensors]
    named = len(set(names)) == len(names) and all(names)
    arrays = {name if named else str(index): array for index, (name, array) in enumerate(tensors)}
    expected = tuple(_tensor(file)[1] for file in outputs) or None
    return DataSet(folder.name, arrays, named, ordered=True, expected=expected)


def _numbered(folder: Path, kind: str) -> list[Path]:
    """The files of a kind in order. Raises ConfigError where a number is left out."""
    found = {int(m[2]): p for p in folder.iterdir() if (m := _FILE.fullmatch(p.name)) and m[1] == kind}
    for number in range(len(found)):
        if number not in found:
            raise ConfigError(KEY, f"{folder}: {kind}_{number}.pb is missing, though there are {len(found)}")
    return [found[number] for number in range(len(found))]


def _tensor(file: Path) -> tuple[str, Array]:
    try:
        tensor = onnx.TensorProto.FromString(file.read_bytes())
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ValueError("its values are in another file")
        array: Array = numpy_helper.to_array(tensor)
    except OSError as error:
        raise ConfigError(KEY, f"{file}: cannot be read: {error.strerror}") from error
    except (DecodeError, ValueError, TypeError, KeyError, RuntimeError, MemoryError) as error:
        raise ConfigError(KEY, f"{file}: damaged, or no tensor ({type(error).__name__}: {str(error)[:200]})") from error
    if tensor.data_type == onnx.TensorProto.STRING:
        array = np.array([text.decode(errors="replace") for text in tensor.string_data]).reshape(tensor.dims)
    if str(array.dtype) == "bfloat16":  # which models are given as float32
        array = array.astype(np.float32)
    if array.dtype.kind not in "biufU":
        raise ConfigError(KEY, f"{file}: holds {array.dtype}, no numbers")
    return tensor.name, array
