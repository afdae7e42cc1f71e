"""The builder of OpenCL kernels: as every other, but it refuses at once what its device has no arithmetic for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner import environment
from tuner.devices.builder import LocalBuilder
from tuner.devices.opencl.target import device_of
from tuner.errors import TargetError
from tuner.protocols import Task

if TYPE_CHECKING:
    from kernels.space import DesignSpace

CODEGEN = "tuner.devices.opencl.codegen:compile"


class OpenclBuilder(LocalBuilder):
    """Implements `protocols.Builder`. Where the device is not here, nothing is known of its extensions."""

    def __init__(self, target: str, folder: Path, workers: int, timeout_s: float) -> None:
        super().__init__(target, CODEGEN, folder, workers, timeout_s)
        self._text = target

    def space(self, task: Task, pass_names: Sequence[str]) -> DesignSpace:
        """As `LocalBuilder.space`. Raises TargetError for a dtype that the device has no arithmetic for."""
        facts = device_of(self._text, environment.usable_threads())
        for dtype in dict.fromkeys(spec.dtype for spec in task.workload.args):
            if facts is not None and (missing := facts.missing_for(dtype)):
                raise TargetError(
                    f"{task.name}: {dtype} needs the extension {missing}, which {facts.name} has not",
                    f"use a model without {dtype}, or another device",
                )
        return super().space(task, pass_names)
