"""The float64 run of a model by which outputs are checked: in a child, and kept as files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tuner.measure.accuracy import Yardstick
from tuner.measure.entries import SHOWN, EntrySpec, arrays, call, store
from tuner.process.limits import for_compilers
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Array, Stop

EXACT_S = 120.0
"""The longest that one set of inputs may take."""


class ExactRun:
    """What is right for the sets of inputs `sets`. `spec` is how the model is started in float64.

    `stop` ends a computation early. `missing` says in words why there is nothing to check by; "" while there may be.
    """

    def __init__(
        self, spec: EntrySpec, sets: Sequence[Sequence[Array]], folder: Path, threads: int, stop: Stop = lambda: False
    ) -> None:
        self._stop = stop
        self._spec, self._sets, self._folder, self._threads = spec, sets, folder, threads
        self._units: dict[int, float] = {}
        self.missing = ""

    def compute(self, within_s: float = EXACT_S * 2) -> None:
        """Compute what is not known yet, within so many seconds for all sets: where they are few, with fewer samples of
        rounding errors. What then is not there has no yardstick."""
        deadline = time.monotonic() + within_s
        wanted = [number for number in range(len(self._sets)) if number not in self._units]
        if not wanted or self.missing:
            return
        if within_s <= 0.0:
            self.missing = "no time was left for it"
            return
        with Child(
            self._spec.service, self._spec.settings, env=thread_env(self._threads), limits=for_compilers()
        ) as child:
            for place, number in enumerate(wanted):
                seconds = min((deadline - time.monotonic()) / (len(wanted) - place), EXACT_S)
                inputs = store(self._sets[number], self._folder / f"exact-inputs-{number}.npz")
                try:
                    reply = call(
                        child, self._stop, "outputs", seconds,
                        inputs_npz_path=str(inputs), path=str(self._path(number)), within_s=seconds,
                    )  # fmt: skip
                except (ChildDied, ChildTimeout, ChildError) as error:
                    self.missing = str(error)[:SHOWN]
                    return
                self._units[number] = reply["unit"]

    def yardstick(self, number: int) -> Yardstick | None:
        """What is right for a set of inputs; None where it is not known."""
        if number not in self._units:
            return None
        with np.load(self._path(number), allow_pickle=False) as stored:
            runs: dict[str, list[Array]] = {}
            for name in stored.files:  # in order: exact_0, exact_1, ..., noisy_0_0, ...
                runs.setdefault(name.rpartition("_")[0], []).append(stored[name])
        return Yardstick(runs.pop("exact"), list(runs.values()), self._units[number])

    def _path(self, number: int) -> Path:
        return self._folder / f"exact-{number}.npz"


def exact_outputs(spec: EntrySpec, samples: Sequence[Sequence[Array]], folder: Path, threads: int) -> list[list[Array]]:
    """The outputs in float64 for each sample of inputs. Raises the errors of a child."""
    inputs, path = folder / "exact-sample.npz", folder / "exact-sample-outputs.npz"
    outputs: list[list[Array]] = []
    with Child(spec.service, spec.settings, env=thread_env(threads), limits=for_compilers()) as child:
        for sample in samples:
            stored = str(store(sample, inputs))
            child.call("outputs", EXACT_S, inputs_npz_path=stored, path=str(path), noisy_runs=0)
            outputs.append(arrays(path))
    return outputs
