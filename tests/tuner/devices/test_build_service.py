"""The inside of a build worker, in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kernels.passes import PASSES
from kernels.space import DesignSpace
from tests.tuner.devices.test_builder import TARGET, matmul
from tuner.devices.build_service import SCHEDULES_KEPT, BuildService
from tuner.devices.cpu import CODEGEN
from tuner.protocols import Task

ENTRY = "tuned_kernel"


@pytest.fixture
def task() -> Task:
    return Task(matmul(), TARGET)


def service_of(folder: Path, task: Task) -> tuple[BuildService, list[str]]:
    """A service that is ready for a task, and six candidates."""
    service = BuildService(TARGET, CODEGEN, str(folder))
    workload = task.workload.to_json()
    space = service.op_space(workload, list(PASSES))
    service.op_load(workload, space)
    rng = np.random.default_rng(0)
    return service, [DesignSpace.from_json(space).sample(rng).to_text() for _ in range(6)]


def test_a_schedule_kept_from_the_features_builds_the_same(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, drawn = service_of(tmp_path, task)
    alone = [service.op_build(task.key, text, ENTRY).get("sha256") for text in drawn]
    vectors = service.op_features(task.key, drawn)
    with monkeypatch.context() as patch:
        patch.delattr("kernels.space.TraceApplier.apply")
        for text, vector, sha256 in zip(drawn, vectors, alone, strict=True):
            if vector is not None:
                assert service.op_build(task.key, text, ENTRY)["sha256"] == sha256
    assert any(alone)
    assert service.op_features(task.key, drawn) == vectors


def test_the_oldest_schedules_are_dropped(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    service, drawn = service_of(tmp_path, task)
    monkeypatch.setattr("tuner.devices.build_service.SCHEDULES_KEPT", 2)
    scheduled = [text for text, vector in zip(drawn, service.op_features(task.key, drawn), strict=True) if vector]
    assert SCHEDULES_KEPT > 2
    assert len(scheduled) > 2
    monkeypatch.delattr("kernels.space.TraceApplier.apply")
    for text in scheduled[-2:]:
        assert service.op_build(task.key, text, ENTRY)["sha256"]
    with pytest.raises(AttributeError):
        service.op_build(task.key, scheduled[0], ENTRY)


def test_a_candidate_that_does_not_apply_says_why(tmp_path: Path, task: Task) -> None:
    service, _ = service_of(tmp_path, task)
    answer = service.op_build(task.key, '[0,[[7,7,7,7]],""]', ENTRY)
    assert answer["status"] == "invalid"
    assert answer["reason"]
    assert not list(tmp_path.glob("*.o"))
