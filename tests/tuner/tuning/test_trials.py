"""Candidates of one task: built, checked, timed, built again where their files are gone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from kernels.space import Candidate
from tests.null_device import FASTEST_S, Null, NullBench
from tests.tuner.tuning.on_null import BEST, UNTUNED, Scripted, failed, task_named
from tuner.errors import OutputError
from tuner.protocols import RANK, SCREEN, Artifact, BuildFailure, Job
from tuner.records import Fidelity, Measurement, Status
from tuner.tuning.trials import Trials, screening_policy

TASK = task_named()
SLOWEST = Candidate(0, (0, 0, 0))
SEED = 3


def never() -> bool:
    return False


class Setup:
    """Trials on a null device whose references are made."""

    def __init__(self, folder: Path, bench: NullBench | None = None, lower_bound_s: float = 0.0) -> None:
        self.device = Null(folder / "kernels")
        self.device.bench = bench or self.device.bench
        self.device.lower_bound_s = lambda task: lower_bound_s  # type: ignore[method-assign]
        self.device.builder.space(TASK, ())
        self.trials = Trials(TASK, UNTUNED, self.device, SEED, folder)
        self.trials.references.prepare(SEED)

    def measure(self, candidate: Candidate, **changes: Any) -> Measurement:
        [built] = self.trials.build([candidate], never).values()
        return self.trials.measure(candidate, built, dataclasses.replace(SCREEN, **changes), SEED)


def test_what_is_built_is_checked_and_timed(tmp_path: Path) -> None:
    bench = Scripted()
    measured = Setup(tmp_path, bench).measure(BEST)
    assert measured.median_s == pytest.approx(FASTEST_S, rel=1e-4)
    [(job, policy)] = bench.jobs
    assert (job.task, job.candidate, job.seed) == (TASK.key, BEST.to_text(), SEED)
    assert job.reference is not None and job.reference.path.exists()
    assert (job.recheck, policy) == (None, SCREEN)


def test_a_bench_that_checks_twice_gets_the_inputs_for_it(tmp_path: Path) -> None:
    class Rechecking(Scripted):
        rechecks = True

    bench = Rechecking()
    Setup(tmp_path, bench).measure(BEST)
    [(job, _)] = bench.jobs
    assert job.recheck is not None
    assert job.recheck[0] != job.seed


def test_the_untuned_program_is_never_given_up(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    assert setup.measure(SLOWEST, give_up_above_s=1e-6).status is Status.CENSORED
    assert setup.measure(UNTUNED, give_up_above_s=1e-6).ok


def test_a_build_that_failed_is_the_outcome(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    failure = BuildFailure(Status.BUILD_TIMEOUT, "not built within 3 s", 3.0)
    measured = setup.trials.measure(BEST, failure, RANK, SEED)
    assert (measured.status, measured.reason, measured.fidelity) == (
        Status.BUILD_TIMEOUT, "not built within 3 s", Fidelity.RANK,
    )  # fmt: skip
    assert setup.device.bench.measured == 0


def test_a_time_that_is_impossible_is_suspect(tmp_path: Path) -> None:
    setup = Setup(tmp_path, lower_bound_s=2 * FASTEST_S)
    assert setup.measure(BEST).status is Status.SUSPECT
    assert setup.measure(SLOWEST).ok


def test_inputs_without_a_reference_time_nothing(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    [built] = setup.trials.build([BEST], never).values()
    measured = setup.trials.measure(BEST, built, SCREEN, SEED + 7)
    assert measured.status is Status.RUN_FAILED
    assert "no reference" in measured.reason
    assert isinstance(setup.trials.job(BEST, built, Fidelity.SCREEN, SEED), Job)


def test_a_candidate_is_not_blamed_for_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path, Scripted({BEST: failed(Status.RUN_FAILED, "no space left on the device")}))
    assert setup.measure(BEST).status is Status.RUN_FAILED

    def full(folder: Path) -> None:
        raise OutputError(f"{folder}: nothing can be written there", "free some space")

    monkeypatch.setattr("tuner.tuning.trials.require_room", full)
    with pytest.raises(OutputError, match="nothing can be written"):
        setup.measure(BEST)
    assert setup.measure(SLOWEST).ok, "what did not fail does not ask"


def test_builds_that_stop_leaves_out_are_not_there(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    built = setup.trials.build([BEST, SLOWEST, UNTUNED], lambda: setup.device.builder.built >= 2)
    assert list(built) == [BEST, SLOWEST]


def test_what_is_gone_is_built_again_and_the_rest_is_not(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    for candidate in (BEST, SLOWEST):
        setup.measure(candidate)
    first, _ = setup.trials.rebuilt([BEST, SLOWEST], never)
    assert setup.device.builder.built == 2
    assert isinstance(first, Artifact)
    first.path.unlink()
    assert setup.trials.rebuilt([BEST, SLOWEST], never)[0] == first
    assert first.path.exists()
    assert setup.device.builder.built == 3
    assert setup.trials.rebuilt([SLOWEST, UNTUNED, BEST], lambda: True) == setup.trials.rebuilt([SLOWEST], never)


def test_only_the_fastest_files_and_the_untuned_one_are_kept(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    candidates = [UNTUNED, *(Candidate(0, (a, b, 5)) for a in range(4) for b in range(4))]
    screened = [(candidate, setup.measure(candidate)) for candidate in candidates]
    setup.trials.keep_fastest(screened)
    fastest = sorted(screened[1:], key=lambda pair: pair[1].median_s)[:8]
    built = setup.device.builder.built
    setup.trials.rebuilt([UNTUNED, *(candidate for candidate, _ in fastest)], never)
    assert setup.device.builder.built == built
    slowest = max(screened[1:], key=lambda pair: pair[1].median_s)[0]
    setup.trials.rebuilt([slowest], never)
    assert setup.device.builder.built == built + 1
    assert len(list((tmp_path / "kernels").iterdir())) == 10


def test_a_screening_gives_up_by_the_best_so_far() -> None:
    assert screening_policy(None, 3.0, 1.5) == SCREEN
    policy = screening_policy(2.0, 3.0, 1.5)
    assert (policy.give_up_above_s, policy.enough_above_s) == (6.0, 3.0)
