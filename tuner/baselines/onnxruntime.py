"""ONNX Runtime as a rival: all graph optimisations, I/O binding, one operator at a time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tuner.errors import ModelError

if TYPE_CHECKING:
    from tuner.protocols import Array

OnnxSource = Callable[[Mapping[str, Any]], Any]
"""From a recipe to an onnx.ModelProto, or to the bytes of one."""

_PROTOBUF_LIMIT = 2**31
"""No protobuf message may be larger, and a model given in memory is one message."""


@dataclass(frozen=True)
class OnnxRuntime:
    """The CPU execution provider with the settings that serve a latency measurement best."""

    source: OnnxSource
    name: ClassVar[str] = "onnxruntime"

    @property
    def settings(self) -> str:
        return (
            f"ONNX Runtime {version('onnxruntime')}, CPU execution provider, graph optimisation ALL, sequential, "
            "I/O binding"
        )

    def unavailable(self) -> str | None:
        return None if importlib.util.find_spec("onnxruntime") else "the package 'onnxruntime' is not installed"

    def load(self, recipe: Mapping[str, Any], threads: int) -> LoadedSession:
        """A session with `threads` threads. Raises ModelError when the model is too large to be given in memory."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3  # errors only
        model = _serialized(self.source(recipe))
        return LoadedSession(
            self.name, onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        )


def _serialized(model: Any) -> bytes:
    if isinstance(model, bytes):
        return model
    size = model.ByteSize()
    if size >= _PROTOBUF_LIMIT:
        raise ModelError(
            "onnxruntime", f"the model takes {size} bytes, and protobuf allows at most {_PROTOBUF_LIMIT} in memory"
        )
    data: bytes = model.SerializeToString()
    return data


@dataclass(frozen=True)
class LoadedSession:
    """A Launchable."""

    key: str
    session: Any

    def prepare(self, inputs: Sequence[Array]) -> PreparedSession:
        """`inputs` in the order of the model's own. Raises ValueError when their number is another."""
        return PreparedSession(self.session, inputs)


class PreparedSession:
    """A Prepared: inputs are bound once, outputs stay where the runtime allocates them."""

    def __init__(self, session: Any, inputs: Sequence[Array]) -> None:
        import onnxruntime

        self._session = session
        self._binding = session.io_binding()
        self._values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in inputs]
        for spec, value in zip(session.get_inputs(), self._values, strict=True):
            self._binding.bind_ortvalue_input(spec.name, value)
        for spec in session.get_outputs():
            self._binding.bind_output(spec.name, "cpu")

    def launch(self, count: int) -> None:
        run, binding = self._session.run_with_iobinding, self._binding
        for _ in range(count):
            run(binding)

    def outputs(self) -> list[Array]:
        return [np.array(array) for array in self._binding.copy_outputs_to_cpu()]
