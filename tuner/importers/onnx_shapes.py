"""Fixing every shape of an ONNX graph: the inputs by config, everything else by ONNX shape inference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tuner.errors import ModelError
from tuner.importers.data_set import Wanted
from tuner.importers.onnx_defaults import functions, opset_of, write_defaults
from tuner.importers.onnx_extents import fixed_shapes
from tuner.importers.onnx_file import MAX_PARAMETER_BYTES, check_tensor, described, first_line
from tuner.importers.onnx_tensors import light
from tuner.models import InputSpec
from tuner.schema import did_you_mean

Shapes = dict[str, tuple[int, ...]]

MAX_ACTIVATION_BYTES = 16 * 2**30
"""The largest tensor that one inference may hold."""


def true_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The graph inputs without an initializer. Before IR version 4 every initializer was also an input."""
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def fix_shapes(
    model: onnx.ModelProto,
    source: str,
    batch: int | None,
    inputs: Mapping[str, Sequence[int]],
    dims: Mapping[str, int],
) -> onnx.ModelProto:
    """The model with static inputs and every shape inferred.

    Raises ModelError for an unknown input, a dynamic extent that nothing fixes (see `onnx_extents`), shapes
    that do not fit together, and tensors too large to be true.
    """
    graph = model.graph
    values = true_inputs(graph)
    for value in values:
        dtype = _dtype(value)
        if dtype is None or dtype.kind not in "fiubO":
            raise ModelError(source, _no_tensor(graph, value, dtype))
    names = [value.name for value in values]
    for name in inputs:
        if name not in names:
            hint = did_you_mean(name, names) or f"its inputs: {', '.join(names)}"
            raise ModelError(source, f"model.inputs.{name}: the model has no such input", hint)
    first = _dims(values[0]) if values else []
    before = first[:1] or [None]
    stored_text = ", ".join(map(str, first))
    shapes = fixed_shapes({value.name: _dims(value) for value in values}, source, batch, inputs, dims)
    for value in values:
        _set_shape(value, shapes[value.name])
    after = next(iter(shapes.values()), ())[:1]
    if isinstance(before[0], int) and after and before[0] != after[0]:
        _scale_reshapes(graph, set(names), before[0], after[0])
    del graph.value_info[:]
    write_defaults(functions(graph.node), opset_of(model))  # inference goes into their bodies
    given = {value.name: value for value in values}
    for output in graph.output:
        if output.name in given:
            output.CopyFrom(given[output.name])
    try:
        infer(model, strict=True)
    except INFERENCE_ERRORS as error:
        hint = ""
        if isinstance(before[0], int) and after and before[0] != after[0]:
            hint = f"model.batch made {before[0]} {after[0]}; without it: model.inputs.{names[0]}: [{stored_text}]"
        raise ModelError(source, f"the shapes do not fit together: {first_line(error)}", hint) from error
    _check_values(model.graph, source)
    return model


def wanted_inputs(graph: onnx.GraphProto) -> list[Wanted]:
    """The inputs as the graph states them."""
    return [
        Wanted(
            value.name,
            _dtype_name(value),
            _dims(value) if value.type.tensor_type.HasField("shape") else None,
        )
        for value in true_inputs(graph)
    ]


def changed_by_batch(stated: Sequence[Wanted], fixed: Sequence[InputSpec]) -> str:
    """What `model.batch` changed of a static input, and the line to write without it; "" for nothing."""
    for before, after in zip(stated, fixed, strict=True):
        first = before.shape[0] if before.shape else None
        if isinstance(first, int) and first != after.shape[0]:
            shape = ", ".join(map(str, (first, *after.shape[1:])))
            return f"model.batch made {first} {after.shape[0]}; without it: model.inputs.{before.name}: [{shape}]"
    return ""


INFERENCE_ERRORS = (onnx.shape_inference.InferenceError, ValueError, RuntimeError)


