"""A child's service on the GPU that tuned kernels are timed on: PyTorch's kernels, and CUPTI beside this program's
timer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernels.launch_plan import LaunchPlan
from kernels.tensors import seeded_inputs
from tuner.devices.cuda.torch_services import KernelsOnGpu
from tuner.devices.gpu.runner import GpuPrepared, GpuRunner, Ready
from tuner.protocols import Job, Policy

_PROFILED_CALLS = 100


class GpuBaselines(KernelsOnGpu):
    """Everything is timed by the runner of tuned kernels, on the primary context that PyTorch uses too."""

    def __init__(self, device: int, mode: str, bus_id: str) -> None:
        super().__init__("tuner.devices.cuda.kernel_service:runner", device, mode, bus_id)
        self._gpu = self._runner.gpu

    def op_timers(self, job: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, float]:
        """Seconds of one kernel by this program's events, and by CUPTI through PyTorch's profiler."""
        asked = Job.from_json(job)
        plan = LaunchPlan.from_json(asked.resources["plan"])
        inputs = seeded_inputs(asked.inputs, asked.seed)
        kernel = self._gpu.kernel(asked.path.read_bytes(), plan, inputs, list(asked.outputs))
        try:
            runner = GpuRunner(self._gpu, "hot", lambda: None)
            events_s = runner.run(Ready(kernel), inputs, Policy.from_json(policy)).median_s
            return {"events_s": events_s, "cupti_s": _profiled_s(kernel, {launch.kernel for launch in plan.launches})}
        finally:
            kernel.free()


def _profiled_s(kernel: GpuPrepared, names: set[str]) -> float:
    """Seconds of one call by PyTorch's profiler; NaN where it saw none of the kernels."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(_PROFILED_CALLS):
            kernel.enqueue(0)
        torch.cuda.synchronize()
    spent_us = [event.device_time_total for event in profile.events() if event.name in names]
    return 1e-6 * sum(spent_us) / _PROFILED_CALLS if spent_us else float("nan")
