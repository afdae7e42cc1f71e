"""A run on an OpenCL device of this machine."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.baselines import FROM_ONNX
from tuner.devices.device import Assembly, BaselineTiming, DeviceKind, Opening, Samples, mode_of
from tuner.devices.opencl.bench import OpenclBench
from tuner.devices.opencl.target import INSTALL, device_of, find_devices
from tuner.errors import TargetError
from tuner.measure.models import EXACT, TUNED, UNTUNED, EntrySpec
from tuner.measure.replay import Recording, ReplayBench
from tuner.models import ImportedModel
from tuner.protocols import Bench, Builder, Task

ON_CPU = "_cpu"
"""What the names of baselines on the host's CPU end in: beside a GPU they are no times to beat."""


class Opencl:
    """Implements `Device`. Kernels are compiled and timed in a child with its own context; the model is a list of
    launches on memory that is planned."""

    references = (f"onnxruntime{ON_CPU}", f"torch{ON_CPU}")
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
        """None: no framework's operators run through OpenCL. TVM's default schedule is timed with the candidates."""
        return {}

    def entries(self, model: ImportedModel, libraries: Mapping[str, Path], baselines: Sequence[str]) -> list[EntrySpec]:
        """The compiled models on the device, the baselines that were asked for on the host's CPU, and the run in
        float64."""
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
        common = {"model_spec": spec, "threads": target.threads}
        for name in baselines:
            if name == UNTUNED:
                continue
            provider = "tuner.importers:onnx_bytes" if name in FROM_ONNX else "tuner.importers:torch_module"
            settings = {"baseline": name, "provider": provider, "scratch": str(self._opening.work), **common}
            entries.append(EntrySpec(f"{name}{ON_CPU}", "tuner.baselines.worker:BaselineWorker", settings))
        exact = {"provider": "tuner.importers:torch_module", **common}
        return [*entries, EntrySpec(EXACT, "tuner.baselines.exact:ExactWorker", exact)]

    def close(self) -> None:
        self.builder.close()
        self.bench.close()
