"""Whole models for the simulated GPU: TVM's own runtime loads them, on the simulated driver."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tuner.devices.cuda.assembly import CudaAssembly
from tuner.devices.cuda.simulated.compiler import compile_simulated
from tuner.export.library import Form
from tuner.export.manifest import SIMULATED


class SimulatedAssembly(CudaAssembly):
    """`CudaAssembly`, whose source the host's compiler takes."""

    form = Form(device=SIMULATED)

    def compile(self, source: str) -> bytes:
        return compiled(source)


def compiled(source: str) -> bytes:
    """A model's CUDA source as the simulated driver loads it. Raises CompileFailed."""
    with tempfile.TemporaryDirectory(prefix="simulated-model-") as folder:
        return compile_simulated(source, "simulated", Path(folder), {}).path.read_bytes()
