"""A run on this machine's first GPU. Never ran on one: docs/gpu.md says what was checked instead."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.baselines.entries import exact_entries, origin_of
from tuner.baselines.raised import REFERENCE, originals
from tuner.devices.cuda.bench import CudaBench, open_gpus
from tuner.devices.device import Assembly, BaselineTiming, DeviceKind, Opening, Samples, mode_of
from tuner.devices.gpu.runner import lower_bound_s
from tuner.devices.kernel_baselines import time_each
from tuner.errors import TargetError
from tuner.measure.models import TUNED, UNTUNED, EntrySpec, compiled_entry
from tuner.measure.replay import Recording, ReplayBench
from tuner.models import ImportedModel
from tuner.precisions import FLOAT16, INT8
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import RANK, Bench, Builder, Task

_ON_CPU = "onnxruntime_cpu"
"""ONNX Runtime on the CPU, besides the baselines on the GPU: an independent check of outputs, not a time to beat."""

_ONNX_RUNTIME = {
    _ON_CPU: "onnxruntime", "onnxruntime_cuda": "onnxruntime_cuda", "onnxruntime_cuda_graph": "onnxruntime_cuda_graph",
}  # fmt: skip
"""Benchmark entries by their names in the report, and the baseline that each of them is."""

_HALF, _QUANTIZED = "onnxruntime_cuda_fp16", "onnxruntime_cuda_int8"
"""Beside a model of which layers were made narrower: the baselines that compute in that precision."""

_CEILINGS_TIMEOUT_S = 120.0
_KERNEL_TIMEOUT_S = 120.0
_BYTES = ("int8", "uint8")
"""What a kernel's data are in where PyTorch's own kernel, which computes in floats, is no counterpart."""

_KERNEL_S = 0.5
"""The longest sampling of one of PyTorch's kernels in one setting."""


class Cuda:
    """Implements `Device`. Kernels are cubins in a child with its own context; the model is one CUDA graph.

    Unlike on a CPU the model's winners are compiled again, all in one module.
    """

    references: tuple[str, ...] = (_ON_CPU, "torch", REFERENCE)
    neighbours = None
    bench_class = CudaBench

    def __init__(self, opening: Opening, kind: DeviceKind) -> None:
        self._opening = opening
        self._mode = mode_of(kind, opening.measure.mode)
        target, measure = opening.target, opening.measure
        self._opened: CudaBench | None = None
        self.bench: Bench
        if opening.replay is not None:
            self.bench = ReplayBench(Recording.load(opening.replay))
        else:
            [self._opened] = open_gpus([0], target.features[0], self._mode, self.bench_class)
            self.bench = self._opened
        self.builder: Builder = kind.builder(
            target.text, opening.work / "kernels", opening.workers, measure.build_timeout_s
        )
        self.assembly: Assembly = kind.assembly(target)

    @property
    def runs_models(self) -> bool:
        return self._opened is not None

    @functools.cached_property
    def ceilings(self) -> Mapping[str, Any]:
        if self._opening.replay is not None:
            return dict(Recording.load(self._opening.replay).ceilings)
        self._opening.progress.phase("measuring this GPU's ceilings")
        return _ceilings()

    def lower_bound_s(self, task: Task) -> float:
        """From memory traffic alone; 0 where the driver does not tell the memory's rate."""
        if self._opened is None:
            return 0.0
        gpu = self._opened.description
        moved = sum(spec.nbytes for spec in task.workload.args)
        return lower_bound_s(moved, int(gpu["l2_bytes"]), float(gpu["peak_bytes_per_s"]))

    def kernel_baselines(self, tasks: Sequence[Task], timing: BaselineTiming) -> Samples:
        """PyTorch's samples, by setting, for each kernel that has a counterpart there."""
        if self._opened is None:
            return {}
        self._opening.progress.phase("timing cuDNN's and cuBLAS's kernels")
        policy = dataclasses.replace(RANK, max_time_s=_KERNEL_S)
        settings = {
            "runner": "tuner.devices.cuda.kernel_service:runner", "device": 0, "mode": self._mode,
            "bus_id": self._opened.description["bus_id"],
        }  # fmt: skip
        counterparts = [t for t in tasks if t.workload.origin and t.workload.inputs[0].dtype not in _BYTES]
        with Child("tuner.devices.cuda.torch_services:KernelsOnGpu", settings) as child:

            def time(task: Task) -> Any:
                origin, dtype = dict(task.workload.origin), task.workload.args[0].dtype
                return child.call("time", _KERNEL_TIMEOUT_S, origin=origin, dtype=dtype, policy=policy.to_json())

            return time_each(counterparts, timing, time)

    def entries(self, model: ImportedModel, libraries: Mapping[str, Path], baselines: Sequence[str]) -> list[EntrySpec]:
        """PyTorch in each way that was asked for and ONNX Runtime, the latter on the CPU too, to check against, and the
        run in float64. Beside a raised function its own code, on the CPU."""
        from tuner.devices.cuda.torch_services import settings_of

        threads, model_spec = self._opening.target.threads, dict(model.model_spec)
        entries = [
            compiled_entry(name, libraries[name], threads, self.assembly.runtime)
            for name in (TUNED, UNTUNED)
            if name in libraries
        ]  # fmt: skip
        if raised := originals(model_spec):
            return [*entries, *raised]
        origin = origin_of(model)
        half = model.inputs[0].dtype == "float16"
        for setting in settings_of(tuple(baselines), half, origin.floats):
            settings: dict[str, Any] = {
                "setting": setting.name,
                "model_spec": dict(origin.model_spec),
                "provider": "tuner.importers:torch_module",
            }
            service, computes_in = "tuner.devices.cuda.torch_services:ModelOnGpu", setting.dtype or origin.precision
            entries.append(EntrySpec(setting.name, service, settings, precision=computes_in, whole=origin.whole))
        if "onnxruntime" in baselines:
            entries += [self._onnxruntime(*named, origin.model_spec, origin.precision, origin.whole)
                        for named in _ONNX_RUNTIME.items()]  # fmt: skip
            if origin.floats == FLOAT16:
                entries.append(self._onnxruntime(_HALF, _HALF, origin.model_spec, FLOAT16, origin.whole))
            if origin.whole:
                entries.append(self._onnxruntime(_QUANTIZED, _QUANTIZED, model_spec, INT8))
        return [*entries, *exact_entries(model, threads)]

    def _onnxruntime(
        self, name: str, baseline: str, model_spec: Mapping[str, Any], precision: str, whole: bool = False
    ) -> EntrySpec:
        settings = {
            "baseline": baseline, "model_spec": dict(model_spec), "threads": self._opening.target.threads,
            "provider": "tuner.importers:onnx_bytes",
        }  # fmt: skip
        service = "tuner.baselines.worker:BaselineWorker"
        return EntrySpec(name, service, settings, precision=precision, whole=whole)

    def close(self) -> None:
        self.builder.close()
        self.bench.close()


def _ceilings() -> dict[str, Any]:
    """What this GPU can do at most. Raises TargetError where PyTorch cannot use it."""
    with Child("tuner.devices.cuda.torch_services:CeilingsOfGpu") as child:
        try:
            return dict(child.call("measure", _CEILINGS_TIMEOUT_S))
        except (ChildDied, ChildError, ChildTimeout) as error:
            raise TargetError(
                f"PyTorch cannot use this GPU, and without it there is nothing to compare with: {str(error)[:300]}",
                "install a build of PyTorch for CUDA; or bundle, measure and import, which do without",
            ) from error
