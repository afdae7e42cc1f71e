"""ONNX models: a file, or one of those that the `onnx` package carries, as relax."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tuner.errors import MissingPackage, ModelError

try:
    import onnx
except ModuleNotFoundError as error:
    raise MissingPackage("onnx", "an ONNX model", "onnx") from error

from onnx import inliner, numpy_helper

from tuner.importers.onnx_clean import with_constants
from tuner.importers.onnx_file import LIGHT_FOLDER, LIGHT_MODELS, read
from tuner.importers.onnx_fold import settled
from tuner.importers.onnx_functions import expanded
from tuner.importers.onnx_shapes import fix_shapes, input_specs
from tuner.importers.onnx_texts import texts_of
from tuner.importers.onnx_weights import draws
from tuner.protocols import Array, ImportedModel, ModelPlan
from tuner.schema import did_you_mean

_MOST_TEXTS = 4096
"""So many of a model's texts are kept to draw inputs from."""

__all__ = ["clean_proto", "input_specs", "load", "model_proto", "original_check"]


def model_proto(model_spec: Mapping[str, Any]) -> onnx.ModelProto:
    """The ONNX graph as its author wrote it: valid, all shapes static, parameters as initializers.

    With random weights every parameter is drawn anew. Raises ModelError.
    """
    source = model_spec["source"]
    model = read(source)
    model = fix_shapes(model, source, model_spec["batch"], model_spec["inputs"], model_spec["dims"])
    return with_constants(model, draws(model, model_spec["seed"]) if model_spec["weights"] == "random" else {})


def clean_proto(model_spec: Mapping[str, Any]) -> onnx.ModelProto:
    """`model_proto`, simplified. Raises ModelError."""
    return settled(model_proto(model_spec))


def load(model_spec: Mapping[str, Any]) -> ImportedModel:
    """The model as relax, with a plan where a part of it stays with ONNX Runtime.

    Raises ModelError naming the operator or the input that stands in the way.
    """
    try:
        return _loaded(model_spec)
    except OSError as error:  # large tensors are read when they are needed
        why = f"its external data cannot be read: {error.strerror}"
        raise ModelError(model_spec["source"], why, "leave the model's files as they are while it is tuned") from error


def _loaded(model_spec: Mapping[str, Any]) -> ImportedModel:
    from tuner.importers.onnx_plan import planned
    from tuner.importers.onnx_relax.importer import known_operators

    source = model_spec["source"]
    model = expanded(clean_proto(model_spec), known_operators())
    specs = input_specs(model)
    ranges = _integer_ranges(model)
    module, plan = planned(model, source)
    name = Path(source.removeprefix("onnx:")).stem
    spec = {**model_spec, "ranges": ranges}
    if any(given.dtype == "string" for given in specs):
        spec["texts"] = sorted(set(texts_of(model)))[:_MOST_TEXTS]
    return ImportedModel(name, source, module, specs, spec, plan)


def relax_of(model: onnx.ModelProto, source: str) -> tuple[Any, ModelPlan | None]:
    """A model that another framework wrote just now, shapes and weights as they are, as relax; with a plan where a part
    of it stays with ONNX Runtime. Raises ModelError."""
    from tuner.importers.onnx_plan import planned
    from tuner.importers.onnx_relax.importer import known_operators

    model = inliner.inline_local_functions(model) if model.functions else model
    return planned(expanded(settled(with_constants(model, {})), known_operators()), source)


def original_check(name: str) -> tuple[list[Array], list[Array], float, float]:
    """Inputs, expected outputs, rtol and atol for a model that `onnx` carries, with its original weights.

    The inputs are those of onnx.backend.test.runner.Runner.generate_dummy_data: a ramp from 0 to 1.
    """
    name = name.removeprefix("onnx:")
    if name not in LIGHT_MODELS:
        raise ModelError(name, "onnx carries no such model", did_you_mean(name, LIGHT_MODELS))
    model = onnx.load_model(LIGHT_FOLDER / f"{name}.onnx")
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs: list[Array] = []
    for value in model.graph.input:
        if value.name in stored:
            continue
        shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        size = int(np.prod(shape))
        inputs.append((np.arange(size).reshape(shape) / size).astype(np.float32))
    expected: list[Array] = []
    for index in range(len(model.graph.output)):
        tensor = onnx.TensorProto.FromString((LIGHT_FOLDER / f"{name}_output_{index}.pb").read_bytes())
        expected.append(numpy_helper.to_array(tensor))
    case = LIGHT_FOLDER.parent / "real" / name.replace("light_", "test_") / "data.json"
    tolerance = json.loads(case.read_text())
    return inputs, expected, tolerance["rtol"], tolerance["atol"]


def _integer_ranges(model: onnx.ModelProto) -> dict[str, list[int]]:
    """`[low, high)` of the integer inputs: an index stays inside its table, anything else is a mask of ones."""
    tables = {tensor.name: tensor for tensor in model.graph.initializer}
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
    ranges: dict[str, list[int]] = {}
    source_of: dict[str, str] = {}
    for value in model.graph.input:
        if value.type.tensor_type.elem_type not in floats:
            ranges[value.name] = [1, 2]
            source_of[value.name] = value.name
    for node in model.graph.node:
        if node.op_type in ("Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten") and node.input[0] in source_of:
            source_of[node.output[0]] = source_of[node.input[0]]
        if node.op_type == "Gather" and node.input[1] in source_of and node.input[0] in tables:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            ranges[source_of[node.input[1]]] = [0, tables[node.input[0]].dims[axis]]
    return ranges
