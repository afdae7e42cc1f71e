"""PyTorch models, by the import path of a callable that makes them: `torch:package.module:callable`.

The callable returns `(module, example_inputs)`, or a module alone, whose input shapes then stand in
`model.inputs`. Inputs are named by the parameters of the module's `forward`; `arg0`, `arg1`, ... name
them by position.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tuner.errors import MissingPackage, ModelError
from tuner.importers import torch_half
from tuner.protocols import ImportedModel, InputSpec
from tuner.schema import did_you_mean

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingPackage("torch", "a PyTorch model", "torch") from error

if TYPE_CHECKING:
    import onnx

Tensors = tuple[torch.Tensor, ...]

EXTRA_PACKAGES = ("transformers", "onnxscript")
"""Packages of our extra `torch`: when a model asks for one of them, that extra is what is missing."""


class TensorOutputs(torch.nn.Module):
    """A module whose structured output (a dict, a dataclass) is flattened to its tensors, in order."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | Tensors:
        leaves = torch.utils._pytree.tree_leaves(self.inner(*inputs))  # noqa: SLF001  its only home so far
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        return tensors[0] if len(tensors) == 1 else tensors


def load(model_spec: Mapping[str, Any]) -> ImportedModel:
    """The model as relax. Raises ModelError naming what stands in the way, or MissingPackage."""
    source = model_spec["source"]
    module, names, examples = _build(model_spec)
    program = _export(module, examples, source)
    specs = tuple(
        InputSpec(name, tuple(example.shape), str(example.dtype).removeprefix("torch."))
        for name, example in zip(names, examples, strict=True)
    )
    ranges = {name: _range(e) for name, e in zip(names, examples, strict=True) if not e.is_floating_point()}
    name = source.rpartition(":")[2]
    return ImportedModel(name, source, _to_relax(program, source), specs, {**model_spec, "ranges": ranges})


def torch_module(model_spec: Mapping[str, Any]) -> tuple[torch.nn.Module, Tensors]:
    """The module in eval mode and example inputs of the model spec's shapes. Raises ModelError or MissingPackage."""
    module, _, examples = _build(model_spec)
    return module, examples


def to_onnx(model_spec: Mapping[str, Any]) -> onnx.ModelProto:
    """The model as torch exports it to ONNX, its inputs named as in `load`. Raises ModelError or MissingPackage."""
    try:
        import onnxscript  # noqa: F401  torch.onnx.export is built on it
    except ModuleNotFoundError as error:
        raise MissingPackage("onnxscript", "exporting a PyTorch model to ONNX", "torch") from error
    module, names, examples = _build(model_spec)
    # torchvision, for which the exporter looks, is no part of this project; it warns through logging.
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        program = _guarded(
            model_spec["source"],
            "torch cannot export it to ONNX",
            lambda: torch.onnx.export(module, examples, input_names=names, dynamo=True, verbose=False),
        )
    finally:
        log.setLevel(level)
    model: onnx.ModelProto = program.model_proto
    return model


def _build(model_spec: Mapping[str, Any]) -> tuple[torch.nn.Module, list[str], Tensors]:
    """The module, and the names and example tensors of its inputs."""
    source = model_spec["source"]
    make = _callable(source)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(model_spec["seed"])
        module, examples = _called(make, source)
        module = module.eval()
        names = _input_names(module, len(examples) if examples is not None else len(model_spec["inputs"]))
        tensors = _inputs(source, names, examples, model_spec)
        if model_spec["weights"] == "random":
            _settle_batch_norms(module, tensors, source)
        output = _guarded(source, "the module fails on its example inputs", lambda: module(*tensors))
    flat = isinstance(output, torch.Tensor) or (
        isinstance(output, (tuple, list)) and all(isinstance(part, torch.Tensor) for part in output)
    )
    return (module if flat else TensorOutputs(module).eval()), names, tensors


def _callable(source: str) -> Callable[[], object]:
    path, _, attribute = source.removeprefix("torch:").partition(":")
    if not attribute or not all(part.isidentifier() for part in path.split(".")):
        raise ModelError(source, "not an import path", "write torch:package.module:callable")
    with _current_folder_first():
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if missing == path or path.startswith(f"{missing}."):
                raise ModelError(source, f"there is no module {missing}", "it is looked for from here") from error
            if missing.partition(".")[0] in EXTRA_PACKAGES:
                raise MissingPackage(missing.partition(".")[0], f"the model {source}", "torch") from error
            raise ModelError(source, f"its module needs the package {missing}, which is not installed") from error
        except Exception as error:  # the module is the user's, and may raise anything
            raise ModelError(source, f"importing {path} fails: {_gist(error)}") from error
    made = getattr(module, attribute, None)
    if not callable(made):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        what = "is not callable" if hasattr(module, attribute) else "does not exist"
        raise ModelError(source, f"{attribute} {what} in {path}", did_you_mean(attribute, public[:20]))
    return made  # type: ignore[no-any-return]


def _called(make: Callable[[], object], source: str) -> tuple[torch.nn.Module, Tensors | None]:
    made = _guarded(source, "the callable fails", make)
    module, examples = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            source, f"the callable returns a {type(module).__name__}", "it returns (module, example_inputs) or a module"
        )
    if examples is None:
        return module, None
    examples = (examples,) if isinstance(examples, torch.Tensor) else tuple(examples)
    if not examples or not all(isinstance(example, torch.Tensor) for example in examples):
        raise ModelError(source, "the example inputs are not a tuple of tensors")
    return module, examples


