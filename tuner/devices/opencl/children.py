"""What children that use OpenCL are started with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from tuner.process.limits import Limits, for_kernels

CACHE = "pocl-cache"
"""Inside a folder of scratch space: what PoCL compiled."""


def child_env(threads: int, scratch: Path) -> Mapping[str, str]:
    """PoCL's threads, and a folder for what it compiles that goes away with the scratch space. Other platforms ignore
    both."""
    folder = scratch / CACHE
    folder.mkdir(parents=True, exist_ok=True)
    return {"POCL_MAX_PTHREAD_COUNT": str(threads), "POCL_CACHE_DIR": str(folder), "PYOPENCL_NO_CACHE": "1"}


def confined() -> Limits:
    """For children that run kernels. They may start processes: PoCL calls a linker at the first launch of a kernel. No
    OpenCL C can; and whatever they start stays in their process group, which the parent ends."""
    return dataclasses.replace(for_kernels(), may_fork=True)
