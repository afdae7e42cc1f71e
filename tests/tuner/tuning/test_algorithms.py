"""The algorithm of a kernel is the one that was measured to be the fastest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.tuner.tuning.on_null import task_named
from tuner.graph import Choices, GraphConfig, Lowered
from tuner.graph.algorithms import Algorithm
from tuner.protocols import Task
from tuner.tuning.algorithms import choose

KERNEL, OTHER, WINOGRAD = (task_named(name) for name in ("direct", "other", "winograd"))


class Mixing(Choices):
    """Choices that only note what is wanted."""

    def mixed(self, wanted: Any) -> Lowered:
        tasks = {t.key: t for t in (KERNEL, OTHER, WINOGRAD)}
        return Lowered(None, GraphConfig(), tuple(tasks[wanted.get(t.key, t.key)] for t in self.lowered.tasks))


def chosen(direct: float | None, winograd: float | None) -> Any:
    algorithm = Algorithm("winograd4", GraphConfig(tile=4), {KERNEL.key: WINOGRAD})
    variant = Mixing(Lowered(None, GraphConfig(), (KERNEL, OTHER)), (algorithm,))
    times: dict[Task, float | None] = {KERNEL: direct, WINOGRAD: winograd, OTHER: 1.0}
    sessions: Any = {task.key: SimpleNamespace(best_s=seconds) for task, seconds in times.items()}
    return choose(variant, sessions)


@pytest.mark.parametrize(
    ("direct", "winograd", "task"),
    [
        (2e-3, 1e-3, WINOGRAD),
        (1e-3, 2e-3, KERNEL),
        (1e-3, 0.99e-3, KERNEL),  # one per cent is not worth the digits
        (None, 1e-3, WINOGRAD),
        (1e-3, None, KERNEL),
        (None, None, KERNEL),
    ],
)
def test_the_fastest_is_chosen_and_told(direct: float | None, winograd: float | None, task: Task) -> None:
    result = chosen(direct, winograd)
    assert [t.key for t in result.lowered.tasks] == [task.key, OTHER.key]
    assert result.seconds == {task.key: {"direct": direct, "winograd4": winograd}}
    [sentence] = result.sentences
    assert sentence.startswith(f"direct: computed by {'direct' if task is KERNEL else 'winograd4'} (direct ")
