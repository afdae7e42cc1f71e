"""A run on the simulated GPU: everything of a run on a GPU but its speed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kernels.gpus import gpu_of
from tuner.baselines.entries import exact_entries
from tuner.baselines.raised import REFERENCE, originals
from tuner.devices.cuda.device import Cuda
from tuner.devices.cuda.simulated.bench import SimulatedBench
from tuner.devices.device import ON_TENSOR_CORES, BaselineTiming, Samples
from tuner.measure.models import TUNED, UNTUNED, EntrySpec
from tuner.models import ImportedModel
from tuner.protocols import Task

_ARCH = "sm_90a"

_HALVES = ("float16", "bfloat16")
"""What tensor cores multiply at the rate that the table of GPUs has for 16 bits."""


class SimulatedCuda(Cuda):
    """Implements `Device`. Outputs are verified by the run in float64; of a raised function by the original."""

    references = (REFERENCE,)
    bench_class = SimulatedBench

    @functools.cached_property
    def ceilings(self) -> Mapping[str, Any]:
        """Those of the data sheet that the estimates are made from: nothing is measured."""
        if self._opening.replay is not None:
            return super().ceilings
        gpu = gpu_of(_ARCH)
        return {
            "peak_flops_per_s": gpu.fp32_flops,
            "peaks": {
                "float32": gpu.fp32_flops,
                **{f"{dtype}{ON_TENSOR_CORES}": gpu.tensor_flops for dtype in _HALVES},
                f"int8{ON_TENSOR_CORES}": gpu.byte_flops,
            },
            "bandwidth_bytes_per_s": gpu.dram_bytes, "levels": [], "cache_bytes": gpu.l2_size, "source": "data-sheet",
            "method": f"data sheet of {gpu.name}, from which the times are estimated; nothing was measured",
        }  # fmt: skip

    def lower_bound_s(self, task: Task) -> float:
        """0: an estimate needs no bound."""
        return 0.0

    def kernel_baselines(self, tasks: Sequence[Task], timing: BaselineTiming) -> Samples:
        """None: no framework's kernels run here."""
        return {}

    def entries(self, model: ImportedModel, libraries: Mapping[str, Path], baselines: Sequence[str]) -> list[EntrySpec]:
        """The compiled models on the simulated GPU, and the run in float64 that verifies them.

        No baseline: one on the host's CPU takes real time, with which an estimate cannot be compared.
        """
        threads = self._opening.target.threads
        service = "tuner.devices.cuda.simulated.model_service:SimulatedModelWorker"
        entries = [
            EntrySpec(name, service, {"library": str(libraries[name]), "threads": threads})
            for name in (TUNED, UNTUNED)
            if name in libraries
        ]
        if raised := originals(model.model_spec):
            return [*entries, dataclasses.replace(raised[0], timed=False)]
        return [*entries, *exact_entries(model, threads)]
