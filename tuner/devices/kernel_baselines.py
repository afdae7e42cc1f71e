"""Timing a framework's kernels one after the other in its child, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tuner.devices.device import BaselineTiming
from tuner.process.worker import ChildDied, ChildError, ChildTimeout
from tuner.protocols import Task


def time_each(
    tasks: Sequence[Task], timing: BaselineTiming, time: Callable[[Task], Any], framework: str = "PyTorch"
) -> dict[str, Any]:
    """By task key, what `time` returns for each task that the framework has a counterpart of; else it returns None.

    A task that cannot be timed is noted. When the child is gone, or the run interrupted, no more are timed.
    """
    timed: dict[str, Any] = {}
    for task in tasks:
        if timing.interrupted():
            break
        try:
            samples = time(task)
        except ChildError as error:
            timing.note(f"{framework}'s {task.name} was not timed: {str(error)[:200]}")
            continue
        except (ChildDied, ChildTimeout) as error:
            timing.note(f"{framework}'s kernels were not all timed: {str(error)[:200]}")
            break
        if samples is not None:
            timed[task.key] = samples
    return timed
