"""The model worker of a model for the simulated GPU."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from tuner.devices.cuda.assembly import compile_models_with
from tuner.devices.cuda.simulated import native
from tuner.devices.cuda.simulated.assembly import compiled
from tuner.devices.cuda.simulated.target import LABEL
from tuner.measure.compiled_model import CompiledModelWorker

_TVM_RUNTIME = "libtvm_runtime_cuda.so"


class SimulatedModelWorker(CompiledModelWorker):
    """Runs a model in TVM's virtual machine, with its CUDA runtime on the simulated driver. Its times are the host's."""

    def __init__(self, library: str, threads: int) -> None:
        load_runtime()
        super().__init__(library, threads, "cuda")

    def op_prepare(self, inputs_npz_path: str) -> dict[str, Any]:
        """As for a GPU; the settings say what it is."""
        prepared = super().op_prepare(inputs_npz_path)
        return {**prepared, "settings": f"{prepared['settings']}; {LABEL}"}


def load_runtime() -> None:
    """Have TVM's CUDA runtime in this process, on the simulated driver. Not for a process that is to see a GPU."""
    native.preload_runtime()
    import tvm

    ctypes.CDLL(str(Path(tvm.__file__).parent / "lib" / _TVM_RUNTIME), mode=ctypes.RTLD_GLOBAL)
    compile_models_with(compiled)