def infer(model: onnx.ModelProto, known: Sequence[onnx.ValueInfoProto] = (), strict: bool = False) -> None:
    """Write the shape and type of every computed tensor that follows from the inputs and from what is `known` of some
    others, in place.

    Raises INFERENCE_ERRORS; with `strict` also for a single operator whose operands do not fit.
    """
    graph, small = model.graph, without_weights(model)
    given = {value.name: value for value in known}
    for output in small.graph.output:
        if output.name in given:
            output.CopyFrom(given.pop(output.name))
    small.graph.value_info.extend(given.values())
    found = onnx.shape_inference.infer_shapes(small, check_type=strict, strict_mode=strict, data_prop=True)
    del graph.value_info[:]
    graph.value_info.extend(found.graph.value_info)
    for ours, inferred in zip(graph.output, found.graph.output, strict=True):
        if inferred.type.HasField("tensor_type") and inferred.type.tensor_type.HasField("shape"):
            ours.CopyFrom(inferred)


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large parameters are inputs, and nothing is known of what is computed."""
    copy = light(model)
    del copy.graph.value_info[:]
    known = {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input}
    clear_shapes(output for output in copy.graph.output if output.name not in known)
    return copy


def input_specs(model: onnx.ModelProto) -> tuple[InputSpec, ...]:
    """The inputs of a model whose shapes are fixed."""
    values = true_inputs(model.graph)
    return tuple(InputSpec(v.name, static_shape(v) or (), _dtype_name(v)) for v in values)


def clear_shapes(values: Iterable[onnx.ValueInfoProto]) -> None:
    """Forget the shapes of those of some values that are tensors."""
    for value in values:
        if value.type.HasField("tensor_type"):  # to touch it in another type would make it one
            value.type.tensor_type.ClearField("shape")


def known_shapes(graph: onnx.GraphProto) -> Shapes:
    """Every static shape in the graph, by tensor name; parameters included."""
    shapes: Shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = static_shape(value)
        if shape is not None:
            shapes[value.name] = shape
    return shapes


def static_shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """The shape when all of it is known."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        return None
    return tuple(dim.dim_value for dim in dims)


def _dims(value: onnx.ValueInfoProto) -> list[int | str | None]:
    """Extents as stored: a number, the name of a symbol, or None."""
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else _symbol(dim.dim_param)
        for dim in value.type.tensor_type.shape.dim
    ]


def _no_tensor(graph: onnx.GraphProto, value: onnx.ValueInfoProto, dtype: np.dtype[np.generic] | None) -> str:
    """Why an input is none for us, and which operator reads it."""
    kind = f", but of {dtype}" if dtype is not None else ""
    reader = next((node for node in graph.node if value.name in node.input), None)
    words = f"input {value.name!r} is not a tensor of numbers or texts{kind}"
    return words if reader is None else f"{words}; operator {described(reader)} reads it"


def _symbol(name: str) -> str | None:
    """The name of an extent; None for what exporters write where there is none, and write for several."""
    return None if name in ("", "?", "-1") else name


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[np.generic] | None:
    """None for no tensor, and for a number that stands for no dtype."""
    code = value.type.tensor_type.elem_type
    return helper.tensor_dtype_to_np_dtype(code) if code in helper.get_all_tensor_dtypes() else None


def _dtype_name(value: onnx.ValueInfoProto) -> str:
    dtype = _dtype(value)
    return "string" if dtype is None or dtype.kind == "O" else str(dtype)


def _set_shape(value: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    tensor = value.type.tensor_type
    tensor.shape.Clear()
    for extent in shape:
        tensor.shape.dim.add().dim_value = extent


def _scale_reshapes(graph: onnx.GraphProto, dependent: set[str], before: int, after: int) -> None:
    """Scale the leading extent of constant Reshape targets: old exports wrote their batch size into them.

    Only reshapes of what depends on an input change; `dependent` has the inputs at first. A graph that does not keep
    its batch in front ends in shapes that do not fit, which inference reports.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if not dependent.intersection(node.input):
            continue
        dependent.update(node.output)
        if node.op_type != "Reshape" or len(node.input) < 2 or node.input[1] not in stored:
            continue
        target = numpy_helper.to_array(stored[node.input[1]]).copy()
        if target.size == 0 or target[0] <= 0 or target[0] % before:
            continue
        target[0] = target[0] // before * after
        name = f"{node.input[1]}__batch{after}"
        if name not in stored:
            stored[name] = numpy_helper.from_array(target, name)
            graph.initializer.append(stored[name])
        node.input[1] = name


def _check_values(graph: onnx.GraphProto, source: str) -> None:
    made = {name for node in graph.node if node.op_type == "ConstantOfShape" for name in node.output}
    parameters = 0
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape, dtype = static_shape(value), _dtype(value)
        if shape is None or dtype is None:
            continue
        size = check_tensor(source, value.name, shape, dtype.itemsize)
        parameters += size if value.name in made else 0
        if size > MAX_ACTIVATION_BYTES:
            raise ModelError(source, f"tensor {value.name!r} has {size / 2**30:.0f} GiB", "the limit is 16 GiB")
    if parameters > MAX_PARAMETER_BYTES:
        raise ModelError(source, f"{parameters / 2**30:.1f} GiB of parameters", "at most 16 GiB are supported")
