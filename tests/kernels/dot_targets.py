"""Targets with and without dot-product instructions, and whether this machine's CPU runs them."""

from __future__ import annotations

import pytest
from tvm.target import Target

from tuner.devices.cpu.target import LINUX_FLAGS, features_of
from tuner.environment import cpu_flags

WITH_DOTS = {"kind": "llvm", "mcpu": "cooperlake", "num-cores": 2}
"""The first CPU with all of them."""


def with_dots() -> Target:
    return Target(dict(WITH_DOTS))


HAS_DOTS = all(LINUX_FLAGS.get(name) in cpu_flags() for name in features_of(WITH_DOTS))
"""Whether this machine's CPU runs what is compiled for such a target."""

needs_dots = pytest.mark.skipif(not HAS_DOTS, reason="this CPU has no dot-product instructions")
"""For tests that run such code; those that only compile it run everywhere."""
