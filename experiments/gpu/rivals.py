"""A child's service: PyTorch's kernels and models, and other timers, on the GPU that tuned kernels are timed on."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kernels.launch_plan import LaunchPlan
from kernels.tensors import TensorSpec, seeded_inputs
from tuner.baselines.kernels import operator
from tuner.baselines.torch_cuda import KERNEL_SETTINGS, MODEL_SETTINGS, launchables, operator_inputs
from tuner.measure.cuda import CudaGpu
from tuner.measure.gpu import GpuRunner
from tuner.measure.nvml import Nvml
from tuner.protocols import Policy
from tuner.records import Tier


class Rivals:
    """Everything is timed by the runner of tuned kernels, on the primary context that PyTorch uses too."""

    def __init__(self, device: int, mode: str, bus_id: str) -> None:
        nvml = Nvml(bus_id)
        self._gpu = CudaGpu(device)
        nvml.ours()
        self._runner = GpuRunner(self._gpu, mode, nvml.read)

    def op_kernel(self, origin: Mapping[str, Any], dtype: str, policy: Mapping[str, Any]) -> dict[str, float] | None:
        """Median seconds by setting of one operator; None where PyTorch has no counterpart."""
        inputs = operator_inputs(origin, dtype)
        if inputs is None:
            return None
        rivals = launchables(operator(origin), KERNEL_SETTINGS, half=dtype == "float16")
        return {setting.name: self._median(launchable, inputs, policy) for setting, launchable in rivals}

    def op_model(self, source: str, half: bool, policy: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Median seconds and peak bytes by setting of the model that `module:callable` makes."""
        import torch

        module, _, name = source.partition(":")
        found: dict[str, dict[str, float]] = {}
        for setting, _ in launchables(lambda: None, MODEL_SETTINGS, half):
            made, examples = getattr(importlib.import_module(module), name)()
            made = made.cuda().eval()
            rng = np.random.default_rng(0)
            kind = "float16" if half else "float32"
            inputs = [rng.standard_normal(tuple(e.shape), dtype=np.float32).astype(kind) for e in examples]
            torch.cuda.reset_peak_memory_stats()
            try:
                [(_, launchable)] = launchables(made, [setting], half)
                seconds = self._median(launchable, inputs, policy)
            except RuntimeError as error:  # what torch.compile raises where Triton or a compiler is missing
                found[setting.name] = {"failed": 1.0}
                print(f"{setting.name}: {error}")
                continue
            found[setting.name] = {"median_s": seconds, "peak_bytes": float(torch.cuda.max_memory_allocated())}
        return found

    def op_tuned_model(self, library: str, shapes: Any, dtype: str, count: int) -> dict[str, float]:
        """Median seconds of a model compiled by TVM, between events around each call; its first call is not timed."""
        import tvm
        from tvm import relax

        device = tvm.cuda(0)
        machine = relax.VirtualMachine(tvm.runtime.load_module(library), device)
        arrays = seeded_inputs(tuple(TensorSpec(tuple(shape), dtype) for shape in shapes), 0)
        tensors = [tvm.runtime.tensor(array, device) for array in arrays]
        free = self._gpu.free_bytes()
        for _ in range(20):
            machine["main"](*tensors)
        device.sync()
        used = max(free - self._gpu.free_bytes(), 0)
        samples = []
        for _ in range(count):
            self._gpu.flush()
            self._gpu.hold(5e-3)
            samples.append(self._gpu.time(lambda: machine["main"](*tensors)).device_s)
        return {"median_s": statistics.median(samples), "held_bytes": float(used)}

    def op_timers(self, job: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, float]:
        """Seconds of one kernel by our events, and by a timer that is not ours: CUPTI through PyTorch's profiler."""
        import torch

        inputs = seeded_inputs(tuple(TensorSpec(tuple(s), d) for s, d in job["inputs"]), job["seed"])
        outputs = [TensorSpec(tuple(s), d) for s, d in job["outputs"]]
        plan = LaunchPlan.from_json(job["plan"])
        kernel = self._gpu.kernel(Path(job["path"]).read_bytes(), plan, inputs, outputs)
        ours = GpuRunner(self._gpu, "hot", lambda: None)
        policy_of = Policy(**{**policy, "tier": Tier(policy["tier"])})
        seconds = ours.run(_Prepared(kernel), inputs, policy_of).median_s
        names = {launch.kernel for launch in plan.launches}
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for _ in range(100):
                kernel.enqueue(0)
            torch.cuda.synchronize()
        spent = [event.device_time_total for event in profile.events() if event.name in names]
        kernel.free()
        return {"events_s": seconds, "cupti_s": 1e-6 * sum(spent) / 100 if spent else float("nan")}

    def _median(self, launchable: Any, inputs: Any, policy: Mapping[str, Any]) -> float:
        return self._runner.run(launchable, inputs, Policy(**{**policy, "tier": Tier(policy["tier"])})).median_s


class _Prepared:
    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def prepare(self, inputs: Any) -> Any:
        return self._kernel
