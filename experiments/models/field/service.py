"""One model: imported, built without a search, run, and verified by its float64 run and by what others answer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import cpu_target
from tuner import importers
from tuner.baselines.exact import ExactWorker
from tuner.baselines.worker import BaselineWorker
from tuner.errors import ModelError, TunerError
from tuner.graph import GraphConfig, clean, lower, preferred_layout
from tuner.importers import make_model_spec, model_inputs
from tuner.measure.accuracy import Yardstick, degenerate
from tuner.measure.compiled_model import CompiledModelWorker
from tuner.models import ImportedModel

THREADS = 1
REFERENCES = {"torch": ("torch",), "onnx": ("torch", "onnxruntime")}
"""Whose answers the float64 run is checked by. ONNX Runtime answers for files: to export a model takes long."""

Result = dict[str, Any]


class FieldModel:
    """A service of a child process. `folder` is where it keeps its files."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def op_run(self, source: str, by: str) -> Result:
        """`class` (right, refused, wrong, unverified or error) with a `reason`, the import's `notes` and `seconds` of
        each step. `by` is `torch`, or `onnx`: as torch exports it to a file."""
        result: Result = {"class": "error", "reason": "", "notes": [], "kernels": None, "seconds": {}}
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            try:
                if by == "onnx":
                    source = _exported(source, Path(folder), result)
                _check(source, Path(folder), result)
            except TunerError as error:
                result |= {"class": "refused", "reason": str(error)}
            except Exception as error:  # noqa: BLE001  what is no message is the finding
                result |= {"class": "error", "reason": f"{type(error).__name__}: {error}"}
        result["reason"] = result["reason"].replace(str(folder), "FOLDER")[:600]
        return result

    def op_export(self, source: str, path: str) -> str:
        """Write the model as torch exports it to ONNX; returns the path."""
        model = importers.onnx_bytes(make_model_spec(source, None, {}, "random", 0))
        Path(path).write_bytes(model.SerializeToString())
        return path


def _exported(source: str, folder: Path, result: Result) -> str:
    began = time.perf_counter()
    path = folder / f"{source.rpartition(':')[2]}.onnx"
    try:
        path.write_bytes(importers.onnx_bytes(make_model_spec(source, None, {}, "random", 0)).SerializeToString())
    except ModelError as error:
        raise ModelError(source, f"not exportable: {error.message}") from error
    result["seconds"]["export"] = round(time.perf_counter() - began, 2)
    return f"onnx:{path}"


def _check(source: str, folder: Path, result: Result) -> None:
    """Fill `result` in. Raises what stands in the way."""
    began = time.perf_counter()
    seconds = result["seconds"]
    weights = "random" if source.startswith("torch:") else "original"
    model = importers.load(source, None, {}, weights, 0)
    seconds["import"] = round(time.perf_counter() - began, 2)
    result["notes"] = list(model.notes)
    if model.plan is not None:
        raise ModelError(source, "a part of it stays with ONNX Runtime, which is not run here")
    library = _built(model, folder, result)
    seconds["build"] = round(time.perf_counter() - began - seconds["import"], 2)
    inputs = folder / "inputs.npz"
    np.savez(inputs, *model_inputs(model.inputs, model.model_spec, 0))
    made = _answered(CompiledModelWorker(str(library), THREADS), inputs, folder / "tuned.npz")
    yardstick = _yardstick(model.model_spec, inputs, folder, result)
    if yardstick is None:
        return
    if why := degenerate(yardstick.exact):
        result |= {"class": "unverified", "reason": why}
        return
    check = yardstick.check(made)
    result |= {"class": "right" if check.ok else "wrong", "reason": check.reason, "error": check.max_rel_error}


def _built(model: ImportedModel, folder: Path, result: Result) -> Path:
    target = cpu_target(THREADS)
    assembly = _kind().assembly(target)
    graph = lower(clean(model.module), GraphConfig(preferred_layout(_lanes(target.tvm()))), target.tvm())
    result["kernels"] = sum(task.weight for task in graph.tasks)
    library = folder / "model.so"
    assembly.assemble(graph, {}).export_library(str(library))
    return library


def _kind() -> Any:
    from tuner.devices.cpu import CpuKind

    return CpuKind()


def _lanes(target: Any) -> int:
    from kernels.space import vector_lanes

    return vector_lanes(target)


def _answered(worker: Any, inputs: Path, path: Path) -> list[Any]:
    worker.op_prepare(str(inputs))
    worker.op_outputs(str(path))
    with np.load(path, allow_pickle=False) as stored:
        return [stored[name] for name in stored.files]


def _yardstick(model_spec: Mapping[str, Any], inputs: Path, folder: Path, result: Result) -> Yardstick | None:
    """The float64 run, with the references that agree with it; None where there is none, or none agrees with it."""
    path = folder / "exact.npz"
    try:
        answer = ExactWorker(model_spec, THREADS, "tuner.baselines.exact_nodes:module").op_outputs(
            str(inputs), str(path)
        )
    except Exception as error:  # noqa: BLE001  the model's own
        result |= {"class": "unverified", "reason": f"no float64 run: {type(error).__name__}: {error}"}
        return None
    runs: dict[str, list[Any]] = {}
    with np.load(path, allow_pickle=False) as stored:
        for name in stored.files:
            runs.setdefault(name.rpartition("_")[0], []).append(stored[name])
    yardstick = Yardstick(runs.pop("exact"), list(runs.values()), answer["unit"])
    result["references"] = {}
    for name in REFERENCES[model_spec["kind"]]:
        provider = "tuner.importers:onnx_bytes" if name == "onnxruntime" else "tuner.baselines.exact_nodes:module"
        try:
            outputs = _answered(BaselineWorker(name, model_spec, THREADS, provider), inputs, folder / f"{name}.npz")
        except Exception as error:  # noqa: BLE001  the baseline's own
            result["references"][name] = f"{type(error).__name__}: {error}"[:300]
            continue
        check = yardstick.check(outputs)
        result["references"][name] = "right" if check.ok else f"differs: {check.reason}"[:300]
        yardstick = yardstick.with_peer(outputs) if check.ok else yardstick
    if any("differs" in answer for answer in result["references"].values()) and not yardstick.peers:
        result |= {"class": "unverified", "reason": "the float64 run differs from every reference"}
        return None
    return yardstick
