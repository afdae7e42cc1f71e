"""OpenVINO as a baseline: float32 unless asked otherwise, tuned for latency, one stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tuner.baselines.onnx_form import OnnxSource, bytes_or_path
from tuner.baselines.packages import missing, version_of

if TYPE_CHECKING:
    from tuner.protocols import Array


@dataclass(frozen=True)
class OpenVino:
    """The CPU plugin. Left to itself it computes in bfloat16 where the CPU can; the hint forbids that.

    Its threads are not pinned by itself: whoever times it pins those that work, as for every other entry.
    """

    source: OnnxSource
    name: ClassVar[str] = "openvino"
    precision: ClassVar[str] = "f32"
    model: ClassVar[str] = ""

    @property
    def settings(self) -> str:
        how = f"CPU plugin, {self.model}inference precision {self.precision}, latency hint, one stream"
        return f"OpenVINO {version_of('openvino')}, {how}"

    def unavailable(self) -> str | None:
        return missing("openvino", "openvino")

    def load(self, model_spec: Mapping[str, Any], threads: int) -> LoadedModel:
        """The model compiled for `threads` threads. Raises ModelError as `bytes_or_path` does;
        what OpenVINO cannot compile raises its own RuntimeError."""
        import openvino
        from openvino import properties
        from openvino.properties import hint

        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(bytes_or_path(self.source(model_spec), self.name)),
            "CPU",
            {
                hint.inference_precision: getattr(openvino.Type, self.precision),
                hint.performance_mode: hint.PerformanceMode.LATENCY,
                hint.enable_hyper_threading: True,  # else `threads` is cut down to the number of physical cores
                hint.enable_cpu_pinning: False,
                properties.inference_num_threads: threads,
                properties.num_streams: 1,
            },
        )
        return LoadedModel(self.name, compiled)


class OpenVinoBfloat16(OpenVino):
    """As it chooses by itself where the CPU has the instructions."""

    name = "openvino_bf16"
    precision = "bf16"


class OpenVinoInt8(OpenVino):
    """Given a quantized model; what is left in floats stays in float32."""

    name = "openvino_int8"
    model = "the quantized model, "


@dataclass(frozen=True)
class LoadedModel:
    """A Launchable: a compiled model."""

    key: str
    compiled: Any

    def prepare(self, inputs: Sequence[Array]) -> PreparedRequest:
        """`inputs` in the order of the model's own. Raises ValueError when their number is another."""
        return PreparedRequest(self.compiled, inputs)


class PreparedRequest:
    """A Prepared: an inference request with tensors of its own."""

    def __init__(self, compiled: Any, inputs: Sequence[Array]) -> None:
        import openvino

        if len(inputs) != len(compiled.inputs):
            raise ValueError(f"{len(inputs)} inputs for a model that takes {len(compiled.inputs)}")
        self._request = compiled.create_infer_request()
        self._count = len(compiled.outputs)
        for index, array in enumerate(inputs):
            self._request.set_input_tensor(index, openvino.Tensor(np.array(array, order="C")))  # it copies

    def launch(self, count: int) -> None:
        run = self._request.infer
        for _ in range(count):
            run(share_outputs=True)

    def outputs(self) -> list[Array]:
        return [np.array(self._request.get_output_tensor(index).data) for index in range(self._count)]
