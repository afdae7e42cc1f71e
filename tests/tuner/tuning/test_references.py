"""Where the references of a task come from, and that they are made when they are needed and not twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.null_device import NullBuilder
from tests.tuner.tuning.on_null import task_named
from tuner.protocols import Reference, Task
from tuner.tuning.references import References, Source

TASK = task_named()
SEED = 5


class Asked(NullBuilder):
    """Notes for which seeds it is asked; `reason`: why it evaluates nothing."""

    def __init__(self, folder: Path, reason: str = "") -> None:
        super().__init__(folder)
        self.seeds: list[list[int]] = []
        self._reason = reason

    def reference(self, task: Task, seeds: Sequence[int], folder: Path) -> dict[int, Reference] | str:
        self.seeds.append(list(seeds))
        return self._reason or super().reference(task, seeds, folder)


class Untuned:
    """Stores what the untuned build gives, or says why not."""

    def __init__(self, failure: str | None = None) -> None:
        self.stored: list[int] = []
        self._failure = failure

    def __call__(self, seed: int, path: Path) -> str | None:
        self.stored.append(seed)
        if self._failure is None:
            path.write_bytes(b"")
        return self._failure


def references(
    folder: Path, reason: str = "", recheck: bool = False, failure: str | None = None
) -> tuple[References, Asked, Untuned]:
    builder, untuned = Asked(folder / "built", reason), Untuned(failure)
    return References(TASK, builder, SEED, folder, recheck, untuned), builder, untuned


def test_what_evaluates_the_program_independently_is_asked_first(tmp_path: Path) -> None:
    made, builder, untuned = references(tmp_path)
    assert made.of(SEED) is None, "nothing is made before it is needed"
    made.prepare(SEED)
    found = made.of(SEED)
    assert found is not None and found.path.exists()
    assert (made.source, made.unverified) == (Source.INDEPENDENT, "")
    assert (builder.seeds, untuned.stored) == ([[SEED]], [])


def test_a_reference_is_made_once(tmp_path: Path) -> None:
    made, builder, _ = references(tmp_path)
    for seed in (SEED, SEED, SEED + 1, SEED + 1):
        made.prepare(seed)
    assert builder.seeds == [[SEED], [SEED + 1]]


def test_search_and_certification_are_each_other_s_second_check(tmp_path: Path) -> None:
    made, builder, _ = references(tmp_path, recheck=True)
    made.prepare(SEED)
    assert builder.seeds == [[SEED, SEED + 1]], "both at once: they are computed in parallel"
    assert made.recheck_of(SEED) == (SEED + 1, made.of(SEED + 1))
    assert made.recheck_of(SEED + 1) == (SEED, made.of(SEED))
    made.prepare(SEED + 1)
    assert len(builder.seeds) == 1


def test_without_a_second_check_there_is_none(tmp_path: Path) -> None:
    made, _, _ = references(tmp_path)
    for seed in (SEED, SEED + 1):
        made.prepare(seed)
        assert made.recheck_of(seed) is None


@pytest.mark.parametrize("recheck", [False, True])
def test_else_the_untuned_build_is_the_reference_and_that_is_said(recheck: bool, tmp_path: Path) -> None:
    made, builder, untuned = references(tmp_path, reason="no rule", recheck=recheck)
    made.prepare(SEED)
    found = made.of(SEED)
    assert found is not None and found.path.exists()
    assert found.dtype == TASK.workload.outputs[-1].dtype
    assert (made.source, made.unverified) == (Source.UNTUNED, "untuned build as reference: no rule")
    assert untuned.stored == ([SEED, SEED + 1] if recheck else [SEED])
    made.prepare(SEED + 1)
    assert len(builder.seeds) == 1, "what has no rule is not asked for again"
    assert untuned.stored == [SEED, SEED + 1]


def test_with_neither_there_is_nothing_to_check_against(tmp_path: Path) -> None:
    made, _, untuned = references(tmp_path, reason="no rule", failure="it hangs")
    for _ in range(3):
        made.prepare(SEED)
    assert made.of(SEED) is None
    assert (made.source, made.unverified) == (Source.NONE, "nothing to check against: it hangs")
    assert untuned.stored == [SEED], "it is not run again and again"
