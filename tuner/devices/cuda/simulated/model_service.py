"""The model worker of a model for the simulated GPU."""

from __future__ import annotations

from typing import Any

from tuner.devices.cuda.assembly import compile_models_with
from tuner.devices.cuda.simulated import native
from tuner.devices.cuda.simulated.assembly import compiled
from tuner.devices.cuda.simulated.target import LABEL, require
from tuner.measure.compiled_model import CompiledModelWorker


def begin() -> None:
    """Make the simulated GPU the CUDA device of this process, which is none that is to see a GPU; exported models call
    it. Raises TargetError where something is missing."""
    require(pycuda=False)
    native.preload_runtime()
    compile_models_with(compiled)


class SimulatedModelWorker(CompiledModelWorker):
    """Runs a model in TVM's virtual machine, its CUDA runtime on the simulated driver. Its times are the host's."""

    def __init__(self, library: str, threads: int) -> None:
        begin()
        super().__init__(library, threads, "cuda")

    def op_prepare(self, inputs_npz_path: str) -> dict[str, Any]:
        """As for a GPU; the settings say what it is."""
        prepared = super().op_prepare(inputs_npz_path)
        return {**prepared, "settings": f"{prepared['settings']}; {LABEL}"}
