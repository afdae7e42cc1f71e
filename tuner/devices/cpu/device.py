"""A run on this machine's CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.commands import whole_model as whole
from tuner.commands.prepare import RunContext
from tuner.devices.cpu.machine import ceilings
from tuner.devices.device import Finished
from tuner.protocols import Bench, ImportedModel, Task

if TYPE_CHECKING:
    from kernels.space import Candidate
    from tuner.graph import Lowered
    from tuner.tuning.phase import SearchResult


class OnCpu:
    """Implements `Device`. Kernels run in a child with the model's threads; the model is linked from their objects."""

    def __init__(self, run: RunContext) -> None:
        from tuner.devices.cpu.bench import KernelBench
        from tuner.measure.replay import Recording
        from tuner.process.pinning import thread_env

        self._run = run
        threads, measure = run.target.threads, run.config.measure
        self.ceilings = (
            ceilings(run.folder.parent, threads, run.progress)
            if run.replay is None
            else dict(Recording.load(run.replay).ceilings)
        )
        environment = thread_env(threads)
        self.bench: Bench = KernelBench(measure.mode, threads, environment, measure.run_timeout_s, run.replay)

    def lower_bound_s(self, task: Task) -> float:
        from tuner.devices.cpu.ceilings import least_bytes, lower_bound_s

        workload = task.workload
        dtype = workload.outputs[0].dtype
        inputs, output = [spec.nbytes for spec in workload.inputs], sum(spec.nbytes for spec in workload.outputs)
        moved = least_bytes(inputs, output, max(np.dtype(s.dtype).itemsize for s in workload.args), workload.flops)
        return lower_bound_s(workload.flops, moved, self.ceilings, dtype)

    def kernel_baselines(self, found: SearchResult) -> dict[str, dict[str, list[float]]]:
        return whole.kernel_baselines(self._run, found)

    def parts(self, found: SearchResult, winners: Mapping[str, Candidate]) -> Mapping[str, Any]:
        """(symbol, object file) of each winner; None for one that cannot be had any more."""
        return {key: found.sessions[key].object_of(candidate) for key, candidate in winners.items()}

    def whole_model(
        self, model: ImportedModel, graph: Lowered, parts: Mapping[str, Any], versions: Mapping[str, str]
    ) -> Finished:
        return whole.whole_model(self._run, model, graph, parts, versions)

    def close(self) -> None:
        self.bench.close()
