"""What every Builder promises: subclass `BuilderContract`, or `CompilerContract` where a build can fail."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from kernels.space import Candidate, DesignSpace
from tuner.protocols import Artifact, Builder, BuildFailure, Task
from tuner.records import Status

FAILURES = {Status.INVALID, Status.BUILD_FAILED, Status.BUILD_TIMEOUT}


class BuilderContract:
    """Fixtures: a `builder`, fresh for the class, and a `task` that it takes.

    `writes_files` is False where a build leaves no file. `compiles` skips where nothing here builds for the target.
    """

    writes_files = True

    @pytest.fixture(scope="class")
    @classmethod
    def builder(cls) -> Builder:
        raise NotImplementedError("the implementation's test module provides the builder")

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        raise NotImplementedError("the implementation's test module provides the task")

    @pytest.fixture(scope="class")
    @classmethod
    def compiles(cls) -> None:
        """Nothing is missing."""

    @pytest.fixture(scope="class")
    @classmethod
    def space(cls, builder: Builder, task: Task) -> DesignSpace:
        return builder.space(task, ())

    @pytest.fixture(scope="class")
    @classmethod
    def candidates(cls, space: DesignSpace) -> list[Candidate]:
        """Four different ones: the untuned program, then what is tried first, then random ones."""
        rng = np.random.default_rng(0)
        drawn = [space.sample(rng) for _ in range(20)]
        return list(dict.fromkeys([space.default(), *space.initial_candidates(2), *drawn]))[:4]

    @pytest.fixture(scope="class")
    @classmethod
    def built(
        cls, compiles: None, builder: Builder, task: Task, candidates: list[Candidate]
    ) -> list[Artifact | BuildFailure]:
        return builder.build(task, candidates)

    def test_the_space_of_a_task_is_always_the_same(self, builder: Builder, task: Task, space: DesignSpace) -> None:
        assert builder.space(task, ()).to_json() == space.to_json()

    def test_what_the_space_proposes_is_in_it(self, space: DesignSpace, candidates: list[Candidate]) -> None:
        assert len(candidates) == 4
        for candidate in candidates:
            assert space.contains(candidate)
            assert space.legal(candidate)
            assert Candidate.from_text(candidate.to_text()) == candidate

    def test_columns_have_different_names(self, builder: Builder) -> None:
        assert len(set(builder.columns)) == len(builder.columns) > 0
        assert builder.schema

    def test_a_feature_vector_has_a_number_for_each_column(
        self, builder: Builder, task: Task, candidates: list[Candidate]
    ) -> None:
        vectors = builder.features(task, candidates)
        assert len(vectors) == len(candidates)
        known = [vector for vector in vectors if vector is not None]
        assert len({vector.tobytes() for vector in known}) > 1, "different candidates look alike"
        for vector in known:
            assert vector.dtype == np.float32
            assert vector.shape == (len(builder.columns),)
            assert np.isfinite(vector).all()

    def test_feature_vectors_come_in_the_order_of_the_candidates(
        self, builder: Builder, task: Task, candidates: list[Candidate]
    ) -> None:
        vectors, reversed_ = builder.features(task, candidates), builder.features(task, candidates[::-1])
        for one, other in zip(vectors, reversed_[::-1], strict=True):
            assert (one is None) == (other is None)
            assert one is None or np.array_equal(one, other)  # type: ignore[arg-type]
        assert builder.features(task, []) == []

    def test_each_build_is_an_artifact_or_says_why_not(
        self, candidates: list[Candidate], built: list[Artifact | BuildFailure]
    ) -> None:
        assert len(built) == len(candidates)
        for one in built:
            assert 0.0 <= one.build_s < math.inf
            if isinstance(one, BuildFailure):
                assert one.status in FAILURES
                assert one.reason
            else:
                assert one.path.is_file() == self.writes_files
        artifacts = [one for one in built if isinstance(one, Artifact)]
        assert artifacts
        assert len({artifact.entry for artifact in artifacts}) == len(artifacts), "two kernels share a symbol"

    def test_the_same_candidate_is_built_the_same_whatever_is_built_beside_it(
        self, builder: Builder, task: Task, candidates: list[Candidate], built: list[Artifact | BuildFailure]
    ) -> None:
        [alone] = builder.build(task, candidates[-1:])
        assert _identity(alone) == _identity(built[-1])
        assert builder.build(task, []) == []

    def test_no_build_is_begun_once_it_is_stopped(
        self, compiles: None, builder: Builder, task: Task, candidates: list[Candidate]
    ) -> None:
        assert builder.build(task, candidates, lambda: True) == []

    def test_a_stopped_list_is_that_of_the_first_candidates(
        self, builder: Builder, task: Task, candidates: list[Candidate], built: list[Artifact | BuildFailure]
    ) -> None:
        whole = [_identity(one) for one in built]
        asked = itertools.count(1)
        stopped = [_identity(one) for one in builder.build(task, candidates, lambda: next(asked) > 2)]
        assert len(stopped) < len(whole)
        assert stopped == whole[: len(stopped)]

    def test_references_are_files_with_the_shapes_of_the_outputs(
        self, builder: Builder, task: Task, space: DesignSpace, tmp_path: Path
    ) -> None:
        found = builder.reference(task, [3, 4], tmp_path)
        if isinstance(found, str):
            assert found, "there is no reference, and nothing says why"
            return
        assert set(found) == {3, 4}
        expected = [(spec.shape, spec.dtype) for spec in task.workload.outputs]
        for reference in found.values():
            assert reference.path.parent == tmp_path
            assert reference.reduction >= 1
            np.dtype(reference.dtype)
            with np.load(reference.path, allow_pickle=False) as stored:
                assert [(stored[name].shape, str(stored[name].dtype)) for name in stored.files] == expected

    def test_it_may_be_closed_twice(self, builder: Builder) -> None:
        builder.close()
        builder.close()


class CompilerContract(BuilderContract):
    """As well: `hopeless` is a candidate that cannot be scheduled."""

    @pytest.fixture(scope="class")
    @classmethod
    def hopeless(cls, space: DesignSpace) -> Candidate:
        raise NotImplementedError("the implementation's test module provides a candidate that cannot be scheduled")

    def test_what_cannot_be_scheduled_has_no_feature_vector(
        self, builder: Builder, task: Task, space: DesignSpace, hopeless: Candidate
    ) -> None:
        none, vector = builder.features(task, [hopeless, space.default()])
        assert none is None
        assert vector is not None

    def test_a_failed_build_does_not_affect_the_next(
        self, compiles: None, builder: Builder, task: Task, space: DesignSpace, hopeless: Candidate
    ) -> None:
        failed, built = builder.build(task, [hopeless, space.default()])
        assert isinstance(failed, BuildFailure)
        assert failed.status is Status.INVALID
        assert failed.reason
        assert isinstance(built, Artifact)


def _identity(built: Artifact | BuildFailure) -> tuple[str, str] | tuple[Status, str]:
    """What must be the same each time; seconds are not."""
    return (built.entry, built.sha256) if isinstance(built, Artifact) else (built.status, built.reason)
