"""What every Runner promises. Subclass `RunnerContract` and give it a `runner` fixture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tuner.protocols import CERTIFY, RANK, SCREEN, Policy, Runner
from tuner.records import Fidelity, Status


@dataclass
class Toy:
    """A launchable that takes `call_s` seconds a call and counts what is asked of it."""

    call_s: float = 0.0005
    key: str = "toy"
    launches: list[int] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)

    def prepare(self, inputs: Sequence[Any]) -> Toy:
        self.inputs = list(inputs)
        return self

    def launch(self, count: int) -> None:
        self.launches.append(count)
        deadline = time.perf_counter() + self.call_s * count
        while time.perf_counter() < deadline:  # busy, as a kernel is
            pass

    def outputs(self) -> list[Any]:
        return [sum(self.inputs)]


class Broken(Toy):
    """Fails when it is launched."""

    def launch(self, count: int) -> None:
        raise RuntimeError("no such instruction")


class RunnerContract:
    """Every implementation passes these."""

    @pytest.fixture
    def runner(self) -> Runner:
        raise NotImplementedError("give the implementation under test")

    @pytest.mark.parametrize("policy", [SCREEN, RANK], ids=lambda policy: str(policy.fidelity))
    def test_ok_has_enough_samples_of_the_right_size(self, runner: Runner, policy: Policy) -> None:
        toy = Toy()
        measured = runner.run(toy, [np.ones(3)], policy)
        assert measured.status is Status.OK
        assert measured.fidelity is policy.fidelity
        assert len(measured.samples_s) >= policy.min_samples
        assert measured.stopped_by
        assert toy.call_s <= measured.median_s < 4 * toy.call_s  # the machine may be busy, never faster
        assert measured.run_s >= policy.min_time_s

    def test_the_first_call_is_not_timed(self, runner: Runner) -> None:
        class SlowStart(Toy):
            def launch(self, count: int) -> None:
                if not self.launches:
                    time.sleep(0.2)
                super().launch(count)

        assert max(runner.run(SlowStart(), [], SCREEN).samples_s) < 0.2

    def test_too_slow_is_censored_at_the_threshold_and_timed_no_further(self, runner: Runner) -> None:
        toy = Toy(call_s=0.02)
        policy = Policy(Fidelity.SCREEN, 3, 0.02, 1.0, 0.0, give_up_above_s=0.005)
        measured = runner.run(toy, [], policy)
        assert measured.status is Status.CENSORED
        assert measured.censored_at_s == 0.005
        assert sum(toy.launches) <= 3

    def test_fast_enough_is_not_censored(self, runner: Runner) -> None:
        policy = Policy(Fidelity.SCREEN, 3, 0.02, 1.0, 0.0, give_up_above_s=0.5)
        assert runner.run(Toy(), [], policy).ok

    def test_the_time_limit_holds_for_slow_calls(self, runner: Runner) -> None:
        policy = Policy(Fidelity.CERTIFY, 1000, 1000.0, 0.2, CERTIFY.half_width)
        began = time.perf_counter()
        measured = runner.run(Toy(call_s=0.03), [], policy)
        assert measured.ok
        assert time.perf_counter() - began < 2.0
        assert len(measured.samples_s) < 20

    def test_inputs_reach_the_launchable_unchanged(self, runner: Runner) -> None:
        toy, given = Toy(), np.arange(4.0)
        runner.run(toy, [given], SCREEN)
        assert toy.inputs[0] is given
        assert np.array_equal(given, np.arange(4.0))

    def test_an_error_of_the_launchable_is_not_swallowed(self, runner: Runner) -> None:
        with pytest.raises(RuntimeError, match="no such instruction"):
            runner.run(Broken(), [], SCREEN)
