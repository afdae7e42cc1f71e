"""A tuned model for OpenCL: its launches in order on planned memory, as data, with the source of its kernels."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.target import Target

from kernels.default_gpu import default_schedule
from kernels.emit_gpu import EmitFailed, GpuProgram
from kernels.opencl import emit_opencl, joined, renamed
from kernels.space import Candidate, DesignSpace, InvalidCandidate, TraceApplier
from kernels.tensors import TensorSpec
from tuner.devices.opencl import run_model
from tuner.devices.opencl.facts import EXTENSION_OF
from tuner.devices.target import ResolvedTarget
from tuner.export.library import Form
from tuner.graph import Lowered
from tuner.graph.plan import KernelCall, Plan, Tensor, Unplannable, plan
from tuner.models import ImportedModel
from tuner.protocols import Artifact, Task

ALIGNMENT = 512
"""Bytes that every tensor in the arena is aligned to: what the devices of all makers want of sub-buffers, or more."""


_HERE = Path(__file__).parent
_LOADERS = ("run_model.py", "run_model.c")
_ARGUMENTS = ("inputs", "outputs")


class OpenclExecutable:
    """A planned model with its kernels' programs, by the name of the kernel."""

    def __init__(self, planned: Plan, programs: Mapping[str, GpuProgram], device: str) -> None:
        self._plan = planned
        self._programs = programs
        self._device = device

    def export_library(self, path: str) -> None:
        """Write the plan to `path`; beside it the kernels (.cl), the weights (.bin), and the plan as the loader in C
        reads it (.plan)."""
        place = Path(path)
        kernels = joined(dict.fromkeys(self._programs.values())).encode()
        place.with_suffix(".cl").write_bytes(kernels)
        with open(place.with_suffix(".bin"), "wb+") as file:
            for offset, array in self._plan.constants:
                file.seek(offset)
                file.write(np.ascontiguousarray(array).data)
            file.truncate(self._plan.constant_bytes)
            file.seek(0)
            weights = hashlib.file_digest(file, "sha256").hexdigest()
        place.with_suffix(".plan").write_text(_plain(self.description()), encoding="utf-8")
        data = {**self.description(), "kernels": hashlib.sha256(kernels).hexdigest(), "weights": weights}
        place.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    def description(self) -> dict[str, Any]:
        """The plan as data, without the digests of the files beside it."""
        launches = [launch for program in self._programs.values() for launch in program.plan.launches]
        dtypes = {a.dtype for program in self._programs.values() for a in program.plan.arguments}
        workspaces = [program.plan.workspaces for program in self._programs.values()]
        return {
            "format": run_model.FORMAT,
            "device": self._device,
            "needs": {
                "threads": max((launch.threads for launch in launches), default=1),
                "local_bytes": max((launch.shared_bytes for launch in launches), default=0),
                "extensions": sorted(EXTENSION_OF[dtype] for dtype in dtypes & EXTENSION_OF.keys()),
            },
            "alignment": ALIGNMENT,
            "arena_bytes": self._plan.arena_bytes,
            "weight_bytes": self._plan.constant_bytes,
            "workspaces": [
                max(sizes[i] if i < len(sizes) else 0 for sizes in workspaces)
                for i in range(max(map(len, workspaces), default=0))
            ],
            "inputs": [{"shape": list(t.shape), "dtype": t.dtype} for t in self._plan.inputs],
            "outputs": [{"shape": list(t.shape), "dtype": t.dtype} for t in self._plan.outputs],
            "calls": [entry for call in self._plan.calls for entry in self._entries(call)],
        }

    def _entries(self, call: KernelCall) -> list[dict[str, Any]]:
        """The launches of one call. Workspaces are shared by all calls: none of them lives longer than its call."""
        program = self._programs[call.kernel]
        places = [_place(tensor) for tensor in call.arguments]
        places += [["workspace", number, 0, nbytes] for number, nbytes in enumerate(program.plan.workspaces)]
        return [
            {
                "of": call.kernel,
                "kernel": launch.kernel,
                "global": [grid * block for grid, block in zip(launch.grid, launch.block, strict=True)],
                "local": list(launch.block),
                "arguments": [places[slot] for slot in launch.args],
            }
            for launch in program.plan.launches
        ]


