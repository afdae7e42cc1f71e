"""ONNX Runtime as a baseline: all graph optimisations, I/O binding, one operator at a time."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tuner.baselines.onnx_form import OnnxSource, bytes_or_path, serialized
from tuner.baselines.packages import missing, version_of
from tuner.errors import InfrastructureError
from tuner.measure.onnx_values import flat_arrays, takes_numbers, timed_session_options

if TYPE_CHECKING:
    from tuner.protocols import Array


@dataclass(frozen=True)
class OnnxRuntime:
    """The CPU execution provider with the settings that serve a latency measurement best."""

    source: OnnxSource
    name: ClassVar[str] = "onnxruntime"
    package: ClassVar[str] = "onnxruntime"
    provider: ClassVar[str] = "CPUExecutionProvider"
    options: ClassVar[Mapping[str, str]] = {}
    device: ClassVar[str] = "cpu"
    words: ClassVar[str] = "CPU execution provider"

    @property
    def settings(self) -> str:
        version = version_of("onnxruntime", "onnxruntime-gpu")
        return f"ONNX Runtime {version}, {self.words}, graph optimisation ALL, sequential, I/O binding"

    def unavailable(self) -> str | None:
        return missing(self.package, "onnx", "onnxruntime")

    def load(self, model_spec: Mapping[str, Any], threads: int) -> LoadedSession:
        """A session with `threads` threads. Raises ModelError as `bytes_or_path` does, and
        InfrastructureError when the provider does not start here (ONNX Runtime would go on without it)."""
        import onnxruntime

        options = timed_session_options(threads)
        model = self._given(model_spec)
        self._load_libraries()
        session = onnxruntime.InferenceSession(model, options, providers=[(self.provider, dict(self.options))])
        if self.provider not in session.get_providers():
            raise InfrastructureError(
                f"{self.name}: ONNX Runtime cannot start {self.provider}",
                f"install the CUDA and cuDNN that {self.package} {onnxruntime.__version__} was built for",
            )
        return LoadedSession(self.name, session, self.device)

    def _given(self, model_spec: Mapping[str, Any]) -> bytes | str:
        """The model, or the file that has it. Raises ModelError."""
        return bytes_or_path(self.source(model_spec), self.name)

    def _load_libraries(self) -> None:
        """Load the libraries that the provider needs beside its own."""


class OnnxRuntimeInt8(OnnxRuntime):
    """Given a quantized model, for which it has kernels of its own."""

    name = "onnxruntime_int8"
    words = "CPU execution provider, the quantized model"


class OnnxRuntimeCuda(OnnxRuntime):
    """The CUDA execution provider: cuDNN's algorithms tried out, no TF32. Never ran on a GPU."""

    name = "onnxruntime_cuda"
    package = "onnxruntime-gpu"
    provider = "CUDAExecutionProvider"
    options: ClassVar[Mapping[str, str]] = {"cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "0"}
    device = "cuda"
    words = "CUDA execution provider, exhaustive search of convolutions, IEEE float32"

    def unavailable(self) -> str | None:
        spec = importlib.util.find_spec("onnxruntime")
        library = "libonnxruntime_providers_cuda.so"
        if spec is None or spec.origin is None or not (Path(spec.origin).parent / "capi" / library).exists():
            return f"the package {self.package!r} is not installed"
        return None

    def _load_libraries(self) -> None:
        import onnxruntime

        onnxruntime.preload_dlls()  # of CUDA and cuDNN, from where PyTorch has them


class OnnxRuntimeCudaGraph(OnnxRuntimeCuda):
    """As `OnnxRuntimeCuda`, in one CUDA graph. A model of which a part runs on the CPU is refused by ONNX Runtime."""

    name = "onnxruntime_cuda_graph"
    options: ClassVar[Mapping[str, str]] = {**OnnxRuntimeCuda.options, "enable_cuda_graph": "1"}
    words = f"{OnnxRuntimeCuda.words}, one CUDA graph"


class OnnxRuntimeCudaFloat16(OnnxRuntimeCuda):
    """As `OnnxRuntimeCuda`, the model converted to float16 by ONNX Runtime's own tool; it takes and gives float32."""

    name = "onnxruntime_cuda_fp16"
    words = "CUDA execution provider, exhaustive search of convolutions, float16"

    def _given(self, model_spec: Mapping[str, Any]) -> bytes:
        from tuner.importers.onnx_half import in_float16

        return in_float16(serialized(self.source(model_spec), self.name), self.name)


class OnnxRuntimeCudaInt8(OnnxRuntimeCuda):
    """As `OnnxRuntimeCuda`, given a quantized model: what it has no kernel of integers for it computes in floats."""

    name = "onnxruntime_cuda_int8"
    words = "CUDA execution provider, the quantized model"


@dataclass(frozen=True)
class LoadedSession:
    """A Launchable: a session that is ready to run."""

    key: str
    session: Any
    device: str

    def prepare(self, inputs: Sequence[Array]) -> PreparedSession | FedSession:
        """`inputs` in the order of the model's own. Raises ValueError when their number is another."""
        if not takes_numbers(self.session):
            return FedSession(self.session, inputs)
        return PreparedSession(self.session, inputs, self.device)


class PreparedSession:
    """A Prepared: inputs are bound once, on the device, and outputs stay where the runtime allocates them there."""

    def __init__(self, session: Any, inputs: Sequence[Array], device: str) -> None:
        import onnxruntime

        self._session = session
        self._binding = session.io_binding()
        # Copies: on the CPU the runtime works on the memory of the array that it is given.
        copies = [np.array(array, order="C") for array in inputs]
        self._values = [onnxruntime.OrtValue.ortvalue_from_numpy(copy, device) for copy in copies]
        for spec, value in zip(session.get_inputs(), self._values, strict=True):
            self._binding.bind_ortvalue_input(spec.name, value)
        for spec in session.get_outputs():
            self._binding.bind_output(spec.name, device)

    def launch(self, count: int) -> None:
        run, binding = self._session.run_with_iobinding, self._binding
        for _ in range(count):
            run(binding)

    def outputs(self) -> list[Array]:
        return [np.array(array) for array in self._binding.copy_outputs_to_cpu()]


class FedSession:
    """The same for a model that takes or returns texts, sequences or maps, which cannot be bound."""

    def __init__(self, session: Any, inputs: Sequence[Array]) -> None:
        self._session = session
        self._inputs = {spec.name: value for spec, value in zip(session.get_inputs(), inputs, strict=True)}
        self._results: Sequence[Any] = ()

    def launch(self, count: int) -> None:
        for _ in range(count):
            self._results = self._session.run(None, self._inputs)

    def outputs(self) -> list[Array]:
        return [np.array(array) for result in self._results for array in flat_arrays(result)]
