"""Build workers: real builds, reasons for failures, timeouts that hurt only the culprit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tvm import te

from kernels.passes import PASSES, PassConfig
from kernels.passes.fast_math import FastMath
from kernels.passes.llvm_opt import LlvmOpt
from kernels.space import Candidate, DesignSpace
from kernels.workload import Workload, from_prim_func
from tuner.devices.builder import LocalBuilder, entry_of
from tuner.devices.cpu import CODEGEN
from tuner.protocols import Artifact, BuildFailure, Task
from tuner.records import Status

TARGET = json.dumps({"kind": "llvm", "num-cores": 2})


def matmul(n: int = 64) -> Workload:
    a, b = te.placeholder((n, n), name="a"), te.placeholder((n, n), name="b")
    k = te.reduce_axis((0, n), "k")
    c = te.compute((n, n), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    return from_prim_func(te.create_prim_func([a, b, c]), "matmul")


@pytest.fixture
def task() -> Task:
    return Task(matmul(), TARGET)


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[LocalBuilder]:
    made = LocalBuilder(TARGET, CODEGEN, tmp_path / "built", workers=2, timeout_s=60)
    yield made
    made.close()


@pytest.fixture
def space(builder: LocalBuilder, task: Task) -> DesignSpace:
    return builder.space(task, tuple(PASSES))


def test_builds_in_order_with_honest_hashes(builder: LocalBuilder, task: Task, space: DesignSpace) -> None:
    candidates = [space.default(), *space.initial_candidates()[:5]]
    built = builder.build(task, candidates)
    assert len(built) == len(candidates)
    for candidate, artifact in zip(candidates, built, strict=True):
        assert isinstance(artifact, Artifact)
        assert artifact.entry == entry_of(task.key, candidate)
        assert artifact.path.exists()
        assert hashlib.sha256(artifact.path.with_suffix(".o").read_bytes()).hexdigest() == artifact.sha256


def test_passes_reach_the_compiler(builder: LocalBuilder, task: Task, space: DesignSpace) -> None:
    seed = space.initial_candidates()[0]
    fast = Candidate(seed.sketch, seed.decisions, PassConfig().replace(FastMath(True)))
    slow = Candidate(seed.sketch, seed.decisions, PassConfig().replace(LlvmOpt(1)))
    plain, *others = (b.sha256 for b in builder.build(task, [seed, fast, slow]) if isinstance(b, Artifact))
    assert all(other != plain for other in others)


def test_a_candidate_that_does_not_apply_is_invalid(builder: LocalBuilder, task: Task, space: DesignSpace) -> None:
    seed = space.initial_candidates()[0]
    broken = Candidate(seed.sketch, tuple((7, 7, 7, 7) if isinstance(d, tuple) else d for d in seed.decisions))
    bad, good = builder.build(task, [broken, seed])
    assert isinstance(bad, BuildFailure)
    assert bad.status is Status.INVALID
    assert bad.reason
    assert isinstance(good, Artifact)


def test_a_build_that_takes_too_long_is_a_status(tmp_path: Path, task: Task) -> None:
    builder = LocalBuilder(TARGET, CODEGEN, tmp_path / "built", workers=1, timeout_s=60)
    try:
        space = builder.space(task, tuple(PASSES))
        [fine] = builder.build(task, space.initial_candidates()[:1])
        assert isinstance(fine, Artifact)
        builder.timeout_s = 0.001
        [late] = builder.build(task, space.initial_candidates()[1:2])
        assert isinstance(late, BuildFailure)
        assert late.status is Status.BUILD_TIMEOUT
        builder.timeout_s = 60
        [again] = builder.build(task, space.initial_candidates()[2:3])
        assert isinstance(again, Artifact)
    finally:
        builder.close()


def test_nothing_starts_after_the_deadline(builder: LocalBuilder, task: Task, space: DesignSpace) -> None:
    assert builder.build(task, space.initial_candidates()[:3], lambda: True) == []


def test_features_and_references(builder: LocalBuilder, task: Task, space: DesignSpace, tmp_path: Path) -> None:
    rows = builder.features(task, [space.default(), *space.initial_candidates()[:6]])
    assert all(row is not None and np.isfinite(row).all() for row in rows)
    references = builder.reference(task, [1, 2], tmp_path)
    assert not isinstance(references, str)
    assert (references[1].dtype, references[1].reduction) == ("float32", 64)
    from kernels.workload import seeded_inputs

    a, b = seeded_inputs(task.workload.inputs, 1)
    with np.load(references[1].path, allow_pickle=False) as stored:
        np.testing.assert_allclose(stored["arr_0"], a.astype(np.float64) @ b.astype(np.float64), rtol=1e-5, atol=1e-5)
