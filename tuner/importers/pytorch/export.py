"""A module as torch exports it: a program of operators, or an ONNX model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from tuner.errors import MissingPackage, ModelError
from tuner.importers.pytorch.decompositions import decomposed
from tuner.importers.pytorch.errors import gist, line_of
from tuner.importers.pytorch.flex import plain_attention

if TYPE_CHECKING:
    import onnx

_RECURRENT = ("lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input")


def exported(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], source: str) -> torch.export.ExportedProgram:
    """The module as a program; where it cannot be traced as Python runs it, by torch's analysis of its bytecode.

    Raises ModelError with the line of the module that stands in the way.
    """
    _refuse_packed(module, source)
    program = _exported(module, inputs, source)
    try:
        with quietly(), torch.no_grad():
            return decomposed(program)
    except Exception as error:
        raise ModelError(source, f"torch cannot decompose it: {gist(error)}") from error


def _exported(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], source: str) -> torch.export.ExportedProgram:
    try:
        return _traced(module, inputs, strict=False)
    except Exception as error:  # the model is the user's, and may raise anything
        if isinstance(error, GuardOnDataDependentSymNode):
            raise ModelError(
                source, f"its control flow depends on the data{line_of(error)}, which torch.export cannot export",
                "choose with torch.where, or with torch.cond",
            ) from error  # fmt: skip
        try:
            return _traced(module, inputs, strict=True)
        except Exception:  # noqa: BLE001  the first reason is nearer to the user's code
            raise ModelError(source, f"torch.export cannot export it: {gist(error)}{line_of(error)}") from error


def to_onnx(program: torch.export.ExportedProgram, names: Sequence[str], source: str) -> onnx.ModelProto:
    """The program as torch writes it in ONNX, its inputs named. Raises ModelError or MissingPackage."""
    try:
        import onnxscript  # noqa: F401  torch.onnx.export is built on it
    except ModuleNotFoundError as error:
        raise MissingPackage("onnxscript", "exporting a PyTorch model to ONNX", "torch") from error
    try:
        with quietly(), torch.no_grad():
            made = torch.onnx.export(program, input_names=list(names), dynamo=True, verbose=False)
    except Exception as error:  # the exporter's errors say that there is one; what it was is their cause
        cause = error.__cause__ or error
        raise ModelError(source, f"torch cannot export it to ONNX: {gist(cause)}") from error
    assert made is not None
    model: onnx.ModelProto = made.model_proto
    return model


def is_recurrent(program: torch.export.ExportedProgram) -> bool:
    """Whether it has recurrent layers, of which decomposition would make an operator a step."""
    return any(getattr(node.target, "__name__", "") in _RECURRENT for node in program.graph.nodes)


def _refuse_packed(module: torch.nn.Module, source: str) -> None:
    for name, layer in module.named_modules():
        if type(layer).__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")):
            raise ModelError(
                source,
                f"the layer {name.removeprefix('inner.')} ({type(layer).__name__}) keeps its weights packed, which "
                "torch.export cannot export",
                "give the model before this conversion, or quantized by torch.export's own way",
            )


@contextmanager
def quietly() -> Iterator[None]:
    """Without what exporters warn of and log: their own internals, and packages that are no part of this project."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _traced(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], strict: bool) -> torch.export.ExportedProgram:
    with quietly(), torch.no_grad(), plain_attention():
        return torch.export.export(module, inputs, strict=strict)
