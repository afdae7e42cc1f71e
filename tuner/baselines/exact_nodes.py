"""The model for the run in float64, with what PyTorch has no operator for computed by ONNX Runtime in its own types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuner.importers import torch_module

if TYPE_CHECKING:
    import torch


def module(model_spec: Mapping[str, Any]) -> tuple[torch.nn.Module, Sequence[Any]]:
    """The model as a module in eval mode, and example inputs. Raises ModelError, or what ONNX Runtime raises for a node
    that it does not know either."""
    return torch_module(model_spec, _by_onnxruntime)


def _by_onnxruntime(node: bytes) -> Callable[[Sequence[Any]], Sequence[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(node, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(values: Sequence[Any]) -> Sequence[Any]:
        outputs: Sequence[Any] = session.run(None, dict(zip(names, values, strict=True)))
        return outputs

    return run