def _input_names(module: torch.nn.Module, count: int) -> list[str]:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind in positional][:count]
    return names + [f"arg{index}" for index in range(len(names), count)]


def _inputs(source: str, names: Sequence[str], examples: Tensors | None, model_spec: Mapping[str, Any]) -> Tensors:
    """Example tensors of the asked shapes: the examples as they are where they fit, else made anew."""
    position = {f"arg{index}": name for index, name in enumerate(names)} | {name: name for name in names}
    given: dict[str, tuple[int, ...]] = {}
    if model_spec["dims"]:
        raise ModelError(source, "model.dims: a PyTorch model has no named extents", "write model.inputs.NAME: [...]")
    for key, shape in model_spec["inputs"].items():
        if key not in position:
            hint = did_you_mean(key, names) or f"its inputs: {', '.join(names)}"
            raise ModelError(source, f"model.inputs.{key}: the model has no such input", hint)
        given[position[key]] = tuple(shape)
    if examples is None:
        if not given:
            raise ModelError(
                source,
                "the callable gives no example inputs",
                "write their shapes, in order, as model.inputs.arg0: ...",
            )
        return tuple(torch.randn(given[name]) for name in names)
    leading = examples[0].shape[:1]
    tensors = []
    for name, example in zip(names, examples, strict=True):
        shape = tuple(example.shape)
        batch = model_spec["batch"]
        batched = (batch, *shape[1:]) if batch is not None and shape and shape[:1] == leading else shape
        tensors.append(_resized(example, given.get(name, batched)))
    return tuple(tensors)


def _resized(example: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A tensor of another shape: random when floating, else the example repeated (so ids stay in the vocabulary)."""
    if tuple(example.shape) == tuple(shape):
        return example
    if example.is_floating_point():
        return torch.randn(tuple(shape)).to(example.dtype)
    count = int(torch.Size(shape).numel())
    flat = example.reshape(-1)
    return flat.repeat(-(-count // max(1, flat.numel())))[:count].reshape(tuple(shape))


def _range(example: torch.Tensor) -> list[int]:
    """`[low, high)` for values like the example's: constant ones (masks, segment ids) stay constant."""
    if example.numel() == 0:
        return [0, 1]
    low, high = int(example.min()), int(example.max())
    return [low if low == high else min(0, low), high + 1]


def _settle_batch_norms(module: torch.nn.Module, examples: Tensors, source: str) -> None:
    """Give every batch norm the statistics of what reaches it, blurred, and a scale and bias that matter.

    What reaches it is computed from N(0, 1) inputs, as in `model_inputs`: example images are often zeros.
    One pass in eval mode: each layer is set just before it runs, so what follows sees normalized values.
    One thread, so that every process arrives at the same bits. Runs under the caller's seed.
    """
    kinds = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
    layers = [layer for layer in module.modules() if isinstance(layer, kinds) and layer.running_mean is not None]
    if not layers:
        return

    def settle(layer: torch.nn.Module, inputs: Tensors) -> None:
        assert isinstance(layer, kinds)
        over = [axis for axis in range(inputs[0].dim()) if axis != 1]
        values = inputs[0].float()
        mean, variance = values.mean(over), values.var(over, correction=0)
        variance = torch.where(variance > 1e-6, variance, values.square().mean() + 1e-3)
        assert layer.running_mean is not None and layer.running_var is not None
        layer.running_mean.copy_(mean + 0.1 * variance.sqrt() * torch.randn_like(mean))
        layer.running_var.copy_(variance * torch.empty_like(variance).uniform_(0.5, 1.5))
        if layer.affine:
            layer.weight.uniform_(0.8, 1.2)
            layer.bias.normal_(0.0, 0.1)

    drawn = tuple(torch.randn_like(e) if e.is_floating_point() else e for e in examples)
    hooks = [layer.register_forward_pre_hook(settle) for layer in layers]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _guarded(source, "the module fails on random inputs", lambda: module(*drawn))
    finally:
        torch.set_num_threads(threads)
        for hook in hooks:
            hook.remove()


def _export(module: torch.nn.Module, examples: Tensors, source: str) -> torch.export.ExportedProgram:
    with torch.no_grad():
        program = _guarded(
            source,
            "torch.export cannot export it",
            lambda: torch.export.export(module, examples).run_decompositions(),
        )
    assert isinstance(program, torch.export.ExportedProgram)
    return program


def _to_relax(program: torch.export.ExportedProgram, source: str) -> Any:
    from tvm.relax.frontend.torch import from_exported_program
    from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

    supported = ExportedProgramImporter().convert_map
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    unknown = sorted({str(call) for call in calls if getattr(call, "__name__", "") not in supported})
    if unknown:
        raise ModelError(source, f"TVM does not support the operator {', '.join(unknown)}")
    return _guarded(
        source,
        "TVM cannot convert it",
        lambda: from_exported_program(
            program,
            unwrap_unit_return_tuple=True,
            run_ep_decomposition=False,
            custom_convert_map=torch_half.CONVERTERS if _half(program) else None,
        ),
    )


def _half(program: torch.export.ExportedProgram) -> bool:
    return any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in program.state_dict.values())


def _guarded(source: str, what: str, run: Callable[[], Any]) -> Any:
    """Run the user's code, or a compiler on it; whatever it raises becomes one ModelError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # exporters warn about their own internals
            return run()
    except Exception as error:  # the model is the user's, and may raise anything
        raise ModelError(source, f"{what}: {_gist(error)}") from error


def _gist(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Import from where the program was started, as `python -m` does."""
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
