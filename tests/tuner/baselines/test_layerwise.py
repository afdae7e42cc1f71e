"""Layers in precisions of their own: each layer's error by itself, and mixes without compiling again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tuner import importers
from tuner.baselines.layerwise import LayerwiseWorker

SPEC = importers.make_model_spec("torch:tests.tuner.graph.test_graph:small", None, {}, "original", 0)
TARGET = '{"kind":"llvm","num-cores":1}'


@pytest.fixture(scope="module")
def worker() -> LayerwiseWorker:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuner.baselines.layerwise.use_threads", lambda threads: None)  # said once a process
        return LayerwiseWorker(SPEC, TARGET, 1)


def test_layers_and_mixes(worker: LayerwiseWorker, tmp_path: Path) -> None:
    module, examples = importers.torch_module(SPEC)
    given = [np.asarray(tensor) for tensor in examples]
    inputs, path = tmp_path / "inputs.npz", tmp_path / "outputs.npz"
    np.savez(inputs, *given)
    errors = worker.op_errors(str(inputs), "bfloat16")
    assert len(errors) == 5 and all(1e-4 < error < 0.02 for error in errors)  # a rounding to bfloat16 is 0.002 to 0.004
    finer = worker.op_errors(str(inputs), "float16")
    assert all(error / 16 < fine < error / 4 for fine, error in zip(finer, errors, strict=True))  # three bits more
    np.savez(tmp_path / "large.npz", *[array * 1e5 for array in given])
    large = worker.op_errors(str(tmp_path / "large.npz"), "float16")
    assert large[0] == math.inf and max(worker.op_errors(str(tmp_path / "large.npz"), "bfloat16")) < 0.02
    worker.op_calibrate(str(inputs))

    def off(*precisions: str) -> float:
        worker.op_outputs(str(inputs), str(path), precisions)
        with np.load(path) as stored:
            made = stored["arr_0"]
        return float(np.linalg.norm(made - right) / np.linalg.norm(right))

    with torch.no_grad():
        right = module.eval()(*map(torch.from_numpy, given)).numpy()
    whole, fine, rounded, steps = off(), *(off(*[name] * 5) for name in ("float16", "bfloat16", "int8"))
    assert whole < 1e-5 < fine < rounded < steps < 0.1
    assert whole < off("int8") < 0.1 and off() == whole
