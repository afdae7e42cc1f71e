"""A run on an OpenCL device of this machine."""

from __future__ import annotations

import ctypes.util
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.baselines import FROM_ONNX
from tuner.baselines.entries import exact_entries, origin_of
from tuner.baselines.raised import REFERENCE, originals
from tuner.devices.device import Assembly, BaselineTiming, DeviceKind, Opening, Samples, mode_of
from tuner.devices.kernel_baselines import time_each
from tuner.devices.opencl.bench import OpenclBench
from tuner.devices.opencl.children import child_env, confined
from tuner.devices.opencl.target import INSTALL, device_of, find_devices
from tuner.errors import TargetError
from tuner.measure.models import TUNED, UNTUNED, EntrySpec
from tuner.measure.replay import Recording, ReplayBench
from tuner.models import ImportedModel
from tuner.process.worker import Child
from tuner.protocols import RANK, Bench, Builder, Task

CLBLAST, CLBLAST_ALONE = "clblast", "clblast_product"
"""The names of clBLAST's products: of a kernel that is nothing else, and of one that has an epilogue, which clBLAST has
not."""

_CLBLAST_S = 60.0
"""So long may a call of clBLAST take at least, whatever the effort: its first one compiles."""

_KERNEL_S = 0.5
"""The longest sampling of one of clBLAST's products."""

ON_CPU = "_cpu"
"""What the names of baselines on the host's CPU end in: beside a GPU they are no times to beat."""


class Opencl:
    """Implements `Device`. Kernels are compiled and timed in a child with its own context; the model is a list of
    launches on memory that is planned."""

    references = (f"onnxruntime{ON_CPU}", f"torch{ON_CPU}", REFERENCE)
    neighbours = None

    def __init__(self, opening: Opening, kind: DeviceKind) -> None:
        self._opening = opening
        target, measure = opening.target, opening.measure
        mode, scratch = mode_of(kind, measure.mode), opening.work / "kernels"
        self._opened: OpenclBench | None = None
        self.bench: Bench
        if opening.replay is not None:
            self.bench = ReplayBench(Recording.load(opening.replay))
        else:
            facts = device_of(target.text, target.threads)
            if facts is None:
                missing = find_devices(target.threads)
                reason = missing if isinstance(missing, str) else "the device of this target"
                raise TargetError(f"target opencl: missing here: {reason}", INSTALL)
            self._opened = OpenclBench(facts, mode, target.threads, scratch, measure.run_timeout_s)
            self.bench = self._opened
        self.builder: Builder = kind.builder(target.text, scratch, opening.workers, measure.build_timeout_s)
        self.assembly: Assembly = kind.assembly(target)

    @property
    def runs_models(self) -> bool:
        return self._opened is not None

    @functools.cached_property
    def ceilings(self) -> Mapping[str, Any]:
        if self._opening.replay is not None:
            return dict(Recording.load(self._opening.replay).ceilings)
        assert self._opened is not None
        self._opening.progress.phase("measuring this device's ceilings")
        return self._opened.ceilings()

    def lower_bound_s(self, task: Task) -> float:
        """0: OpenCL does not tell the rate of a device's memory, and a measured one is no bound."""
        return 0.0

    def kernel_baselines(self, tasks: Sequence[Task], timing: BaselineTiming) -> Samples:
        """clBLAST's samples for each matrix product, where its library is installed: those of the product alone, of a
        kernel that does more. No framework's operators run through OpenCL; TVM's default schedule is timed with the
        candidates."""
        products = [task for task in tasks if task.workload.origin.get("op") == "matmul"]
        if self._opened is None or not products or ctypes.util.find_library("clblast") is None:
            return {}
        self._opening.progress.phase("timing clBLAST's kernels")
        threads, limit = self._opening.target.threads, max(timing.seconds, _CLBLAST_S)
        policy = dataclasses.replace(RANK, max_time_s=_KERNEL_S)
        settings = {"device": self._opened.facts.number, "mode": self._opened.mode}
        env = child_env(threads, self._opening.work / "kernels")
        with Child("tuner.devices.opencl.clblast:ClblastKernels", settings, env=env, limits=confined()) as child:

            def time(task: Task) -> Any:
                origin, dtype = dict(task.workload.origin), task.workload.args[0].dtype
                samples = child.call("time", limit, origin=origin, dtype=dtype, policy=policy.to_json())
                return None if samples is None else {CLBLAST_ALONE if origin.get("epilogue") else CLBLAST: samples}

            return time_each(products, timing, time, "clBLAST")

    def entries(self, model: ImportedModel, libraries: Mapping[str, Path], baselines: Sequence[str]) -> list[EntrySpec]:
        """The compiled models on the device, the baselines that were asked for on the host's CPU, and the run in
        float64. Beside a raised function its own code, on the CPU."""
        target, spec = self._opening.target, dict(model.model_spec)
        entries = [
            EntrySpec(
                name, "tuner.devices.opencl.model_service:OpenclModelWorker",
                {"library": str(libraries[name]), "threads": target.threads, "label": target.device,
                 "scratch": str(self._opening.work)},
            )
            for name in (TUNED, UNTUNED)
            if name in libraries
        ]  # fmt: skip
        if raised := originals(spec):
            return [*entries, *raised]
        origin = origin_of(model)
        common = {"model_spec": dict(origin.model_spec), "threads": target.threads}
        for name in baselines:
            if name == UNTUNED:
                continue
            provider = "tuner.importers:onnx_bytes" if name in FROM_ONNX else "tuner.importers:torch_module"
            settings = {"baseline": name, "provider": provider, "scratch": str(self._opening.work), **common}
            service, computes_in = "tuner.baselines.worker:BaselineWorker", origin.precision
            entries.append(EntrySpec(f"{name}{ON_CPU}", service, settings, precision=computes_in, whole=origin.whole))
        return [*entries, *exact_entries(model, target.threads)]

    def close(self) -> None:
        self.builder.close()
        self.bench.close()
