"""ncnn as a baseline: Winograd convolutions, float32 throughout; pnnx converts the model from ONNX."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tuner.baselines.onnx_form import OnnxSource, convert, plainly
from tuner.baselines.packages import missing, version_of
from tuner.errors import InfrastructureError

if TYPE_CHECKING:
    from tuner.protocols import Array

OPTIONS: Mapping[str, bool] = {
    "use_winograd_convolution": True,
    "use_winograd23_convolution": True,
    "use_winograd43_convolution": True,
    "use_winograd63_convolution": True,
    "use_sgemm_convolution": True,
    "use_packing_layout": True,
    "use_fp16_packed": False,
    "use_fp16_storage": False,
    "use_fp16_arithmetic": False,
    "use_bf16_packed": False,
    "use_bf16_storage": False,
    "use_int8_inference": False,
    "use_vulkan_compute": False,
}
"""Of `ncnn.Option`, set before the model is loaded: its weights are then transformed once."""

_WITHOUT_BATCH = 233
"""ncnn's own number for "this array has no batch axis"."""

_INPUT = re.compile(r'ex\.input\("(\w+)", ncnn\.Mat\(\w+\.numpy\(\)(?:, batch_index=(\d+))?\)')
_EXTRACTED = re.compile(r'_, (\w+) = ex\.extract\("(\w+)"\)')
_OUTPUT = re.compile(r"out\.append\(torch\.from_numpy\((\w+)\.numpy\((?:batch_index=(\d+))?\)\)\)")


@dataclass(frozen=True)
class Blob:
    """An input or output of a converted model: its name, and which axis of the array is the batch.

    An ncnn matrix keeps the batch apart from its other axes.
    """

    name: str
    batch_axis: int


@dataclass(frozen=True)
class Ncnn:
    """A model that pnnx converts without a remainder; what it leaves in its own operators ncnn cannot run."""

    source: OnnxSource
    name: ClassVar[str] = "ncnn"

    @property
    def settings(self) -> str:
        return (
            f"ncnn {version_of('ncnn')}, float32 storage, packing and arithmetic, Winograd, "
            f"converted by pnnx {version_of('pnnx')}"
        )

    def unavailable(self) -> str | None:
        return missing("ncnn", "ncnn") or missing("pnnx", "ncnn")

    def load(self, model_spec: Mapping[str, Any], threads: int) -> LoadedNet:
        """The converted model, with its weights transformed. Raises ModelError when it is too large to be one file,
        and InfrastructureError when it is not converted or has an operator that ncnn does not know."""
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = threads
        for option, value in OPTIONS.items():
            setattr(net.opt, option, value)
        with tempfile.TemporaryDirectory(prefix="tuner-ncnn-") as folder:
            model, parameters = Path(folder, "model.onnx"), Path(folder, "model.ncnn.param")
            model.write_bytes(plainly(self.source(model_spec), self.name))
            convert("pnnx", [str(_pnnx()), model.name, "fp16=0"], parameters)
            if unknown := unknown_layers(parameters.read_text()):
                raise InfrastructureError(f"ncnn has no form for {', '.join(unknown)}")
            if net.load_param(str(parameters)) != 0 or net.load_model(str(Path(folder, "model.ncnn.bin"))) != 0:
                raise InfrastructureError("ncnn cannot load the converted model")
            inputs, outputs = blobs(Path(folder, "model_ncnn.py").read_text())
        return LoadedNet(self.name, net, inputs, outputs)


def blobs(script: str) -> tuple[list[Blob], list[Blob]]:
    """Inputs and outputs in order, read from the example that pnnx writes; nothing else tells their batch axes."""
    inputs = [Blob(name, int(axis or _WITHOUT_BATCH)) for name, axis in _INPUT.findall(script)]
    names = dict(_EXTRACTED.findall(script))
    outputs = [Blob(names[variable], int(axis or _WITHOUT_BATCH)) for variable, axis in _OUTPUT.findall(script)]
    return inputs, outputs


def _pnnx() -> Path:
    """The converter's program. Its package is not imported: that would take PyTorch with it."""
    spec = importlib.util.find_spec("pnnx")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "pnnx"


def unknown_layers(parameters: str) -> list[str]:
    """The kinds of layers in a parameter file that ncnn does not have: operators that pnnx left as they were."""
    import ncnn

    kinds = {line.split()[0] for line in parameters.splitlines()[2:] if line.strip()}
    return sorted(kind for kind in kinds if ncnn.create_layer(kind) is None)


@dataclass(frozen=True)
class LoadedNet:
    """A Launchable: a network with its weights."""

    key: str
    net: Any
    inputs: Sequence[Blob]
    outputs: Sequence[Blob]

    def prepare(self, inputs: Sequence[Array]) -> PreparedNet:
        """`inputs` in the order of the model's own. Raises ValueError when their number is another."""
        return PreparedNet(self, inputs)


class PreparedNet:
    """A Prepared: matrices of its own, and an extractor for each call, as ncnn wants it."""

    def __init__(self, loaded: LoadedNet, inputs: Sequence[Array]) -> None:
        import ncnn

        self._net = loaded.net
        self._outputs = loaded.outputs
        self._inputs = [
            (blob.name, ncnn.Mat(_as_ncnn_has_it(array), batch_index=blob.batch_axis).clone())
            for blob, array in zip(loaded.inputs, inputs, strict=True)
        ]
        self._results: list[Any] = []

    def launch(self, count: int) -> None:
        for _ in range(count):
            extractor = self._net.create_extractor()
            for name, matrix in self._inputs:
                extractor.input(name, matrix)
            answers = [extractor.extract(blob.name) for blob in self._outputs]
        if any(code != 0 for code, _ in answers):
            raise InfrastructureError("ncnn cannot run the converted model")
        self._results = [matrix for _, matrix in answers]

    def outputs(self) -> list[Array]:
        return [
            np.array(matrix.numpy(batch_index=blob.batch_axis))
            for matrix, blob in zip(self._results, self._outputs, strict=True)
        ]


def _as_ncnn_has_it(array: Array) -> Array:
    """Floats in float32 and integers in int32: ncnn has no others."""
    kinds = {"f": np.float32, "i": np.int32, "u": np.int32}
    return np.ascontiguousarray(array, dtype=kinds.get(array.dtype.kind, array.dtype))
