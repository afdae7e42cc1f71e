"""The child that runs a whole compiled model: speaks the same operations as a baseline's host."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tuner.pinning import pin_workers
from tuner.protocols import IDLE_S, LONG_CALL_S


class ModelHost:
    """A library made by relax, in a process with the model's thread count. See `baselines.host.Host`."""

    def __init__(self, library: str, threads: int) -> None:
        self._library = library
        self._threads = threads
        self._main: Any = None
        self._inputs: list[Any] = []
        self._outputs: list[np.ndarray[Any, Any]] = []
        self._idle_since = 0.0
        self._call_s = 0.0

    def op_prepare(self, inputs_npz_path: str) -> dict[str, str]:
        """Load the library and call it once on the stored inputs."""
        import tvm
        from tvm import relax

        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            self._inputs = [tvm.runtime.tensor(stored[name]) for name in stored.files]
        self._machine = relax.VirtualMachine(tvm.runtime.load_module(self._library), tvm.cpu())
        self._main = self._machine["main"]
        pin_workers(self._call, self._threads)
        return {"settings": f"relax VM, {self._threads} threads"}

    def op_block(self, count: int) -> float:
        """Seconds for `count` calls, after one untimed call if there was a rest (unless calls are long)."""
        if time.perf_counter() - self._idle_since > IDLE_S and self._call_s < LONG_CALL_S:
            self._call()
        start = time.perf_counter()
        for _ in range(count):
            self._call()
        self._idle_since = time.perf_counter()
        self._call_s = (self._idle_since - start) / count
        return self._idle_since - start

    def _call(self) -> None:
        self._result = self._main(*self._inputs)

    def op_outputs(self, path: str) -> int:
        """Write the outputs of the last call to `path` (.npz: arr_0, arr_1, ...); how many there are."""
        results = [self._result] if hasattr(self._result, "numpy") else list(self._result)
        with open(path, "wb") as file:
            np.savez(file, *[r.numpy() for r in results])
        return len(results)
