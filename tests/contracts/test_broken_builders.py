"""The suite notices a builder that breaks its promise: each is the null one with one thing wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.space import Candidate, DesignSpace
from tests.contracts.broken import CANDIDATES, TASK, Checks, failing
from tests.contracts.builder import BuilderContract
from tests.null_device import NullBuilder, space_of
from tuner.protocols import Artifact, BuildFailure, Reference, Stop, Task

Built = list[Artifact | BuildFailure]


class Backwards(NullBuilder):
    """The last candidate's build comes first."""

    def build(self, task: Task, candidates: Sequence[Candidate], stop: Stop = lambda: False) -> Built:
        return super().build(task, candidates, stop)[::-1]


class Deaf(NullBuilder):
    """Does not hear that it is to stop."""

    def build(self, task: Task, candidates: Sequence[Candidate], stop: Stop = lambda: False) -> Built:
        return super().build(task, candidates)


class Short(NullBuilder):
    """Its vectors lack a column."""

    def features(self, task: Task, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        return [None if v is None else v[1:] for v in super().features(task, candidates)]


class Confused(NullBuilder):
    """Its vectors are in an order of its own."""

    def features(self, task: Task, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        return super().features(task, sorted(candidates, key=Candidate.to_text))


class Unwritten(NullBuilder):
    """Names files that it did not write."""

    def reference(self, task: Task, seeds: Sequence[int], folder: Path) -> dict[int, Reference] | str:
        return {seed: Reference(folder / "nothing.npz", "float32", 1) for seed in seeds}


class OneSymbol(NullBuilder):
    """All kernels have one symbol."""

    def build(self, task: Task, candidates: Sequence[Candidate], stop: Stop = lambda: False) -> Built:
        built = super().build(task, candidates, stop)
        return [dataclasses.replace(b, entry="kernel") if isinstance(b, Artifact) else b for b in built]


class Forgetful(NullBuilder):
    """Its space is another one each time."""

    def space(self, task: Task, pass_names: Sequence[str]) -> DesignSpace:
        self.spaces = getattr(self, "spaces", 0) + 1
        super().space(task, pass_names)
        return space_of(self.spaces)


def builder_checks(builder: NullBuilder, folder: Path) -> Checks:
    """The suite's tests, as calls."""
    suite, space = BuilderContract(), builder.space(TASK, ())
    built = builder.build(TASK, CANDIDATES)
    return {
        "space": lambda: suite.test_the_space_of_a_task_is_always_the_same(builder, TASK, space),
        "columns": lambda: suite.test_a_feature_vector_has_a_number_for_each_column(builder, TASK, CANDIDATES),
        "order": lambda: suite.test_feature_vectors_come_in_the_order_of_the_candidates(builder, TASK, CANDIDATES),
        "builds": lambda: suite.test_each_build_is_an_artifact_or_says_why_not(CANDIDATES, built),
        "beside": lambda: suite.test_the_same_candidate_is_built_the_same_whatever_is_built_beside_it(
            builder, TASK, CANDIDATES, built
        ),
        "stop": lambda: suite.test_no_build_is_begun_once_it_is_stopped(None, builder, TASK, CANDIDATES),
        "first": lambda: suite.test_a_stopped_list_is_that_of_the_first_candidates(builder, TASK, CANDIDATES, built),
        "references": lambda: suite.test_references_are_files_with_the_shapes_of_the_outputs(
            builder, TASK, space, folder
        ),
    }


@pytest.mark.parametrize(
    ("kind", "noticed"),
    [
        (NullBuilder, set()),
        (Backwards, {"beside", "first"}),
        (Deaf, {"stop", "first"}),
        (Short, {"columns"}),
        (Confused, {"order"}),
        (Unwritten, {"references"}),
        (OneSymbol, {"builds"}),
        (Forgetful, {"space"}),
    ],
)
def test_a_broken_builder_is_noticed(kind: type[NullBuilder], noticed: set[str], tmp_path: Path) -> None:
    assert failing(builder_checks(kind(tmp_path / "built"), tmp_path)) == noticed
