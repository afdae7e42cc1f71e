"""Is a wrong model seen, and a right one not refused? Faults of every kind on models that importers bring in.

    python experiments/verification/run.py [--out FILE] [--model TEXT] [--no-tvm]

Each model is computed in float64, and by PyTorch, ONNX Runtime and untuned TVM: those are right, and must pass. Then
the outputs of PyTorch are spoiled in all ways of tests/tuner/measure/test_accuracy.py, and its parameters are spoiled
one at a time: each must be refused. What a model has that another run wrote to FILE is not computed again.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from experiments.common import cpu_target, write_json
from experiments.verification.summary import missed, summary
from tests.tuner.measure.test_accuracy import FAULTS
from tuner import importers
from tuner.baselines.torch import flatten
from tuner.devices.cpu.assembly import CpuAssembly
from tuner.graph import GraphConfig, clean, lower
from tuner.measure.accuracy import Yardstick
from tuner.measure.entries import TUNED, EntrySpec, answer, compiled_entry
from tuner.measure.exact import ExactRun
from tuner.models import ImportedModel
from tuner.protocols import Array

OWN = "torch:experiments.verification.models:"
MODELS = (
    "onnx:light_squeezenet", "onnx:light_shufflenet", "torch:configs.models:resnet18",
    "torch:configs.models:mobilenet_v2", "torch:configs.models:vit_small",
    "torch:tests.tuner.importers.torch_models:conv_net", "torch:tests.tuner.importers.torch_models:encoder",
    f"{OWN}half", f"{OWN}recurrent", f"{OWN}classifier",
)  # fmt: skip

Parameter = Callable[[torch.Tensor], torch.Tensor]

SPOILED: Mapping[str, Parameter] = {
    "zero": torch.zeros_like,
    "negated": torch.neg,
    "scaled by 1.01": lambda p: p * 1.01,
    "in half precision": lambda p: p.half().to(p.dtype),
    "in bfloat16": lambda p: p.bfloat16().to(p.dtype),
    "first rows swapped": lambda p: p[[1, 0, *range(2, len(p))]],
    "rows off by one": lambda p: p.roll(1, 0),
    "last axis reversed": lambda p: p.flip(-1),
    "first row missing": lambda p: torch.cat([torch.zeros_like(p[:1]), p[1:]]),
    "last half missing": lambda p: torch.cat([p[: len(p) // 2], torch.zeros_like(p[len(p) // 2 :])]),
}
"""What is done to one parameter."""

NO_FAULT = {("in half precision", "half"), ("scaled by 1.001", "half"), ("in bfloat16", "half")}
"""Faults that are no larger than the roundings of a model in half precision."""

Answer = Sequence[Array]


def assess(source: str, folder: Path, with_tvm: bool) -> dict[str, Any]:
    """What is seen of one model, as data."""
    model = importers.load(source, None, {}, "random", 0)
    inputs = importers.model_inputs(model.inputs, model.model_spec, 0)
    settings = {"model_spec": dict(model.model_spec), "threads": 1, "provider": "tuner.importers:torch_module"}
    exact = ExactRun(EntrySpec("float64", "tuner.baselines.exact:ExactWorker", settings), [inputs], folder, 1)
    exact.compute(600.0)
    yardstick = exact.yardstick(0)
    if yardstick is None:
        return {"error": exact.missing}
    right = {"torch": called(torch_module(model), inputs), "onnxruntime": by_onnxruntime(model, inputs, folder)}
    if with_tvm:
        right["untuned TVM"] = by_tvm(model, inputs, folder)
    refused = {name: yardstick.check(outputs).reason for name, outputs in right.items()}
    for name in ("onnxruntime", "torch"):  # as a run does: what passes is a sample of the errors to be expected
        if not refused[name]:
            yardstick = yardstick.with_peer(right[name])
    name = source.rpartition(":")[2]
    caught, unseen = tally(yardstick, right["torch"], faults(model, right["torch"], inputs), name)
    return {"unit": yardstick.unit, "refused": {n: r for n, r in refused.items() if r}, "right": len(right),
            "caught": caught, "missed": unseen}  # fmt: skip


def tally(
    yardstick: Yardstick, right: Answer, wrong: Iterator[tuple[str, Answer]], model: str
) -> tuple[int, list[dict[str, Any]]]:
    """How many faults were seen, and those that were not, with the largest change that they make."""
    caught = 0
    unseen = []
    for fault, outputs in wrong:
        kind = fault.partition(": ")[2] or fault
        same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(outputs, right, strict=True))
        if same or (kind, model) in NO_FAULT:
            continue
        if yardstick.check(outputs).ok:
            change = max(float(np.abs(a.astype(float) - b).max()) for a, b in zip(outputs, right, strict=True))
            unseen.append({"fault": fault, "change": change})
        else:
            caught += 1
    return caught, unseen


def faults(model: ImportedModel, right: Answer, inputs: Sequence[Array]) -> Iterator[tuple[str, Answer]]:
    """Wrong outputs of a model, with what was done: to an output, to a parameter, to the inputs."""
    for name, change in FAULTS.items():
        for index, array in enumerate(right):
            if array.ndim >= 2 and array.shape[1] >= 2 and array.dtype.kind == "f":
                rows = array if array.shape[-1] > 2 else array.reshape(len(array), -1)
                spoiled = np.ascontiguousarray(change(rows)).reshape(array.shape)
                yield name, [*right[:index], spoiled, *right[index + 1 :]]
    yield (
        "outputs for other inputs",
        called(torch_module(model), importers.model_inputs(model.inputs, model.model_spec, 1)),
    )
    module = torch_module(model)
    for parameter, kept in chosen(module):
        for kind, spoil in SPOILED.items():
            with torch.no_grad():
                parameter.copy_(spoil(kept))
                yield f"{_name(module, parameter)}: {kind}", called(module, inputs)
                parameter.copy_(kept)


def chosen(module: torch.nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The first, the middle and the last floating weight and bias that have rows, each with a copy."""
    tensors = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point() and t.dim() and len(t) > 1]
    weights, biases = [t for t in tensors if t.dim() > 1], [t for t in tensors if t.dim() == 1]
    picked = [group[i] for group in (weights, biases) if group for i in sorted({0, len(group) // 2, len(group) - 1})]
    return [(tensor, tensor.detach().clone()) for tensor in picked]


def _name(module: torch.nn.Module, wanted: torch.Tensor) -> str:
    named = (*module.named_parameters(), *module.named_buffers())
    return next(name for name, tensor in named if tensor is wanted)


def torch_module(model: ImportedModel) -> torch.nn.Module:
    return copy.deepcopy(importers.torch_module(model.model_spec)[0]).eval()


def called(module: torch.nn.Module, inputs: Sequence[Array]) -> Answer:
    with torch.no_grad():
        return [t.numpy().copy() for t in flatten(module(*(torch.from_numpy(np.array(i)) for i in inputs)))]


def by_onnxruntime(model: ImportedModel, inputs: Sequence[Array], folder: Path) -> Answer:
    settings = {"baseline": "onnxruntime", "model_spec": dict(model.model_spec), "threads": 1,
                "provider": "tuner.importers:onnx_bytes"}  # fmt: skip
    return answer(EntrySpec(TUNED, "tuner.baselines.worker:BaselineWorker", settings), inputs, folder, 1)


def by_tvm(model: ImportedModel, inputs: Sequence[Array], folder: Path) -> Answer:
    """By the kernels of the model's graph as TVM builds them."""
    target = cpu_target(1)
    graph = lower(clean(model.module), GraphConfig("NCHW"), target.tvm())
    library = folder / "untuned.so"
    CpuAssembly(target).assemble(graph, {}).export_library(str(library))
    return answer(compiled_entry(TUNED, library, 1), inputs, folder, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/verification.json"))
    parser.add_argument("--model", default="", help="only models whose source contains this")
    parser.add_argument("--no-tvm", action="store_true", help="leave untuned TVM out: it takes longest")
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    torch.set_num_threads(1)
    for source in MODELS:
        if source in found or options.model not in source:
            continue
        print(source, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found[source] = assess(source, Path(folder), not options.no_tvm)
        write_json(options.out, found)
    for source, model in found.items():
        print(f"{source}: {json.dumps({k: v for k, v in model.items() if k != 'missed'})}")
    for name, fault, change in missed(found):
        print(f"not seen: {name}, {fault} (changes outputs by up to {change:.3g})")
    print(summary(found))
    return int(any(model.get("missed") or model.get("refused") or "error" in model for model in found.values()))


if __name__ == "__main__":
    sys.exit(main())
