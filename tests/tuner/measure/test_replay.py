"""Recorded measurements stand in for timing, exactly; a damaged recording is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kernels.tensors import TensorSpec
from tests.contracts.bench import BenchContract
from tests.contracts.runner import RunnerContract, Toy
from tuner.devices.cpu.runner import CpuRunner
from tuner.errors import InfrastructureError
from tuner.measure.replay import Recording, ReplayBench, ReplayRunner
from tuner.protocols import RANK, SCREEN, Bench, Job, Launchable, Policy, Runner
from tuner.records import Conditions, Fidelity, Measurement, Status


class RecordThenReplay:
    """Times once without a limit, and answers with the replay of that."""

    def run(self, launchable: Launchable, inputs: Sequence[Any], policy: Policy) -> Measurement:
        recorded = CpuRunner().run(launchable, inputs, policy)
        recording = Recording({(launchable.key, policy.fidelity): recorded})
        replayed = ReplayRunner(recording).run(launchable, inputs, policy)
        assert replayed == recorded
        return replayed


class TestContract(RunnerContract):
    @pytest.fixture
    def runner(self) -> Runner:
        return RecordThenReplay()


FAST = Measurement(
    Status.OK, (1e-3, 2e-3, 3e-3), Fidelity.SCREEN, "enough", run_s=0.5, conditions=Conditions(cost_s=0.25)
)
FAILED = Measurement(Status.WRONG_RESULT, fidelity=Fidelity.RANK, reason="off by 2")
RECORDING = Recording({("toy", Fidelity.SCREEN): FAST, ("toy", Fidelity.RANK): FAILED}, {"peak_flops_per_s": 1e11})


def test_nothing_is_launched() -> None:
    toy = Toy()
    assert ReplayRunner(RECORDING).run(toy, [], SCREEN) == FAST
    assert ReplayRunner(RECORDING).run(toy, [], RANK) == FAILED
    assert toy.launches == []


def test_a_replay_is_given_up_like_a_run() -> None:
    policy = Policy(Fidelity.SCREEN, 3, 0.02, 1.0, 0.0, give_up_above_s=0.5e-3)
    found = ReplayRunner(RECORDING).run(Toy(), [], policy)
    assert found.status is Status.CENSORED
    assert found.censored_at_s == 0.5e-3
    assert found.conditions == FAST.conditions


def test_one_lost_time_slice_does_not_condemn_a_replay() -> None:
    policy = Policy(Fidelity.SCREEN, 3, 0.02, 1.0, 0.0, give_up_above_s=0.5e-3)
    hiccup = Measurement(Status.OK, (1e-3, 0.4e-3, 0.4e-3), Fidelity.SCREEN)
    assert ReplayRunner(Recording({("toy", Fidelity.SCREEN): hiccup})).run(Toy(), [], policy) == hiccup


def test_what_was_not_recorded_is_a_failure_or_is_timed() -> None:
    other = Toy(key="other")
    found = ReplayRunner(RECORDING).run(other, [], SCREEN)
    assert found.status is Status.RUN_FAILED
    assert "other" in found.reason
    assert ReplayRunner(RECORDING, CpuRunner()).run(other, [], SCREEN).ok
    assert other.launches


def test_a_recording_comes_back_whole(tmp_path: Path) -> None:
    RECORDING.save(tmp_path / "recording.json")
    assert Recording.load(tmp_path / "recording.json") == RECORDING


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b'{"schema": 2}', b"\xff", b"[" * 100_000,
        json.dumps({"schema": 1, "ceilings": {}, "measurements": [["toy", "screen", {"status": "ok"}]]}).encode(),
        json.dumps({"schema": 1, "ceilings": {}, "measurements": [["toy", "someday", {}]]}).encode(),
    ],
)  # fmt: skip
def test_a_damaged_recording_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recording.json"
    path.write_bytes(content)
    with pytest.raises(InfrastructureError, match=r"recording\.json"):
        Recording.load(path)


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"none\.json"):
        Recording.load(tmp_path / "none.json")


def job_named(entry: str) -> Job:
    spec = TensorSpec((2, 3), "float32")
    return Job("task", entry, Path("nothing is loaded"), entry, (spec,), (spec,), 0)


class TestBench(BenchContract):
    """Of a kernel's symbol; there is nothing to interleave."""

    interleaves = False

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Bench:
        names, samples = ("one", "other"), (1e-3, 2e-3, 3e-3)
        return ReplayBench(Recording({(n, f): Measurement(Status.OK, samples, f) for n in names for f in Fidelity}))

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls) -> Job:
        return job_named("one")

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls) -> Job:
        return job_named("other")

    @pytest.fixture(scope="class")
    @classmethod
    def broken(cls) -> Job:
        return job_named("not recorded")
