"""Services that children of these tests serve: benchmark entries that behave, hang, die or lie."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from tuner.measure.model_service import ModelWorker


class Sleeper:
    """An entry of a known speed, whose first call takes three times as long. After `blocks` blocks it does as
    `then` says."""

    def __init__(self, call_s: float, then: str = "", blocks: int = 0) -> None:
        self._call_s = call_s
        self._then = then
        self._left = blocks

    def op_block(self, count: int) -> dict[str, float]:
        if self._then and self._left == 0:
            self._misbehave()
        self._left -= 1
        first_s = self._sleep(3)
        seconds = self._sleep(count)
        return {"first_s": first_s, "seconds": seconds if self._then != "lie" else 0.0}

    def op_threads(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name.endswith("_THREADS")}

    def _sleep(self, calls: int) -> float:
        start = time.perf_counter()
        time.sleep(self._call_s * calls)
        return time.perf_counter() - start

    def _misbehave(self) -> None:
        if self._then == "hang":
            time.sleep(3600)
        if self._then == "die":
            os._exit(7)
        if self._then == "raise":
            raise RuntimeError("out of luck")


class Doubling(ModelWorker):
    """A whole model that gives `factor` times its input; one that is `broken` does not start."""

    def __init__(self, factor: float = 2.0, broken: bool = False) -> None:
        super().__init__()
        self._factor, self._broken = factor, broken
        self._output = np.zeros(1, dtype=np.float32)

    def op_prepare(self, inputs_npz_path: str) -> dict[str, Any]:
        if self._broken:
            raise RuntimeError("no such package")
        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            self._input = stored["arr_0"]
        self._prepared = self
        self.launch(1)
        return {"settings": f"times {self._factor:g}", "load_s": 0.25}

    def launch(self, count: int) -> None:
        for _ in range(count):
            self._output = self._input * np.float32(self._factor)
            time.sleep(1e-3)

    def outputs(self) -> list[np.ndarray]:
        return [self._output]
