"""Whole models on PoCL: every task with a candidate of its space in it, outputs compared with ONNX Runtime's and with
those that onnx ships.

python experiments/opencl/models.py [MODEL ...] [--weights random original] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kernels.emit_gpu import EmitFailed
from kernels.space import InvalidCandidate, generate
from tuner.config import TargetConfig
from tuner.devices import resolve
from tuner.devices.device import Assembly
from tuner.devices.target import ResolvedTarget
from tuner.graph import GraphConfig, clean, lower
from tuner.importers import load, model_inputs, original_check
from tuner.measure.models import EntrySpec, answer_once
from tuner.measure.tolerances import MODEL_ATOL, MODEL_RTOL
from tuner.models import ImportedModel
from tuner.outputs import check_outputs
from tuner.protocols import Task

LIGHT = (
    "squeezenet", "shufflenet", "inception_v1", "inception_v2", "zfnet512", "bvlc_alexnet", "resnet50", "densenet121",
    "vgg19",
)  # fmt: skip
MODELS = {**{name: f"onnx:light_{name}" for name in LIGHT}, "encoder": "torch:configs.models:encoder"}


def part(assembly: Assembly, task: Task, target: ResolvedTarget) -> tuple[Any, str]:
    """The first candidate of a task that can be lowered, as a part of a model, and its text."""
    space = generate(task.workload, target.tvm())
    rng = np.random.default_rng(0)
    for candidate in [*space.initial_candidates(4), *(space.sample(rng) for _ in range(12))]:
        if candidate.is_default:
            continue
        try:
            made = assembly.part(task, space, candidate, lambda: None)
        except (EmitFailed, InvalidCandidate):
            continue
        if made is not None:
            return made, candidate.to_text()
    return None, "default"


def verified(name: str, weights: str, target: ResolvedTarget, work: Path) -> dict[str, Any]:
    """One model with candidates in it, run on the device and compared: a row of the results."""
    began = time.perf_counter()
    source = MODELS[name]
    model = load(source, 1 if source.startswith("onnx:") else None, {}, weights, 0)
    graph = lower(clean(model.module), GraphConfig(), target.tvm())
    assembly = resolve.kind_of(target).assembly(target)
    parts = {task.key: part(assembly, task, target) for task in graph.tasks}
    path = work / assembly.form.library
    executable = assembly.assemble(graph, {key: made for key, (made, _) in parts.items() if made is not None})
    executable.export_library(str(path))
    settings = {"library": str(path), "threads": target.threads, "label": target.device, "scratch": str(work)}
    tuned = EntrySpec("tuned", "tuner.devices.opencl.model_service:OpenclModelWorker", settings, 1500.0)
    inputs, expected, rtol, atol, reference = _expected(name, weights, model, target, work)
    answer = answer_once(tuned, inputs, work, target.threads)
    row = {
        "model": name, "weights": weights, "kernels": len(graph.kernels), "tasks": len(graph.tasks),
        "candidates": sum(text != "default" for _, text in parts.values()), "compared_with": reference,
    }  # fmt: skip
    if isinstance(answer, str) or isinstance(expected, str):
        failed = answer if isinstance(answer, str) else expected
        return {**row, "verified": False, "reason": failed, "seconds": time.perf_counter() - began}
    check = check_outputs(answer, expected, rtol, atol)
    return {**row, "verified": check.ok, "reason": check.reason, "max_rel_error": check.max_rel_error,
            "seconds": round(time.perf_counter() - began, 1)}  # fmt: skip


def _expected(name: str, weights: str, model: ImportedModel, target: ResolvedTarget, work: Path) -> Any:
    """Inputs, what they must give, the tolerances, and whose outputs those are."""
    if weights == "original":
        inputs, expected, rtol, atol = original_check(f"light_{name}")
        return [np.asarray(i) for i in inputs], expected, rtol, atol, "onnx's own outputs"
    inputs = model_inputs(model.inputs, model.model_spec, 0)
    onnx = MODELS[name].startswith("onnx:")
    baseline = "onnxruntime" if onnx else "torch"
    settings = {
        "baseline": baseline, "model_spec": dict(model.model_spec), "threads": target.threads,
        "provider": "tuner.importers:onnx_bytes" if onnx else "tuner.importers:torch_module", "scratch": str(work),
    }  # fmt: skip
    entry = EntrySpec(baseline, "tuner.baselines.worker:BaselineWorker", settings)
    return inputs, answer_once(entry, inputs, work, target.threads), MODEL_RTOL, MODEL_ATOL, baseline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument(
        "--weights", nargs="*", default=["random", "original"], help="those that onnx ships are original"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    target = resolve.resolve(TargetConfig("opencl"))
    rows = json.loads(arguments.json.read_text())["models"] if arguments.json and arguments.json.exists() else []
    for name in arguments.models:
        for weights in arguments.weights if name in LIGHT else ["random"]:
            with tempfile.TemporaryDirectory() as folder:
                row = verified(name, weights, target, Path(folder))
            print(json.dumps(row), flush=True)
            rows = [r for r in rows if (r["model"], r["weights"]) != (name, weights)] + [row]
            if arguments.json:
                arguments.json.write_text(json.dumps({"device": target.device, "models": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
