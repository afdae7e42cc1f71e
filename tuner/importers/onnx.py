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

from tuner.importers import data
from tuner.importers.onnx_borders import in_float32, notes
from tuner.importers.onnx_clean import with_constants
from tuner.importers.onnx_file import LIGHT_FOLDER, LIGHT_MODELS, read
from tuner.importers.onnx_fold import settled
from tuner.importers.onnx_functions import expanded
from tuner.importers.onnx_shapes import changed_by_batch, fix_shapes, input_specs, wanted_inputs
from tuner.importers.onnx_texts import texts_of
from tuner.importers.onnx_uses import input_uses
from tuner.importers.onnx_weights import draws
from tuner.models import ImportedModel, ModelPlan
from tuner.protocols import Array
from tuner.schema import did_you_mean

_MOST_TEXTS = 4096
"""So many of a model's texts are kept to draw inputs from."""

__all__ = ["clean_proto", "input_specs", "load", "model_proto", "original_check"]


def model_proto(model_spec: Mapping[str, Any]) -> onnx.ModelProto:
    """The ONNX graph as its author wrote it: valid, all shapes static, parameters as initializers.

    With random weights every parameter is drawn anew. Raises ModelError.
    """
    return _read(model_spec)[0]


def _read(model_spec: Mapping[str, Any]) -> tuple[onnx.ModelProto, Mapping[str, Any], str]:
    """`model_proto`, the spec with the shapes of its data, and what a stated batch changed, in words ("": nothing)."""
    source, batch = model_spec["source"], model_spec["batch"]
    model = in_float32(read(source))
    wanted = wanted_inputs(model.graph)
    if model_spec.get("data") is not None:
        model_spec = data.with_shapes(
            model_spec, wanted, data.fitted(data.read(model_spec["data"]), wanted, model_spec)
        )
    model = fix_shapes(model, source, batch, model_spec["inputs"], model_spec["dims"])
    changed = "" if batch is None else changed_by_batch(wanted, input_specs(model))
    random = model_spec["weights"] == "random"
    return with_constants(model, draws(model, model_spec["seed"]) if random else {}), model_spec, changed


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
    source = model_spec["source"]
    model, model_spec, changed = _read(model_spec)
    try:
        return _imported(model, model_spec)
    except ModelError as error:
        if error.hint or not changed:
            raise
        raise ModelError(source, error.message.removeprefix(f"{source}: "), changed) from error


def _imported(model: onnx.ModelProto, model_spec: Mapping[str, Any]) -> ImportedModel:
    """The model of a graph whose shapes are fixed."""
    from tuner.importers.onnx_plan import planned
    from tuner.importers.onnx_relax.importer import known_operators

    source, said = model_spec["source"], notes(model)
    model = settled(model)
    uses = {name: use.to_json() for name, use in input_uses(model).items()}
    model = expanded(model, known_operators())
    specs = input_specs(model)
    module, plan = planned(model, source)
    name = Path(source.removeprefix("onnx:")).stem
    spec = {**model_spec, "uses": uses}
    if any(given.dtype == "string" for given in specs):
        spec["texts"] = sorted(set(texts_of(model)))[:_MOST_TEXTS]
    return ImportedModel(name, source, module, specs, spec, plan, said)


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
