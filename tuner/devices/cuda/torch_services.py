"""PyTorch on a GPU as children's services: a whole model, single kernels, and what the GPU can do at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.baselines.kernels import operator
from tuner.baselines.worker import named
from tuner.devices.cuda.torch_settings import (
    KERNEL_SETTINGS,
    MODEL_SETTINGS,
    EnqueuedTorch,
    Setting,
    TorchOnGpu,
    launchables,
    operator_inputs,
)
from tuner.measure.model_service import ModelWorker
from tuner.precisions import BFLOAT16, FLOAT32, FLOATS
from tuner.protocols import Policy

if TYPE_CHECKING:
    from tuner.protocols import Array

_PEAK_DTYPES = ("float32", "float64", "float16", "bfloat16")
_PEAK_SIDE = 8192
_COPIED_BYTES = 1 << 30
_TRIES = 20


def settings_of(baselines: tuple[str, ...], half: bool, dtype: str = "") -> list[Setting]:
    """The ways to run a model that belong to these baselines of a run file, where they make sense for the precision;
    those in a `dtype` narrower than the model's, too."""
    ways = [setting for setting in MODEL_SETTINGS if setting.dtype in ("", dtype)]
    return [s for s, _ in launchables(lambda: None, ways, half) if _baseline_of(s) in baselines]


def _baseline_of(setting: Setting) -> str:
    if setting.compiled:
        return "torch_compile"
    return "torch_channels_last" if setting.channels_last else "torch"


class ModelOnGpu(ModelWorker):
    """As `baselines.worker.BaselineWorker`, in one of MODEL_SETTINGS; a call ends when the GPU has finished."""

    def __init__(self, setting: str, model_spec: Mapping[str, Any], provider: str) -> None:
        super().__init__()
        self._setting = next(s for s in MODEL_SETTINGS if s.name == setting)
        self._model_spec = model_spec
        self._provider = provider

    def op_prepare(self, inputs_npz_path: str) -> dict[str, Any]:
        """Load the model and call it: cuDNN and torch.compile choose their kernels then. The seconds that this takes,
        without making the model, are those of loading."""
        import torch

        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            inputs = [stored[name] for name in stored.files]
        module, _ = named(self._provider)(self._model_spec)
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        prepared = _Synchronous(TorchOnGpu(self._setting, module.cuda().eval()).prepare(inputs))
        prepared.launch(3)
        load_s = time.perf_counter() - began
        self._prepared = prepared
        peak = torch.cuda.max_memory_allocated() >> 20
        return {"settings": f"PyTorch {version('torch')}, {self._setting.words}; peak {peak} MiB", "load_s": load_s}


class _Synchronous:
    """Implements `protocols.Prepared`: the host waits for each call, as whoever needs the outputs does."""

    def __init__(self, prepared: EnqueuedTorch) -> None:
        self._prepared = prepared

    def launch(self, count: int) -> None:
        import torch

        for _ in range(count):
            self._prepared.enqueue(0)
            torch.cuda.synchronize()

    def outputs(self) -> list[Array]:
        return self._prepared.outputs()


class KernelsOnGpu:
    """Single operators, timed by the runner of tuned kernels on the primary context that PyTorch uses too."""

    def __init__(self, runner: str, device: int, mode: str, bus_id: str) -> None:
        """`runner` is `module:function` that makes the runner for a device, a mode and a bus id."""
        self._runner = named(runner)(device, mode, bus_id)

    def op_time(
        self, origin: Mapping[str, Any], dtype: str, policy: Mapping[str, Any]
    ) -> dict[str, list[float]] | None:
        """Samples (seconds) by setting; None where PyTorch has no counterpart."""
        given = FLOAT32 if dtype == BFLOAT16 else dtype  # numpy has no bfloat16: the tensors are converted
        inputs = operator_inputs(origin, given)
        if inputs is None:
            return None
        stops = Policy.from_json(policy)
        ways = [replace(setting, dtype="" if given == dtype else dtype) for setting in KERNEL_SETTINGS]
        baselines = launchables(operator(origin), ways, half=dtype in FLOATS)
        return {s.name: list(self._runner.run(launchable, inputs, stops).samples_s) for s, launchable in baselines}


class CeilingsOfGpu:
    """What a GPU can do at most, as PyTorch reaches it: the best of large matrix products, and of a large copy."""

    def op_measure(self) -> dict[str, Any]:
        """As `devices.cpu.ceilings.Ceilings.op_measure`: peaks by dtype in FLOP/s without TF32, bytes/s of memory."""
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        peaks = {}
        for name in _PEAK_DTYPES:
            side = _PEAK_SIDE // 2 if name == "float64" else _PEAK_SIDE
            a = torch.randn(side, side, device="cuda").to(getattr(torch, name))
            peaks[name] = 2.0 * side**3 / _least_s(lambda a=a: torch.matmul(a, a))  # type: ignore[misc]
        source = torch.empty(_COPIED_BYTES, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        bandwidth = 2.0 * _COPIED_BYTES / _least_s(lambda: target.copy_(source))
        return {
            "peak_flops_per_s": peaks["float32"], "peaks": peaks, "bandwidth_bytes_per_s": bandwidth, "levels": [],
            "cache_bytes": int(torch.cuda.get_device_properties(0).L2_cache_size),
            "method": f"PyTorch {version('torch')}: matrix products of side {_PEAK_SIDE}, a copy of 1 GiB",
        }  # fmt: skip


def _least_s(work: Callable[[], Any]) -> float:
    """Seconds between two events of the fastest of a few calls."""
    import torch

    work()
    seconds = []
    for _ in range(_TRIES):
        begin, end = _event(torch), _event(torch)
        begin.record()
        work()
        end.record()
        end.synchronize()
        seconds.append(1e-3 * float(begin.elapsed_time(end)))
    return min(seconds)


def _event(module: Any) -> Any:
    return module.cuda.Event(enable_timing=True)
