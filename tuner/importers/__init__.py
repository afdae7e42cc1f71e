"""Where models come from. The prefix of `model.source` chooses the importer, by the table below.

Everything here is a plain function over JSON-able arguments: a *model spec* is
`{"kind", "source", "batch", "inputs", "dims", "weights", "seed", "data", "one_of_several"}`, from which every process
builds exactly the same model. The importers themselves (onnx, torch, tvm) are imported only when one of them is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tuner.errors import ModelError
from tuner.importers.inputs import input_sets, model_inputs, provenance
from tuner.models import ImportedModel
from tuner.protocols import Array

if TYPE_CHECKING:
    import onnx
    import torch

    from tuner.importers.onnx_in_torch import NodeRunner

__all__ = [
    "IMPORTERS", "ModelSpec", "input_sets", "load", "load_spec", "make_model_spec", "model_inputs", "onnx_bytes",
    "original_check", "provenance", "torch_module",
]  # fmt: skip

ModelSpec = Mapping[str, Any]
"""JSON-able data from which a model is built; see `make_model_spec`."""


def _load_onnx(model_spec: ModelSpec) -> ImportedModel:
    from tuner.importers.onnx import load

    return load(model_spec)


def _load_torch(model_spec: ModelSpec) -> ImportedModel:
    from tuner.importers.torch import load

    return load(model_spec)


def _load_c(model_spec: ModelSpec) -> ImportedModel:
    from tuner.importers.c_function import load

    return load(model_spec)


IMPORTERS: Mapping[str, Callable[[ModelSpec], ImportedModel]] = dict(
    onnx=_load_onnx, torch=_load_torch, llvm=_load_c, mlir=_load_c
)  # as keywords: `llvm` names what is read here, and no kind of device


def load(
    source: str,
    batch: int | None,
    inputs: Mapping[str, tuple[int, ...]],
    weights: str,
    seed: int,
    dims: Mapping[str, int] | None = None,
    data: str | None = None,
    one_of_several: bool = False,
    raising: Mapping[str, Any] | None = None,
) -> ImportedModel:
    """The model named by `source` (`onnx:PATH`, `onnx:light_NAME`, `torch:package.module:callable`, `llvm:FILE` or
    `mlir:FILE`).

    `inputs` fixes the shape of some inputs by name, batch dimension included, and `dims` dynamic extents by the name
    of their symbol; every other input gets `batch` as its leading dimension, or keeps its own where that is None.
    `weights` is `random` (drawn from `seed`, at a scale that keeps activations of order one) or `original`. `data` is
    a file or folder of inputs (see `data`), which fix all shapes; `one_of_several`: only its sets that have the shapes
    of `inputs` and `dims` count. `raising` is for functions of C alone: `function`, `sizes` and `allow_reassociation`.
    Raises ModelError, ConfigError, or MissingPackage.
    """
    return load_spec(make_model_spec(source, batch, inputs, weights, seed, dims, data, one_of_several, raising))


def load_spec(model_spec: ModelSpec) -> ImportedModel:
    """The model of a spec. Raises ModelError, ConfigError, or MissingPackage."""
    return IMPORTERS[model_spec["kind"]](model_spec)


def make_model_spec(
    source: str,
    batch: int | None,
    inputs: Mapping[str, tuple[int, ...]],
    weights: str,
    seed: int,
    dims: Mapping[str, int] | None = None,
    data: str | None = None,
    one_of_several: bool = False,
    raising: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The JSON-able spec of a model that was not loaded yet. Raises ModelError when it contradicts itself."""
    if batch is not None and batch < 1:
        raise ModelError(source, f"a batch of {batch}", "model.batch is at least 1")
    if weights not in ("random", "original"):
        raise ModelError(source, f"weights {weights!r} are unknown", "model.weights is random or original")
    if batch not in (None, 1) and inputs and all(shape[:1] != (batch,) for shape in inputs.values()):
        name, shape = next(iter(inputs.items()))
        rest = ", ".join(map(str, (batch, *shape[1:])))
        raise ModelError(
            source,
            f"model.batch is {batch}, but no shape in model.inputs begins with {batch}",
            f"leave model.batch out: model.inputs.{name}: {list(shape)} stays; or write model.inputs.{name}: [{rest}]",
        )
    for name, shape in inputs.items():
        if any(extent < 0 for extent in shape):
            raise ModelError(source, f"model.inputs.{name} has the shape {list(shape)}", "no extent is negative")
    return {
        "kind": _kind(source),
        "source": source,
        "batch": batch,
        "inputs": {name: list(shape) for name, shape in inputs.items()},
        "dims": dict(dims or {}),
        "weights": weights,
        "seed": seed,
        "data": data,
        "one_of_several": one_of_several,
        **({} if raising is None else {"raising": dict(raising)}),
    }


def torch_module(
    model_spec: ModelSpec, other: NodeRunner | None = None
) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """The model as a module in eval mode, and example inputs for it. An ONNX graph is run by torch operators, and its
    nodes for which there is none by `other`.

    Raises ModelError when the graph has an operator that cannot be run in torch, and there is no `other`.
    """
    if model_spec["kind"] == "torch":
        from tuner.importers.torch import torch_module as build

        return build(model_spec)
    from tuner.importers.onnx import clean_proto, input_specs
    from tuner.importers.onnx_in_torch import to_module

    model = clean_proto(model_spec)
    return to_module(model, model_spec["source"], model_inputs(input_specs(model), model_spec, 0), other)


def onnx_bytes(model_spec: ModelSpec) -> onnx.ModelProto:
    """The model for ONNX Runtime: as its author wrote it, or as torch exports it. Inputs keep their names."""
    if model_spec["kind"] == "torch":
        from tuner.importers.torch import to_onnx

        return to_onnx(model_spec)
    from tuner.importers.onnx import model_proto

    return model_proto(model_spec)


def original_check(name: str) -> tuple[list[Array], list[Array], float, float]:
    """Inputs, expected outputs, rtol and atol that `onnx` ships for one of its models (original weights)."""
    from tuner.importers.onnx import original_check as check

    return check(name)


def _kind(source: str) -> str:
    kind, colon, rest = source.partition(":")
    if kind in IMPORTERS and rest:
        return kind
    prefixes = " or ".join(f"{known}:" for known in IMPORTERS)
    if colon and kind not in IMPORTERS:
        raise ModelError(source, f"no importer for {kind!r}", f"a source begins with {prefixes}")
    raise ModelError(source, "not a model source", f"a source begins with {prefixes}, then the model's name")
