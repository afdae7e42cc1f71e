"""ONNX Runtime as it is timed: its settings, and what it takes and returns besides tensors of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tuner.protocols import Array


def timed_session_options(threads: int) -> Any:
    """Options of a session that serve a latency measurement best: all optimizations, one operator at a time, each with
    `threads` threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors only
    return options


def takes_numbers(session: Any) -> bool:
    """Whether all that a session of ONNX Runtime takes and returns are tensors of numbers."""
    types = [value.type for value in (*session.get_inputs(), *session.get_outputs())]
    return all(kind.startswith("tensor(") and kind != "tensor(string)" for kind in types)


def flat_arrays(value: Any) -> list[Array]:
    """The arrays of one output of ONNX Runtime: a tensor, a sequence of values, a map (its keys, then its values) or
    nothing (of an optional). Texts become numpy's strings, which need no pickle to be stored."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [array for item in value for array in flat_arrays(item)]
    if isinstance(value, dict):
        return [*flat_arrays(np.array(list(value))), *flat_arrays(np.array(list(value.values())))]
    array = np.asarray(value)
    return [array.astype(str) if array.dtype == object else array]
