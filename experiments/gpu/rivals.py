"""A child's service: PyTorch's kernels, and a timer that is not ours, on the GPU that tuned kernels are timed on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernels.launch_plan import LaunchPlan
from kernels.tensors import TensorSpec, seeded_inputs
from tuner.devices.cuda.runner import GpuRunner
from tuner.devices.cuda.torch_services import KernelsOnGpu
from tuner.protocols import Policy
from tuner.records import Fidelity


class Rivals(KernelsOnGpu):
    """Everything is timed by the runner of tuned kernels, on the primary context that PyTorch uses too."""

    def __init__(self, device: int, mode: str, bus_id: str) -> None:
        super().__init__("tuner.devices.cuda.kernel_service:runner", device, mode, bus_id)
        self._gpu = self._runner.gpu

    def op_timers(self, job: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, float]:
        """Seconds of one kernel by our events, and by a timer that is not ours: CUPTI through PyTorch's profiler."""
        import torch

        inputs = seeded_inputs(tuple(TensorSpec(tuple(s), d) for s, d in job["inputs"]), job["seed"])
        outputs = [TensorSpec(tuple(s), d) for s, d in job["outputs"]]
        plan = LaunchPlan.from_json(job["plan"])
        kernel = self._gpu.kernel(Path(job["path"]).read_bytes(), plan, inputs, outputs)
        ours = GpuRunner(self._gpu, "hot", lambda: None)
        policy_of = Policy(**{**policy, "fidelity": Fidelity(policy["fidelity"])})
        seconds = ours.run(_Prepared(kernel), inputs, policy_of).median_s
        names = {launch.kernel for launch in plan.launches}
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for _ in range(100):
                kernel.enqueue(0)
            torch.cuda.synchronize()
        spent = [event.device_time_total for event in profile.events() if event.name in names]
        kernel.free()
        return {"events_s": seconds, "cupti_s": 1e-6 * sum(spent) / 100 if spent else float("nan")}


class _Prepared:
    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def prepare(self, inputs: Any) -> Any:
        return self._kernel
