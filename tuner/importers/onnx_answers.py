"""What ONNX Runtime says of a model, in a child that may die of it."""

from __future__ import annotations

from typing import Any

import numpy as np

_DTYPES = {"float": "float32", "double": "float64"}
"""Where ONNX Runtime's name of a type is not numpy's."""


class RuntimeAnswers:
    """A child's service."""

    def op_types(self, path: str) -> list[tuple[str, str, list[int | str | None]]]:
        """Name, type and shape of each output of a model, as the runtime infers them."""
        return [(value.name, value.type, value.shape) for value in _session(path, optimized=False).get_outputs()]

    def op_computes(self, path: str) -> bool:
        """True: the model runs on ones. Raises what the runtime raises where it does not."""
        session = _session(path, optimized=True)
        session.run(None, {value.name: np.ones(value.shape, _dtype(value.type)) for value in session.get_inputs()})
        return True


def answered(question: str, path: str) -> Any:
    """The answer of this process; None where the runtime refuses the model, or is not installed."""
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as errors
    except ImportError:
        return None
    refusals = (
        errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented, errors.RuntimeException,
        RuntimeError, ValueError, TypeError,
    )  # fmt: skip
    try:
        return getattr(RuntimeAnswers(), f"op_{question}")(path)
    except refusals:
        return None


def _session(path: str, optimized: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # fatal ones only: the reason is of no use here
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _dtype(kind: str) -> str:
    name = kind.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(name, name)
