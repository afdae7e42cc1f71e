"""A child's service that holds one baseline, ready to be called by the comparison of whole models."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tuner import files
from tuner.baselines import BASELINES, FROM_ONNX
from tuner.baselines.onnx_form import OnnxSource, serialized
from tuner.errors import InfrastructureError
from tuner.measure.model_service import ModelWorker
from tuner.process.pinning import pin_workers


def named(path: str) -> Any:
    """The object that `module:name` names. Raises ImportError or AttributeError."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def shared_in(folder: Path, source: OnnxSource) -> OnnxSource:
    """`source`, which is asked once: what it made is kept in `folder` as bytes, for whoever asks next.

    To export a PyTorch model takes longer than most baselines take to load it.
    """
    path = folder / "baseline.onnx"

    def get(model_spec: Mapping[str, Any]) -> bytes:
        if not path.exists():
            files.write_aside(path, serialized(source(model_spec), "the model for baselines"))
        return path.read_bytes()

    return get


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
        self._baseline = BASELINES[baseline](source)
        self._model_spec = model_spec
        self._threads = threads

    def op_prepare(self, inputs_npz_path: str) -> dict[str, str]:
        """Load the model and call it once. The file's arrays are the model's inputs in order; their names are
        not looked at. Raises InfrastructureError when the baseline is not available here."""
        reason = self._baseline.unavailable()
        if reason:
            raise InfrastructureError(f"{self._baseline.name}: {reason}")
        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            inputs = [stored[name] for name in stored.files]
        prepared = self._baseline.load(self._model_spec, self._threads).prepare(inputs)
        prepared.launch(1)
        pin_workers(lambda: prepared.launch(2), self._threads)
        self._prepared = prepared
        return {"settings": f"{self._baseline.settings}, {self._threads} threads"}
