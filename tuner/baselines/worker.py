"""A child's service that holds one baseline, ready to be called by the comparison of whole models."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tuner.baselines import BASELINES, FROM_ONNX
from tuner.baselines.onnx_form import OnnxSource, keep, kept
from tuner.errors import InfrastructureError
from tuner.measure.model_service import ModelWorker
from tuner.process.pinning import pin_workers


def named(path: str) -> Any:
    """The object that `module:name` names. Raises ImportError or AttributeError."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def shared_in(folder: Path, source: OnnxSource) -> OnnxSource:
    """`source`, which is asked once: what it made is kept in `folder`, for whoever asks next.

    To export a PyTorch model takes longer than most baselines take to load it.
    """

    def get(model_spec: Mapping[str, Any]) -> bytes | Path:
        path = folder / f"baseline-{_digest(model_spec)}.onnx"
        if not path.exists():
            keep(source(model_spec), path)
        return kept(path)

    return get


def _digest(model_spec: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(model_spec), sort_keys=True, default=str).encode()).hexdigest()[:16]


class BaselineWorker(ModelWorker):
    """`baseline` is a name of `BASELINES`; `provider` is `module:function`, the function that makes the model of
    `model_spec` in the form this baseline takes. The model is made by `op_prepare`, not before.

    `scratch` is a folder of this run and model alone. Baselines that take an ONNX model share it there, and have their
    temporary files there, so that nothing of a child that was killed is left behind.
    """

    def __init__(
        self, baseline: str, model_spec: Mapping[str, Any], threads: int, provider: str, scratch: str | None = None
    ) -> None:
        super().__init__()
        source = named(provider)
        if scratch is not None and baseline in FROM_ONNX:
            tempfile.tempdir = scratch
            source = shared_in(Path(scratch), source)
        self._making_s = 0.0
        self._baseline = BASELINES[baseline](self._timed(source))
        self._model_spec = model_spec
        self._threads = threads

    def op_prepare(self, inputs_npz_path: str) -> dict[str, Any]:
        """Load the model and call it once; returns {"settings": in words, "load_s": seconds until the first call has
        ended, without importing the framework and making the model in the form that the baseline takes}.

        The file's arrays are the model's inputs in order; their names are not looked at. Raises InfrastructureError
        when the baseline is not available here."""
        reason = self._baseline.unavailable()
        if reason:
            raise InfrastructureError(f"{self._baseline.name}: {reason}")
        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            inputs = [stored[name] for name in stored.files]
        with contextlib.suppress(ImportError):  # so that loading does not import it
            importlib.import_module(self._baseline.name.partition("_")[0])
        began = time.perf_counter()
        prepared = self._baseline.load(self._model_spec, self._threads).prepare(inputs)
        prepared.launch(1)
        load_s = time.perf_counter() - began - self._making_s
        pin_workers(lambda: prepared.launch(2), self._threads)
        self._prepared = prepared
        return {"settings": f"{self._baseline.settings}, {self._threads} threads", "load_s": load_s}

    def _timed(self, provider: Callable[..., Any]) -> Callable[..., Any]:
        """`provider`, whose seconds are counted."""

        def make(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return provider(*arguments)
            finally:
                self._making_s += time.perf_counter() - began

        return make
