"""Asking a framework's child for one kernel after the other, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tuner.devices.device import Asking
from tuner.process.worker import ChildDied, ChildError, ChildTimeout
from tuner.protocols import Task


def ask_each(tasks: Sequence[Task], asking: Asking, ask: Callable[[Task], Any]) -> dict[str, Any]:
    """What a framework's child says of each task that it has a counterpart of, by task key.

    A task that cannot be timed is noted; when the child is gone, or the run interrupted, that was all.
    """
    timed: dict[str, Any] = {}
    for task in tasks:
        if asking.interrupted():
            break
        try:
            answer = ask(task)
        except ChildError as error:
            asking.note(f"PyTorch's {task.name} was not timed: {str(error)[:200]}")
            continue
        except (ChildDied, ChildTimeout) as error:
            asking.note(f"PyTorch's kernels were not all timed: {str(error)[:200]}")
            break
        if answer is not None:
            timed[task.key] = answer
    return timed
