"""Recorded measurements in place of a GPU, in the suite that every bench for bundles passes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.contracts.bench import BundleBenchContract
from tests.tuner.bundle import small
from tuner.bundle.measurements import FORMAT, Header, Row, Writer
from tuner.bundle.replay import BundleReplayBench
from tuner.protocols import SCREEN, Job
from tuner.records import PROTOCOL_VERSION, Fidelity, Measurement, Status

DEVICE = "A GPU"


def recorded(path: Path) -> Path:
    """One candidate, measured at each fidelity."""
    writer = Writer(path, Header(FORMAT, "0" * 64, "{}", "cold", PROTOCOL_VERSION, "cuda", (DEVICE,)))
    for fidelity in Fidelity:
        measured = Measurement(Status.OK, (1e-3, 2e-3), fidelity)
        writer.add(Row(small.KEY, "", "one", "random", 0, DEVICE, "2026-11-22", measured))
    writer.close()
    return path


class TestBench(BundleBenchContract):
    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, tmp_path_factory: pytest.TempPathFactory) -> BundleReplayBench:
        return BundleReplayBench(recorded(tmp_path_factory.mktemp("recorded") / "measurements.jsonl"))

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls) -> Job:
        return Job(small.KEY, "one", Path("nothing is loaded"), "entry", (), (), 0)

    @pytest.fixture(scope="class")
    @classmethod
    def broken(cls, job: Job) -> Job:
        return dataclasses.replace(job, candidate="not recorded")

    def test_the_device_and_the_times_are_those_of_the_file(self, bench: BundleReplayBench, job: Job) -> None:
        assert bench.device == DEVICE
        assert bench.measure(job, SCREEN).samples_s == (1e-3, 2e-3)
