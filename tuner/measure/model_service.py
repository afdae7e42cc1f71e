"""The operations of a model worker, the child that runs a whole model: the same for the tuned model and baselines."""

from __future__ import annotations

import time

import numpy as np

from tuner.errors import InfrastructureError
from tuner.protocols import LONG_CALL_S, Prepared

WARM_UP_CALLS = 2
"""After the first call. PyTorch's second call after another model's took 13 to 25 % more than the later ones, its third
4 %, with two threads; of the fourth nothing is left."""


class ModelWorker:
    """A child's service that holds one prepared launchable. Subclasses define `op_prepare`, which sets `_prepared`."""

    def __init__(self) -> None:
        self._prepared: Prepared | None = None

    def op_block(self, count: int) -> dict[str, float | None]:
        """`first_s`: seconds of the first call, which comes after a rest in which others ran. `seconds`: of `count`
        more calls in steady state, after WARM_UP_CALLS untimed ones.

        A call of LONG_CALL_S or more is not made again: then it is the block's only one, and `first_s` is None.
        """
        prepared = self._ready()
        first_s = _timed(prepared, 1)
        if first_s >= LONG_CALL_S and count == 1:
            return {"first_s": None, "seconds": first_s}
        prepared.launch(WARM_UP_CALLS)
        return {"first_s": first_s, "seconds": _timed(prepared, count)}

    def op_peak_bytes(self) -> int:
        """The largest resident set that this process has had, in bytes: the model, its framework, what loading took."""
        with open("/proc/self/status", encoding="ascii") as file:
            [peak] = [line.split()[1] for line in file if line.startswith("VmHWM:")]
        return int(peak) << 10

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


def _timed(prepared: Prepared, count: int) -> float:
    start = time.perf_counter()
    prepared.launch(count)
    return time.perf_counter() - start
