"""The CPU runner and its clock."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.contracts.runner import RunnerContract, Toy
from tuner.devices.cpu.runner import OVERHEAD_SHARE, CpuRunner, clock
from tuner.protocols import RANK, SCREEN, Policy, Runner
from tuner.records import Fidelity


class TestCpuRunner(RunnerContract):
    @pytest.fixture
    def runner(self) -> Runner:
        return CpuRunner()


class TestRunnerAsInTheModel(RunnerContract):
    @pytest.fixture
    def runner(self) -> Runner:
        return CpuRunner("model")


class TestColdRunner(RunnerContract):
    @pytest.fixture
    def runner(self) -> Runner:
        return CpuRunner("cold")


def test_blocks_are_long_enough_and_the_clock_is_negligible() -> None:
    policy = Policy(Fidelity.SCREEN, 3, 0.02, 1.0, 0.0, block_s=0.004)
    measured = CpuRunner().run(Toy(call_s=0.0002), [], policy)
    calls = measured.conditions.details["calls_per_block"]
    assert calls * measured.median_s >= policy.block_s
    assert measured.conditions.details["clock_share"] <= OVERHEAD_SHARE


def test_a_nearly_free_call_still_gets_a_block_that_dwarfs_the_clock() -> None:
    class Free(Toy):
        def launch(self, count: int) -> None:
            for _ in itertools.repeat(None, count):
                pass

    measured = CpuRunner().run(Free(), [], Policy(Fidelity.SCREEN, 3, 0.0, 1.0, 0.0, block_s=1e-9))
    assert measured.conditions.details["clock_share"] <= 2 * OVERHEAD_SHARE  # the block grew; later ones vary a little


def test_cold_mode_times_single_calls() -> None:
    toy = Toy()
    measured = CpuRunner("cold").run(toy, [], SCREEN)
    assert set(toy.launches) == {1}
    assert measured.conditions.details["mode"] == "cold"


def test_conditions_say_what_happened() -> None:
    measured = CpuRunner().run(Toy(), [], RANK)
    conditions = measured.conditions.details
    assert 0 < conditions["cpu_s"] <= 1.2 * conditions["wall_s"] + 0.05  # one busy thread
    assert conditions["involuntary_switches"] >= conditions["samples_preempted"] >= conditions["samples_dropped"] >= 0


def test_warm_up_is_not_sampled() -> None:
    began = time.perf_counter()
    policy = Policy(Fidelity.SCREEN, 1, 0.0, 1.0, 0.0, warmup_s=0.1)
    measured = CpuRunner().run(Toy(), [], policy)
    assert time.perf_counter() - began >= 0.1
    assert sum(measured.samples_s) * measured.conditions.details["calls_per_block"] < 0.1


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="lukewarm"):
        CpuRunner("lukewarm")


def test_the_clock_is_calibrated_once_and_sane() -> None:
    assert clock() is clock()
    assert 0 < clock().resolution_s <= 1e-3
    assert 0 <= clock().empty_s < 1e-3
