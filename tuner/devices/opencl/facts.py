"""What a driver tells of an OpenCL device, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from kernels.launch_plan import MAX_SHARED, MAX_THREADS
from tuner.caveats import OWN, Caveat, Caveats

POCL = "Portable Computing Language"
"""The name of PoCL's platform."""

A_CPU = "a CPU, its times are not a GPU's"
"""What the label of a device that is a CPU ends in."""

_OF_A_CPU = Caveat("CPU's time", "Every time is a CPU's, through OpenCL: none of them says anything of a GPU.")

EXTENSION_OF: Mapping[str, str] = {"float16": "cl_khr_fp16", "float64": "cl_khr_fp64"}
"""By dtype, the extension without which a device has no arithmetic in it."""


@dataclass(frozen=True)
class Facts:
    """One device. `number` is its position among all devices of this machine, `processor` the CPU's name where the
    device is one, "" otherwise; sizes are in bytes."""

    platform: str
    name: str
    number: int
    version: str
    processor: str
    compute_units: int
    max_threads: int
    local_bytes: int
    global_bytes: int
    cache_bytes: int
    preferred_multiple: int
    alignment: int
    extensions: tuple[str, ...]

    @property
    def is_cpu(self) -> bool:
        return bool(self.processor)

    @property
    def model(self) -> str:
        """What a TVM target calls it, and finds it by."""
        return f"{self.platform} / {self.name}"

    @property
    def label(self) -> str:
        """Its name in reports and records. Times of a CPU say so wherever they stand."""
        if self.is_cpu:
            platform = "PoCL" if self.platform == POCL else self.platform
            return f"{platform} {self.version} on {self.processor} ({self.compute_units} compute unit(s)): {A_CPU}"
        return f"{self.name} ({self.platform}, driver {self.version})"

    @property
    def limits(self) -> Mapping[str, int]:
        """Its limits as TVM calls them, none above what a launch plan may have."""
        threads = min(self.max_threads, MAX_THREADS)
        return {
            "max_threads_per_block": threads,
            "max_num_threads": threads,
            "max_shared_memory_per_block": min(self.local_bytes, MAX_SHARED),
            "thread_warp_size": max(1, min(self.preferred_multiple, 64)),
        }

    def missing_for(self, dtype: str) -> str:
        """The extension that the device lacks for arithmetic in a dtype; "" where it lacks none."""
        wanted = EXTENSION_OF.get(dtype, "")
        return "" if wanted in ("", *self.extensions) else wanted

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "extensions": tuple(data["extensions"])})


def caveats(label: str) -> Caveats:
    """What the times of a device are, by its label."""
    return Caveats(_OF_A_CPU, _OF_A_CPU) if label.endswith(A_CPU) else OWN
