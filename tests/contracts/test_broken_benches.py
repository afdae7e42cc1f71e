"""The suite notices a bench that breaks its promise: each is the null one with one thing wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.contracts.bench import BenchContract
from tests.contracts.broken import CANDIDATES, TASK, Checks, failing
from tests.null_device import NullBench, NullBuilder
from tuner.protocols import SCREEN, AaControl, Artifact, Job, Policy, job_of
from tuner.records import Measurement


class Silent(NullBench):
    """Gives no reasons."""

    def measure(self, job: Job, policy: Policy) -> Measurement:
        return dataclasses.replace(super().measure(job, policy), reason="")


class Raising(NullBench):
    """Does not catch what goes wrong with a kernel."""

    def measure(self, job: Job, policy: Policy) -> Measurement:
        job.path.read_bytes()
        return super().measure(job, policy)


class Patient(NullBench):
    """Does not give up."""

    def measure(self, job: Job, policy: Policy) -> Measurement:
        return super().measure(job, dataclasses.replace(policy, give_up_above_s=None))


class OneFidelity(NullBench):
    """Screens, whatever it is asked for."""

    def measure(self, job: Job, policy: Policy) -> Measurement:
        return super().measure(job, dataclasses.replace(policy, fidelity=SCREEN.fidelity))


class Blaming(NullBench):
    """All of those that are interleaved with a broken one fail."""

    def measure_interleaved(
        self, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], AaControl | None]:
        measured, control = super().measure_interleaved(jobs, policy, budget_s, seed)
        failed = [m for m in measured if not m.ok]
        return (failed[:1] * len(measured), None) if failed else (measured, control)


class Uncontrolled(NullBench):
    """Leaves the A/A control out."""

    def measure_interleaved(
        self, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], AaControl | None]:
        return super().measure_interleaved(jobs, policy, budget_s, seed)[0], None


class Pretending(NullBench):
    """Says that it stored outputs."""

    def store_outputs(self, job: Job, path: Path) -> str | None:
        return None


def bench_checks(bench: NullBench, folder: Path) -> Checks:
    suite, builder = BenchContract(), NullBuilder(folder / "built")
    references = builder.reference(TASK, [0], folder)
    assert not isinstance(references, str)
    jobs = []
    for candidate, built in zip(CANDIDATES[1:3], builder.build(TASK, CANDIDATES[1:3]), strict=True):
        assert isinstance(built, Artifact)
        jobs.append(job_of(TASK, candidate, built, 0, references[0]))
    job, other = jobs
    broken = dataclasses.replace(job, path=folder / "nothing")
    rank = dataclasses.replace(SCREEN, fidelity=type(SCREEN.fidelity).RANK)
    return {
        "good": lambda: suite.test_a_good_job_is_measured_at_the_fidelity_asked_for(bench, job, rank),
        "broken": lambda: suite.test_a_broken_job_is_a_status_and_does_not_affect_the_next(bench, job, broken),
        "slow": lambda: suite.test_what_is_too_slow_is_given_up(bench, job),
        "interleaved": lambda: suite.test_interleaved_jobs_have_a_measurement_each_in_their_order(
            bench, job, other, broken
        ),
        "control": lambda: suite.test_the_control_is_of_the_rounds_of_the_others(bench, job, other),
        "outputs": lambda: suite.test_outputs_are_stored_with_their_shapes_or_there_is_a_reason(
            bench, job, broken, folder
        ),
    }


@pytest.mark.parametrize(
    ("kind", "noticed"),
    [
        (NullBench, set()),
        (Silent, {"broken", "interleaved"}),
        (Raising, {"broken", "interleaved"}),
        (Patient, {"slow"}),
        (OneFidelity, {"good", "interleaved"}),
        (Blaming, {"interleaved"}),
        (Uncontrolled, {"control"}),
        (Pretending, {"outputs"}),
    ],
)
def test_a_broken_bench_is_noticed(kind: type[NullBench], noticed: set[str], tmp_path: Path) -> None:
    assert failing(bench_checks(kind(), tmp_path)) == noticed
