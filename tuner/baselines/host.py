"""A child's service that holds one rival, ready to be called: what the end-to-end contest talks to."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tuner.baselines import BASELINES
from tuner.errors import InfrastructureError
from tuner.pinning import pin_workers
from tuner.protocols import IDLE_S, LONG_CALL_S, Prepared


def named(path: str) -> Any:
    """The object that `module:name` names. Raises ImportError or AttributeError."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


class Host:
    """`baseline` is a name of `BASELINES`; `provider` is `module:function`, the function that makes the model of
    `recipe` in the form this rival takes. The model is made by `op_prepare`, not before."""

    def __init__(self, baseline: str, recipe: Mapping[str, Any], threads: int, provider: str) -> None:
        self._baseline = BASELINES[baseline](named(provider))
        self._recipe = recipe
        self._threads = threads
        self._prepared: Prepared | None = None
        self._idle_since = -1.0
        self._call_s = 0.0

    def op_prepare(self, inputs_npz_path: str) -> dict[str, str]:
        """Load the model and call it once. The file's arrays are the model's inputs in order; their names are
        not looked at. Raises InfrastructureError when the rival cannot be had here."""
        reason = self._baseline.unavailable()
        if reason:
            raise InfrastructureError(f"{self._baseline.name}: {reason}")
        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            inputs = [stored[name] for name in stored.files]
        self._prepared = self._baseline.load(self._recipe, self._threads).prepare(inputs)
        self._prepared.launch(1)
        pin_workers(lambda: self._ready().launch(2), self._threads)
        return {"settings": f"{self._baseline.settings}, {self._threads} threads"}

    def op_block(self, count: int) -> float:
        """Seconds for `count` calls, after one untimed call if there was a rest (unless calls are long)."""
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
        """Write the outputs of the last call to `path` (.npz, in order as arr_0, arr_1, ...); how many there are."""
        outputs = self._ready().outputs()
        with open(path, "wb") as file:  # given a name, numpy would add a suffix of its own
            np.savez(file, *outputs)
        return len(outputs)

    def _ready(self) -> Prepared:
        if self._prepared is None:
            raise InfrastructureError("`prepare` comes first")
        return self._prepared
