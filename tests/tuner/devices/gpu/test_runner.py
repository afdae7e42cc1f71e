"""The rules of timing on a GPU, on a simulated one: a stream with its own clock, and a host that is slow to launch.

What the driver does is simulated here, the rules are the real ones. The real driver's side is in test_driver.py.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from tuner.devices.cuda.nvml import GpuState
from tuner.devices.gpu.runner import SHORT_S, GpuRunner, Timing, exclusion_reason, lower_bound_s
from tuner.measure.stats import LEAST_ROUNDS, noise_floor, verdict
from tuner.protocols import CERTIFY, RANK, SCREEN, Array, Policy
from tuner.records import Fidelity, Label, Status


@dataclass
class SimulatedGpu:
    """Times in seconds. `host` and `device` are two clocks: work begins when both the stream and the host got there."""

    launch_s: float = 8e-6
    l2_bytes: int = 1 << 20
    memory: int = 1 << 30
    host: float = 0.0
    device: float = 0.0
    flushed: bool = False
    flushes: int = 0
    events: list[str] = field(default_factory=list)

    def put(self, seconds: float) -> None:
        self.host += self.launch_s
        self.device = max(self.device, self.host) + seconds

    def flush(self) -> None:
        self.put(20e-6)
        self.flushed = True
        self.flushes += 1

    def hold(self, seconds: float) -> None:
        self.put(seconds)

    def time(self, work: Callable[[], None]) -> Timing:
        began_host, began_device = self.host, max(self.device, self.host)
        work()
        timing = Timing(max(self.device, self.host) - began_device, self.host - began_host)
        self.host = max(self.device, self.host)
        self.flushed = False
        return timing

    def synchronize(self) -> None:
        self.host = max(self.host, self.device)

    def free_bytes(self) -> int:
        return self.memory


@dataclass
class Kernel:
    """Takes `call_s`, and twice that when its data is in no cache. Counts what is asked of it."""

    gpu: SimulatedGpu
    call_s: float = 50e-6
    nbytes: int = 1 << 16
    noise: float = 0.0
    asked: int = 1
    used: set[int] = field(default_factory=set)
    cold: list[bool] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def prepare(self, inputs: Sequence[Array]) -> Kernel:
        return self

    def copies(self, count: int) -> None:
        self.asked = max(self.asked, count)

    def enqueue(self, copy: int) -> None:
        assert copy < self.asked
        self.used.add(copy)
        self.cold.append(self.gpu.flushed)
        self.gpu.put(self.call_s * (1 + self.noise * self.rng.random()))


def runner(gpu: SimulatedGpu, mode: str = "cold", readings: Sequence[GpuState | None] = (None,)) -> GpuRunner:
    left = list(readings)
    return GpuRunner(gpu, mode, lambda: left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.parametrize("mode", ["cold", "hot"])
@pytest.mark.parametrize("call_s", [2e-6, 9e-6, 11e-6, 50e-6, 3e-3])
@pytest.mark.parametrize("launch_s", [1e-6, 8e-6, 60e-6])
def test_no_launch_of_the_host_is_in_the_time(mode: str, call_s: float, launch_s: float) -> None:
    gpu = SimulatedGpu(launch_s=launch_s)
    measured = runner(gpu, mode).run(Kernel(gpu, call_s), [], SCREEN)
    assert measured.status is Status.OK
    # A host that takes 60 us a launch cannot fill a batch of 2 us calls in time: it is said, not hidden.
    if not measured.conditions.details["launch_bound"]:
        assert measured.median_s == pytest.approx(call_s, rel=0.01)
    else:
        assert (call_s, launch_s) in {(2e-6, 60e-6), (9e-6, 60e-6), (11e-6, 60e-6), (50e-6, 60e-6)}


def test_without_the_hold_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimulatedGpu()
    monkeypatch.setattr(gpu, "hold", lambda seconds: None)
    monkeypatch.setattr(gpu, "flush", lambda: None)
    measured = runner(gpu).run(Kernel(gpu, 50e-6), [], SCREEN)
    assert measured.median_s == pytest.approx(58e-6, rel=0.01)


def test_each_cold_sample_of_a_long_kernel_is_one_flushed_call() -> None:
    gpu = SimulatedGpu()
    kernel = Kernel(gpu, 50e-6)
    measured = runner(gpu).run(kernel, [], RANK)
    assert measured.conditions.details["calls_per_sample"] == 1
    timed = kernel.cold[-len(measured.samples_s) :]
    assert all(timed)
    assert gpu.flushes >= len(measured.samples_s)


def test_short_kernels_are_timed_in_batches_over_copies_that_no_cache_holds() -> None:
    gpu = SimulatedGpu()
    kernel = Kernel(gpu, 3e-6, nbytes=1 << 17)
    conditions = runner(gpu).run(kernel, [], SCREEN).conditions.details
    assert SHORT_S > 3e-6
    assert conditions["calls_per_sample"] == 67  # 200 us
    assert conditions["copies"] == 5 * 8 + 1
    assert kernel.used == set(range(41))


def test_copies_leave_most_of_the_memory_alone() -> None:
    gpu = SimulatedGpu(memory=1 << 20)
    assert runner(gpu).run(Kernel(gpu, 3e-6, nbytes=1 << 16), [], SCREEN).conditions.details["copies"] == 4


def test_hot_batches_stay_on_the_same_buffers_and_flush_nothing() -> None:
    gpu = SimulatedGpu()
    kernel = Kernel(gpu, 50e-6)
    assert runner(gpu, "hot").run(kernel, [], SCREEN).ok
    assert (gpu.flushes, kernel.used) == (0, {0})


def test_a_hopeless_first_sample_is_censored_without_a_warm_up() -> None:
    gpu = SimulatedGpu()
    kernel = Kernel(gpu, 5e-3)
    measured = runner(gpu).run(kernel, [], Policy(Fidelity.SCREEN, 3, 0.02, 1.0, 0.0, give_up_above_s=1e-3))
    assert (measured.status, measured.censored_at_s) == (Status.CENSORED, 1e-3)
    assert len(kernel.cold) == 2


def test_the_gpu_is_warm_before_it_is_timed() -> None:
    gpu = SimulatedGpu()
    kernel = Kernel(gpu, 100e-6)
    measured = runner(gpu).run(kernel, [], SCREEN)
    assert len(kernel.cold) - len(measured.samples_s) >= 0.025 / 100e-6


@pytest.mark.parametrize("policy", [SCREEN, RANK, CERTIFY], ids=lambda policy: str(policy.fidelity))
def test_enough_samples_for_the_fidelity(policy: Policy) -> None:
    gpu = SimulatedGpu()
    short = Policy(**{**policy.__dict__, "min_time_s": 0.01, "max_time_s": 0.3})
    measured = runner(gpu).run(Kernel(gpu, 50e-6, noise=0.02), [], short)
    assert measured.ok
    assert len(measured.samples_s) >= policy.min_samples
    assert measured.stopped_by in ("enough samples", "half-width", "noise stable", "time limit")


UNDISTURBED = GpuState(1980, 3201, 40, 300.0, 0x4, 0)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (UNDISTURBED, UNDISTURBED, ""),  # the power cap is the kernel's own doing
        (None, None, ""),
        (UNDISTURBED, GpuState(1200, 3201, 89, 300.0, 0x20, 0), "throttled: software thermal slowdown"),
        (GpuState(600, 3201, 40, 90.0, 0x80, 0), UNDISTURBED, "throttled: power brake"),
        (UNDISTURBED, GpuState(1980, 3201, 40, 300.0, 0x0, 2), "contended: 2 other process(es) on this GPU"),
        (None, GpuState(None, None, None, None, 0x8, 0), "throttled: hardware slowdown"),
    ],
)
def test_what_comes_from_outside_excludes_a_time_from_winning(
    before: GpuState | None, after: GpuState | None, words: str
) -> None:
    assert exclusion_reason(before, after) == words
    gpu = SimulatedGpu()
    measured = runner(gpu, readings=[before, after]).run(Kernel(gpu), [], SCREEN)
    assert measured.ok, "it is kept"
    assert measured.conditions.excluded == words
    if after is not None:
        assert measured.conditions.details["after"]["clock_reasons"] == after.data()["clock_reasons"]
        assert None not in measured.conditions.details["after"].values()


def test_the_lower_bound_counts_what_the_l2_cannot_hold() -> None:
    assert lower_bound_s(150 << 20, 50 << 20, 1e12) == pytest.approx(100 * 2**20 / 1e12)
    assert lower_bound_s(40 << 20, 50 << 20, 1e12) == 0.0
    assert lower_bound_s(1 << 30, 50 << 20, 0.0) == 0.0, "no bound where the driver does not tell"


def test_kernels_are_paired_round_by_round() -> None:
    gpu = SimulatedGpu()
    fast, slow = Kernel(gpu, 50e-6, noise=0.02), Kernel(gpu, 60e-6, noise=0.02)
    a, b, control = runner(gpu).run_interleaved([fast, slow, fast], CERTIFY, budget_s=0.3, seed=0)
    assert a.rounds == b.rounds == control.rounds
    assert len(a.rounds) >= LEAST_ROUNDS
    assert all(x < y for x, y in zip(a.seconds, b.seconds, strict=True))
    assert verdict(a.seconds, b.seconds, noise_floor(a.seconds, control.seconds)).label is Label.FASTER
    assert verdict(a.seconds, control.seconds, noise_floor(a.seconds, control.seconds)).label is not Label.FASTER


def test_what_is_far_slower_takes_part_in_some_rounds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimulatedGpu()
    monkeypatch.setattr(time, "perf_counter", lambda: gpu.host)
    quick, lame = Kernel(gpu, 20e-6), Kernel(gpu, 20e-3)
    a, b = runner(gpu).run_interleaved([quick, lame], SCREEN, budget_s=0.05, seed=0)
    assert len(a.rounds) >= LEAST_ROUNDS
    assert len(b.rounds) < len(a.rounds)
    assert set(b.rounds) <= set(a.rounds)
    assert b.seconds[0] == pytest.approx(20e-3, rel=0.01)


def test_a_round_in_which_the_host_was_late_is_dropped_for_all() -> None:
    gpu = SimulatedGpu(launch_s=1e-6)
    kernels = [Kernel(gpu, 100e-6), Kernel(gpu, 110e-6)]
    timing = gpu.time
    calls = iter(range(10_000))

    def now_and_then_late(work: Callable[[], None]) -> Timing:
        taken = timing(work)
        return Timing(2 * taken.device_s, 1.0) if next(calls) % 11 == 10 else taken

    gpu.time = now_and_then_late  # type: ignore[method-assign]
    a, b = runner(gpu).run_interleaved(kernels, CERTIFY, budget_s=0.1, seed=0)
    assert a.rounds == b.rounds
    assert a.dropped == b.dropped > 0
    assert max(a.seconds) == pytest.approx(100e-6, rel=0.05)
