"""What tests of the suites share: a task and candidates of the null device, and which tests do not pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from kernels.space import Candidate
from kernels.tensors import TensorSpec
from kernels.workload import Workload
from tests.null_device import space_of
from tuner.protocols import Task

TASK = Task(Workload("square", "0123456789abcdef", "", (TensorSpec((2, 3), "float32"),) * 2, 1, 6.0), "a target")
CANDIDATES = [space_of().default(), Candidate(0, (0, 1, 2)), Candidate(0, (5, 5, 5)), Candidate(0, (3, 0, 0))]

Checks = Mapping[str, Callable[[], None]]


def failing(checks: Checks) -> set[str]:
    """Which of the suite's tests an implementation does not pass."""
    failed = set()
    for name, check in checks.items():
        try:
            check()
        except (AssertionError, LookupError, OSError, ValueError, pytest.fail.Exception):
            failed.add(name)
    return failed
