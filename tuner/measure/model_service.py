"""The operations of a model worker, the child that runs a whole model: the same for the tuned model and baselines."""

from __future__ import annotations

import time

import numpy as np

from tuner.errors import InfrastructureError
from tuner.protocols import IDLE_S, LONG_CALL_S, Prepared


class ModelWorker:
    """A child's service that holds one prepared launchable. Subclasses define `op_prepare`, which sets `_prepared`."""

    def __init__(self) -> None:
        self._prepared: Prepared | None = None
        self._idle_since = -1.0
        self._call_s = 0.0

    def op_block(self, count: int) -> float:
        """Seconds for `count` calls, after one untimed warm-up call where the worker was idle (unless calls are
        long)."""
        prepared = self._ready()
        if time.perf_counter() - self._idle_since > IDLE_S and self._call_s < LONG_CALL_S:
            prepared.launch(1)
        start = time.perf_counter()
        prepared.launch(count)
        self._idle_since = time.perf_counter()
        seconds = self._idle_since - start
        self._call_s = seconds / count
        return seconds

    def op_outputs(self, path: str) -> int:
        """Write the outputs of the last call to `path` (.npz, in order as arr_0, arr_1, ...); returns their number.

        Raises InfrastructureError before `prepare`.
        """
        outputs = self._ready().outputs()
        with open(path, "wb") as file:  # given a name, numpy would add a suffix of its own
            np.savez(file, *outputs)
        return len(outputs)

    def _ready(self) -> Prepared:
        if self._prepared is None:
            raise InfrastructureError("`prepare` comes first")
        return self._prepared
