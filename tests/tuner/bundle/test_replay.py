"""Recorded measurements in place of a GPU, in the suite that every bench for bundles passes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

import pytest

from tests.contracts.bench import BundleBenchContract
from tests.tuner.bundle import small
from tuner.bundle import Bundle
from tuner.bundle.measurements import FORMAT, Header, Row, Writer
from tuner.bundle.replay import BundleReplayBench
from tuner.errors import BundleError
from tuner.protocols import SCREEN, Job
from tuner.records import PROTOCOL_VERSION, Fidelity, Measurement, Status

DEVICE = "A GPU"


HEADER = Header(FORMAT, "0" * 64, "{}", "cold", PROTOCOL_VERSION, "cuda", (DEVICE,))


def recorded(path: Path, header: Header = HEADER, candidate: str = "one") -> Path:
    """One candidate, measured at each fidelity."""
    writer = Writer(path, header)
    for fidelity in Fidelity:
        measured = Measurement(Status.OK, (2e-3, 1e-3), fidelity)
        writer.add(Row(small.KEY, "", candidate, "random", 0, DEVICE, "2026-11-22", measured))
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

    def test_what_is_within_the_limit_in_one_sample_is_not_given_up(self, bench: BundleReplayBench, job: Job) -> None:
        kept = bench.measure(job, dataclasses.replace(SCREEN, give_up_above_s=1.5e-3))
        assert (kept.status, kept.samples_s) == (Status.OK, (2e-3, 1e-3))

    def test_the_device_and_the_times_are_those_of_the_file(self, bench: BundleReplayBench, job: Job) -> None:
        assert bench.device == DEVICE
        assert bench.measure(job, SCREEN).samples_s == (2e-3, 1e-3)


@pytest.mark.parametrize(
    ("target", "mode", "candidate", "words"),
    [
        ('{"kind":"cuda"}', "cold", "one", "and none of its kernels is in it"),
        ('{"kind":"opencl"}', "cold", '[0,[],""]', "for the target opencl; .*, for cuda"),
        ('{"kind":"cuda"}', "hot", '[0,[],""]', "for the mode hot; .*, for cold"),
    ],
)
def test_a_recording_of_another_bundle_is_refused_and_both_are_named(
    tmp_path: Path, target: str, mode: Literal["hot", "cold"], candidate: str, words: str
) -> None:
    header = Header(FORMAT, "5" * 64, target, mode, PROTOCOL_VERSION, "cuda", (DEVICE,))
    bench = BundleReplayBench(recorded(tmp_path / "m.jsonl", header, candidate))
    with Bundle(small.bundle(tmp_path / "b.tar")) as bundle:
        message = f"recorded of bundle 5{{12}}.*the bundle to measure is {bundle.sha256[:12]}.*"
        with pytest.raises(BundleError, match=message) as caught:
            bench.require(bundle)
    assert re.search(words, caught.value.message)
