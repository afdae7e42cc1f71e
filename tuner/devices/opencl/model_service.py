"""The model worker of a model for OpenCL, which runs it as the exported loader does."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.devices.opencl.children import child_env
from tuner.devices.opencl.run_model import OpenclModel
from tuner.measure.model_service import ModelWorker

if TYPE_CHECKING:
    from tuner.protocols import Array


class OpenclModelWorker(ModelWorker):
    """Runs the model whose plan is `library` on the device that it was tuned for. `label` names the device, `scratch`
    is for what PoCL compiles. A call ends when the device has finished."""

    def __init__(self, library: str, threads: int, label: str, scratch: str) -> None:
        super().__init__()
        os.environ.update(child_env(threads, Path(scratch)))
        self._library = Path(library)
        self._label = label

    def op_prepare(self, inputs_npz_path: str) -> dict[str, Any]:
        """Load the model and call it on the stored inputs; returns {"settings": in words, "load_s": seconds until the
        first call has ended, with what the driver compiles}. Raises CannotRun."""
        import pyopencl  # noqa: F401 - so that loading does not import it

        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            inputs = [stored[name] for name in stored.files]
        began = time.perf_counter()
        model = OpenclModel(self._library)
        model.set_inputs(inputs)
        model.run()
        load_s = time.perf_counter() - began
        self._prepared = _Prepared(model)
        how = f"OpenCL, static memory plan, {model.launches} launches; holds {model.held_bytes >> 20} MiB"
        return {"settings": f"{how}; {self._label}", "load_s": load_s}


class _Prepared:
    """Implements `protocols.Prepared`: the host waits for each call, as whoever needs the outputs does."""

    def __init__(self, model: OpenclModel) -> None:
        self._model = model

    def launch(self, count: int) -> None:
        for _ in range(count):
            self._model.run()

    def outputs(self) -> list[Array]:
        return self._model.outputs()
