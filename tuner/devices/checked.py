"""What the child's side of every bench does alike: what was checked is what is timed, and how right it was is noted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Generic, TypeVar

from tuner.outputs import OutputCheck
from tuner.protocols import Array
from tuner.records import Fidelity, Measurement, Status

Kernel = TypeVar("Kernel")


class Ready(Generic[Kernel]):
    """Implements `protocols.Launchable` with a kernel that is prepared already."""

    def __init__(self, key: str, kernel: Kernel) -> None:
        self.key = key
        self._kernel = kernel

    def prepare(self, inputs: Sequence[Array]) -> Kernel:
        return self._kernel


def with_errors(measured: Measurement, check: OutputCheck) -> Measurement:
    """A measurement with how far the outputs were from the reference."""
    return dataclasses.replace(measured, max_abs_error=check.max_abs_error, max_rel_error=check.max_rel_error)


def wrong_result(reason: str, check: OutputCheck, fidelity: Fidelity) -> Measurement:
    """The measurement of a kernel that computes, or writes, what it must not."""
    return with_errors(Measurement(Status.WRONG_RESULT, fidelity=fidelity, reason=reason), check)
