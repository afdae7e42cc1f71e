"""PyTorch models, by the import path of a callable that makes them: `torch:package.module:callable`.

The callable returns `(module, example_inputs)`, or a module alone, whose input shapes then stand in `model.inputs`.
Example inputs are a tensor, a tuple of arguments or a dict of keyword arguments (or both: `(module, args, kwargs)`), in
which tensors may lie in further tuples, lists and dicts; numbers, texts and None among them stay what they are. Inputs
are named by the parameters of the module's `forward`; `arg0`, `arg1`, ... name them by position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.errors import MissingPackage, ModelError
from tuner.models import ImportedModel, InputSpec, ModelPlan

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingPackage("torch", "a PyTorch model", "torch") from error

from tuner.importers.pytorch.adapted import adapted
from tuner.importers.pytorch.export import exported, is_recurrent
from tuner.importers.pytorch.export import to_onnx as program_in_onnx
from tuner.importers.pytorch.inputs import CallLayout, Tensors, bare_layout, layout_of, shaped
from tuner.importers.pytorch.norms import settle_batch_norms
from tuner.importers.pytorch.source import made
from tuner.importers.torch_data import stored_examples, stored_inputs, with_data_shapes
from tuner.importers.torch_uses import input_uses

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class _Built:
    """A module that takes `inputs` in a row. `notes`: what it has that the user's own has not."""

    module: torch.nn.Module
    names: tuple[str, ...]
    inputs: Tensors
    notes: list[str]


def load(model_spec: Mapping[str, Any]) -> ImportedModel:
    """The model as relax: by TVM's converters of PyTorch's operators, or by way of ONNX where these cannot take it and
    for recurrent layers. The notes say which. Raises ModelError naming what stands in the way, or MissingPackage."""
    source = model_spec["source"]
    built = _build(model_spec)
    program = exported(built.module, built.inputs, source)
    pairs = list(zip(built.names, built.inputs, strict=True))
    specs = tuple(InputSpec(name, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in pairs)
    uses = {name: use.to_json() for name, use in input_uses(program, built.names, built.inputs).items()}
    module, plan, notes = _in_relax(program, built.names, source)
    name = source.rpartition(":")[2]
    model_spec = {**with_data_shapes(model_spec, specs), "uses": uses}
    return ImportedModel(name, source, module, specs, model_spec, plan, (*built.notes, *notes))


def torch_module(model_spec: Mapping[str, Any]) -> tuple[torch.nn.Module, Tensors]:
    """The module in eval mode and example inputs of the model spec's shapes. Raises ModelError or MissingPackage."""
    built = _build(model_spec)
    return built.module, built.inputs


def to_onnx(model_spec: Mapping[str, Any]) -> onnx.ModelProto:
    """The model as torch exports it to ONNX, its inputs named as in `load`. Raises ModelError or MissingPackage."""
    built = _build(model_spec)
    source = model_spec["source"]
    return program_in_onnx(exported(built.module, built.inputs, source), built.names, source)


def _in_relax(
    program: torch.export.ExportedProgram, names: tuple[str, ...], source: str
) -> tuple[Any, ModelPlan | None, list[str]]:
    """The program as relax, with a note where it comes by way of ONNX, and a plan where a part of it stays with ONNX
    Runtime then. Raises ModelError with both ways' reasons."""
    from tuner.importers.pytorch.relax import to_relax

    if is_recurrent(program):
        try:
            note = "imported by way of ONNX, where recurrent layers stay loops"
            return *_by_onnx(program, names, source), [note]
        except (ModelError, MissingPackage):
            return to_relax(program, source), None, []
    try:
        return to_relax(program, source), None, []
    except ModelError as error:
        why = _reason(error, source)
    try:
        return *_by_onnx(program, names, source), [f"imported by way of ONNX: {why}"]
    except (ModelError, MissingPackage) as error:
        raise ModelError(source, f"{why}; by way of ONNX: {_reason(error, source)}") from error


def _by_onnx(
    program: torch.export.ExportedProgram, names: tuple[str, ...], source: str
) -> tuple[Any, ModelPlan | None]:
    from tuner.importers.onnx import relax_of

    return relax_of(program_in_onnx(program, names, source), source)


def _reason(error: ModelError | MissingPackage, source: str) -> str:
    return error.message.removeprefix(f"{source}: ")


def _build(model_spec: Mapping[str, Any]) -> _Built:
    """The module with its inputs in the shapes of the model spec."""
    source = model_spec["source"]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(model_spec["seed"])
        module, examples = made(source)
        module = module.eval()
        layout = layout_of(source, module, examples) if examples else _asked_layout(source, module, model_spec)
        inputs = stored_inputs(layout.names, layout.tensors, model_spec) or shaped(source, layout, model_spec)
        if model_spec["weights"] == "random":
            settle_batch_norms(module, lambda given: _called(module, layout, given), inputs, source)
        module, inputs, notes = adapted(source, module, layout, inputs)
    return _Built(module, layout.names, inputs, notes)


def _asked_layout(source: str, module: torch.nn.Module, model_spec: Mapping[str, Any]) -> CallLayout:
    if model_spec.get("data") is not None:
        return layout_of(source, module, [stored_examples(model_spec)])
    if not model_spec["inputs"]:
        raise ModelError(
            source, "the callable gives no example inputs", "write their shapes, in order, as model.inputs.arg0: ..."
        )
    return bare_layout(source, module, list(model_spec["inputs"].values()))


def _called(module: torch.nn.Module, layout: CallLayout, inputs: Any) -> Any:
    args, kwargs = layout.call(inputs)
    return module(*args, **kwargs)
