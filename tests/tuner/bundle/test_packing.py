"""The bench of a bundle, in the suite that every bench passes, and what it keeps of what was built."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from kernels.tensors import TensorSpec
from tests.contracts.bench import BenchContract
from tests.tuner.bundle import small
from tuner.bundle.packing import PackingBench
from tuner.protocols import SCREEN, Bench, Job
from tuner.records import Status

SPEC = TensorSpec(small.SHAPE, "float32")


def job_in(folder: Path, candidate: str = "one", content: bytes = b"\x7fELF 1") -> Job:
    path = folder / candidate
    path.write_bytes(content)
    return Job(small.KEY, candidate, path, "entry", (SPEC,), (SPEC,), 0, resources={"plan": small.plan(), "bytes": 6})


class TestBench(BenchContract):
    outcome = Status.DEFERRED
    interleaves = False
    gives_up = False

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Bench:
        return PackingBench()

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        return job_in(tmp_path_factory.mktemp("packed"))

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        return job_in(tmp_path_factory.mktemp("packed"), "other", b"\x7fELF 2")

    @pytest.fixture(scope="class")
    @classmethod
    def broken(cls, job: Job) -> Job:
        return dataclasses.replace(job, path=job.path.with_name("nothing"))


def test_a_kernel_is_kept_with_its_plan_and_its_usage(tmp_path: Path) -> None:
    bench, job = PackingBench(), job_in(tmp_path)
    bench.measure(job, SCREEN)
    kernel = bench.kernels[small.KEY]["one"]
    assert kernel.digest == hashlib.sha256(b"\x7fELF 1").hexdigest()
    assert (kernel.plan, kernel.usage) == (small.plan(), {"bytes": 6})
    assert bench.blobs == {kernel.digest: b"\x7fELF 1"}


def test_the_same_code_again_counts_once(tmp_path: Path) -> None:
    bench = PackingBench()
    counts = []
    for candidate, content in (("a", b"1"), ("b", b"1"), ("c", b"1"), ("d", b"2")):
        bench.measure(job_in(tmp_path, candidate, content), SCREEN)
        counts.append((bench.packed(small.KEY), bench.since_new(small.KEY)))
    assert counts == [(1, 0), (1, 1), (1, 2), (2, 0)]
    assert (bench.packed("another task"), bench.since_new("another task")) == (0, 0)
