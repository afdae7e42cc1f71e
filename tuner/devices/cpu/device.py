"""A run on this machine's CPU."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.baselines import FROM_ONNX, narrower_than_float32
from tuner.baselines.raised import REFERENCE, originals
from tuner.baselines.torch import TorchMaxAutotune
from tuner.devices.cpu.bench import KernelBench
from tuner.devices.cpu.ceilings import least_bytes, lower_bound_s
from tuner.devices.cpu.machine import ceilings
from tuner.devices.cpu.round_trip import longest_round_trip_s
from tuner.devices.cpu.sharing import Sharing
from tuner.devices.device import Assembly, BaselineTiming, DeviceKind, Neighbours, Opening, Samples, mode_of
from tuner.devices.kernel_baselines import time_each
from tuner.measure.entries import EXACT_WHOLE
from tuner.measure.models import EXACT, PREPARE_S, TUNED, UNTUNED, EntrySpec, compiled_entry
from tuner.measure.replay import Recording
from tuner.models import ImportedModel
from tuner.process.pinning import thread_env
from tuner.process.worker import Child
from tuner.protocols import RANK, Bench, Task

if TYPE_CHECKING:
    from tuner.devices.builder import LocalBuilder
    from tuner.protocols import Policy

_MOST_S = 0.5
"""The longest sampling of one of the framework's kernels in one layout."""

_TIMEOUT_S = 60.0

_NARROW = ("bfloat16", "int8", "uint8")
"""What a kernel's data are in where the framework's own kernel, which computes in float32, is no counterpart."""

_AUTOTUNE_S = 150.0
"""Within which torch.compile must have tried its products: some 4 s for each of another shape."""


class Cpu:
    """Implements `Device`. Kernels run in a child with the model's threads; the model is linked from their objects."""

    references = ("onnxruntime", "torch", REFERENCE)
    runs_models = True

    def __init__(self, opening: Opening, kind: DeviceKind, builder: LocalBuilder) -> None:
        self._opening = opening
        target, measure = opening.target, opening.measure
        self._threads = target.threads
        self.builder = builder
        self.bench: Bench = KernelBench(
            mode_of(kind, measure.mode), self._threads, thread_env(self._threads), measure.run_timeout_s,
            opening.replay, None if opening.replay is not None else kind.state_probe(self._threads, opening.runs),
        )  # fmt: skip
        self.assembly: Assembly = kind.assembly(target)

    @functools.cached_property
    def neighbours(self) -> Neighbours | None:
        """Threads that share cache lines."""
        if self._threads < 2 or self._opening.replay is not None:
            return None
        round_trip_s = functools.partial(longest_round_trip_s, self._threads, self._opening.runs)
        return Sharing(self.builder, self._threads, round_trip_s)

    @functools.cached_property
    def ceilings(self) -> Mapping[str, Any]:
        if self._opening.replay is not None:
            return dict(Recording.load(self._opening.replay).ceilings)
        opening = self._opening
        return ceilings(opening.runs, self._threads, opening.progress, hurried=opening.hurried)

    def lower_bound_s(self, task: Task) -> float:
        """From this machine's ceilings of arithmetic and memory."""
        workload = task.workload
        inputs, outputs = [spec.nbytes for spec in workload.inputs], sum(spec.nbytes for spec in workload.outputs)
        moved = least_bytes(inputs, outputs, max(np.dtype(s.dtype).itemsize for s in workload.args), workload.flops)
        return lower_bound_s(workload.flops, moved, self.ceilings, workload.arithmetic)

    def kernel_baselines(self, tasks: Sequence[Task], timing: BaselineTiming) -> Samples:
        """PyTorch's samples for each kernel that has a counterpart there."""
        self._opening.progress.phase("timing PyTorch's kernels")
        counterparts = [t for t in tasks if t.workload.origin and t.workload.inputs[0].dtype not in _NARROW]
        each_s = min(_MOST_S, timing.seconds / (2 * max(len(counterparts), 1)))
        policy: Policy = dataclasses.replace(RANK, max_time_s=each_s, min_time_s=min(RANK.min_time_s, each_s))
        settings = {"threads": self._threads, "runner": "tuner.devices.cpu.runner:CpuRunner"}
        service = "tuner.baselines.kernels:KernelBaselineWorker"
        with Child(service, settings, env=thread_env(self._threads)) as child:

            def time(task: Task) -> Any:
                return child.call("time", _TIMEOUT_S, origin=dict(task.workload.origin), policy=policy.to_json())

            timed = time_each(counterparts, timing, time)
        return {key: {reply["name"]: reply["samples_s"]} for key, reply in timed.items()}

    def entries(self, model: ImportedModel, libraries: Mapping[str, Path], baselines: Sequence[str]) -> list[EntrySpec]:
        """The compiled models, the baselines that were asked for, each with the model in the form it takes, and the run
        in float64."""
        compiled = {name: compiled_entry(name, library, self._threads) for name, library in libraries.items()}
        entries = [compiled[TUNED]]
        if "c" in model.model_spec:  # a raised function: its own code is the baseline and the reference
            entries += [compiled[UNTUNED]] if UNTUNED in compiled else []
            return [*entries, *originals(model.model_spec)]
        for name in baselines:
            if name == UNTUNED:
                entries += [compiled[UNTUNED]] if UNTUNED in compiled else []
                continue
            entries += self._baseline(name, model)
        return [*entries, *self._exact(model)]

    def _baseline(self, name: str, model: ImportedModel) -> list[EntrySpec]:
        """A baseline, and the one that computes in the precision of the tuned model, where that is narrower."""
        reduced = model.reduced
        if reduced is None:
            return [self._entry(name, model.model_spec)]
        whole = reduced.whole is not None
        spec = model.model_spec if reduced.whole is None else reduced.whole
        given = "float32" if reduced.unit or whole or reduced.precision == "auto" else reduced.precision
        entries = [dataclasses.replace(self._entry(name, spec), precision=given, whole=whole)]
        narrower = narrower_than_float32(reduced).get(name) if given == "float32" else None
        if narrower is not None:
            entries.append(dataclasses.replace(self._entry(narrower, model.model_spec), precision=reduced.precision))
        return entries

    def _entry(self, name: str, model_spec: Mapping[str, Any]) -> EntrySpec:
        provider = "tuner.importers:onnx_bytes" if name in FROM_ONNX else "tuner.importers:torch_module"
        settings = {
            "baseline": name, "model_spec": dict(model_spec), "threads": self._threads, "provider": provider,
            "scratch": str(self._opening.work),
        }  # fmt: skip
        prepare_s = _AUTOTUNE_S if name == TorchMaxAutotune.name else PREPARE_S
        return EntrySpec(name, "tuner.baselines.worker:BaselineWorker", settings, prepare_s)

    def _exact(self, model: ImportedModel) -> list[EntrySpec]:
        """The run in float64, and that of the model as it was before it was quantized."""
        settings = {"threads": self._threads, "provider": "tuner.baselines.exact_nodes:module"}
        reduced = model.reduced
        unit = {} if reduced is None or not reduced.unit else {"unit": reduced.unit}
        service = "tuner.baselines.exact:ExactWorker"
        entries = [EntrySpec(EXACT, service, {"model_spec": dict(model.model_spec), **settings, **unit})]
        if reduced is not None and reduced.whole is not None:
            entries.append(EntrySpec(EXACT_WHOLE, service, {"model_spec": dict(reduced.whole), **settings}))
        return entries

    def close(self) -> None:
        self.builder.close()
        self.bench.close()
