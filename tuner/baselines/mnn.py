"""MNN as a baseline: float32, converted from ONNX by the converter in its own package."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tuner.baselines.onnx_form import OnnxSource, convert, plainly
from tuner.baselines.packages import missing, version_of

if TYPE_CHECKING:
    from tuner.protocols import Array

BACKEND: Mapping[str, Any] = {"backend": "CPU", "precision": "high", "memory": "normal", "power": "high"}
"""`precision: high` is float32; Winograd is chosen by MNN itself."""

_CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"
"""A process of its own, since the converter crashes on some models. Not the command `mnnconvert`, which installs a
package on its way and reports to a server what it converts."""


@dataclass(frozen=True)
class Mnn:
    """The module interface: the model runs with all of its inputs given at once."""

    source: OnnxSource
    name: ClassVar[str] = "mnn"

    @property
    def settings(self) -> str:
        return f"MNN {version_of('MNN')}, CPU, precision high (float32), power high"

    def unavailable(self) -> str | None:
        return missing("MNN", "mnn")

    def load(self, model_spec: Mapping[str, Any], threads: int) -> LoadedMnn:
        """The converted model. Raises ModelError when it is too large to be one file, and InfrastructureError when it
        is not converted."""
        with tempfile.TemporaryDirectory(prefix="tuner-mnn-") as folder:
            model, converted = Path(folder, "model.onnx"), Path(folder, "model.mnn")
            model.write_bytes(plainly(self.source(model_spec), self.name))
            arguments = ["-f", "ONNX", "--modelFile", model.name, "--MNNModel", converted.name, "--bizCode", "none"]
            convert("MNN's converter", [sys.executable, "-c", _CONVERT, *arguments], converted)
            return LoadedMnn(self.name, converted.read_bytes(), threads)


@dataclass(frozen=True)
class LoadedMnn:
    """A Launchable: the bytes of a converted model, from which every `prepare` makes a module."""

    key: str
    model: bytes
    threads: int

    def prepare(self, inputs: Sequence[Array]) -> PreparedMnn:
        """`inputs` in the order of the model's own. Raises ValueError when their number is another."""
        from MNN import nn

        manager = nn.create_runtime_manager(({**BACKEND, "numThread": self.threads},))
        with tempfile.NamedTemporaryFile(prefix="tuner-", suffix=".mnn") as file:
            file.write(self.model)
            file.flush()
            module = nn.load_module_from_file(file.name, [], [], runtime_manager=manager)
        names = module.get_info()["inputNames"]
        if len(names) != len(inputs):
            raise ValueError(f"{len(inputs)} inputs for a model that takes {len(names)}")
        return PreparedMnn(module, inputs)


class PreparedMnn:
    """A Prepared: a module and its inputs."""

    def __init__(self, module: Any, inputs: Sequence[Array]) -> None:
        self._module = module
        self._inputs = [_variable(array) for array in inputs]
        self._results: list[Any] = []

    def launch(self, count: int) -> None:
        run, inputs = self._module.forward, self._inputs
        for _ in range(count):
            self._results = run(inputs)  # computed when it returns

    def outputs(self) -> list[Array]:
        return [np.array(result.read()) for result in self._results]


def _variable(array: Array) -> Any:
    """A copy in MNN's memory; integers in int32, which is the only kind that MNN computes with."""
    from MNN import expr

    kinds = {"f": (np.float32, expr.float), "i": (np.int32, expr.int), "u": (np.int32, expr.int)}
    dtype, kind = kinds[array.dtype.kind]
    return expr.const(np.ascontiguousarray(array, dtype=dtype), list(array.shape), expr.NCHW, kind)