def _plain(description: Mapping[str, Any]) -> str:
    """A description as words and numbers, in the order in which `run_model.c` reads them."""
    needs = description["needs"]
    lines = [
        f"tuner-opencl {description['format']}",
        f"device {description['device']}",
        f"needs {needs['threads']} {needs['local_bytes']} {description['alignment']} {description['arena_bytes']}",
    ]
    sizes = {
        "workspaces": description["workspaces"],
        **{key: [TensorSpec(tuple(t["shape"]), t["dtype"]).nbytes for t in description[key]] for key in _ARGUMENTS},
    }
    lines += [f"{name} {' '.join(map(str, [len(each), *each]))}" for name, each in sizes.items()]
    lines.append(f"calls {len(description['calls'])}")
    for call in description["calls"]:
        arguments = [f"{kind[0]} {number} {offset} {nbytes}" for kind, number, offset, nbytes in call["arguments"]]
        sizes_of_call = " ".join(map(str, [*call["global"], *call["local"], len(arguments)]))
        lines.append(" ".join([call["kernel"], sizes_of_call, *arguments]))
    return "\n".join(lines) + "\n"


def _place(tensor: Tensor) -> list[Any]:
    """[kind, number, offset, bytes] of a tensor."""
    nbytes = math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
    if tensor.place.kind in ("input", "output"):
        return [tensor.place.kind, tensor.place.at, 0, nbytes]
    return [tensor.place.kind, 0, tensor.place.at, nbytes]


class OpenclAssembly:
    """Implements `devices.device.Assembly`: parts are scheduled programs, emitted again with the model."""

    runtime = "opencl"
    form = Form("model.json", {name: (_HERE / name).read_text(encoding="utf-8") for name in _LOADERS})

    def __init__(self, target: ResolvedTarget) -> None:
        self._target = target.tvm()
        self._device = str(json.loads(target.text).get("model", ""))

    def part(
        self, task: Task, space: DesignSpace, candidate: Candidate, built: Callable[[], Artifact | None]
    ) -> GpuProgram | None:
        try:
            schedule = TraceApplier(task.workload, space, self._target).apply(candidate)
        except InvalidCandidate:
            return None
        if candidate.is_default:
            return _default(schedule.mod["main"], self._target)
        applied = candidate.passes.applied(schedule.mod["main"], self._target)
        with tvm.transform.PassContext(opt_level=3, config=applied.passes.context_options()):
            return emit_opencl(tvm.IRModule({"main": applied.function}), self._target, task.workload.num_outputs)

    def assemble(self, graph: Lowered, parts: Mapping[str, GpuProgram]) -> OpenclExecutable:
        """Raises ValueError for a model that is more than calls of kernels, or a kernel that cannot be lowered."""
        try:
            planned = plan(graph, ALIGNMENT)
        except Unplannable as error:
            raise ValueError(f"OpenCL runs models that are calls of kernels, and this one has {error}") from error
        programs: dict[str, GpuProgram] = {}
        known: dict[str, GpuProgram] = {}  # by source: kernels that several names stand for are there once
        for name in dict.fromkeys(call.kernel for call in planned.calls):
            program = parts.get(graph.kernels.get(name, ""))
            if program is None:
                try:
                    program = _default(graph.module[name], self._target)
                except EmitFailed as error:
                    raise ValueError(f"{name}: {error}") from error
            programs[name] = known.setdefault(program.source, renamed(program, f"k{len(known)}"))
        return OpenclExecutable(planned, programs, self._device)

    def untuned(self, model: ImportedModel, graph: Lowered) -> OpenclExecutable:
        return self.assemble(graph, {})


def _default(function: Any, target: Target) -> GpuProgram:
    """A kernel by TVM's default GPU schedule. Raises EmitFailed."""
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    with tvm.transform.PassContext(opt_level=3):
        return emit_opencl(default_schedule(module, target), target)
