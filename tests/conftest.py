"""What holds for every test: no network, one way for Hypothesis to draw, GPU tests only where a GPU is."""

from __future__ import annotations

import ctypes
import os

import pytest
from hypothesis import settings

# Before any test imports the packages that read them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

# The same examples each time, and no deadline: the machine's load is not what a property is about.
settings.register_profile("project", derandomize=True, deadline=None, database=None)
settings.load_profile("project")


def gpus() -> int:
    """How many GPUs the CUDA driver offers to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


LONGEST = ("test_run.py", "test_kill.py", "test_hostile.py", "test_space.py", "test_strategies.py")
"""Files of tests that take longest, which start first: what starts last should not be what is waited for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if wanting and not gpus():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))
