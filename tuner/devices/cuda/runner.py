"""The rules of timing on a GPU, for whatever stands behind `Gpu`: PyCUDA's device, or a simulated one in a test."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tuner.devices.cuda.nvml import Certificate, exclusion_reason
from tuner.measure.stats import (
    LEAST_ROUNDS,
    RARE,
    StopRule,
    periods,
    should_stop,
    undisturbed_rounds,
    without_preempted,
)
from tuner.protocols import Array, Policy
from tuner.records import Conditions, Measurement, Status

WARM_UP_S = 0.025
"""Of GPU work before anything is timed: the clock has to come up from its idle frequency."""

SHORT_S = 10e-6
"""Events tick at half a microsecond: a kernel shorter than this is timed in batches."""

BATCH_S = 200e-6
MAX_BATCH = 256
MAX_COPIES_SHARE = 0.25
"""Batches rotate over so many copies of the arguments that none is in the L2 when its turn comes again, within this
share of the free memory."""

_FIRST_HOLD_S = 50e-6
_MOST_HOLD_S = 0.02
_LAUNCH_S = 10e-6  # of the host for one launch through PyCUDA; measured again with every sample
_LOOK_EVERY = 16


def lower_bound_s(nbytes: int, l2_bytes: int, peak_bytes_per_s: float) -> float:
    """The least seconds a kernel can take: what cannot have been in the L2, at the memory's peak rate.

    `nbytes` are the arguments, each touched once. The peak is clock times bus width, which no kernel reaches; 0 where
    it is not known, and then there is no floor. Arithmetic is left out: tensor cores do much of it or none.
    """
    return max(0, nbytes - l2_bytes) / peak_bytes_per_s if peak_bytes_per_s > 0 else 0.0


class GpuError(Exception):
    """The driver refused something, or a kernel failed. Whether the context survived is for the canary to say."""


@dataclass(frozen=True)
class Timing:
    """`device_s` between two events; `host_s`: what the host took to enqueue what lies between them."""

    device_s: float
    host_s: float


class GpuPrepared(Protocol):
    """Something whose calls can be put on a stream."""

    @property
    def nbytes(self) -> int: ...

    def copies(self, count: int) -> None: ...

    def enqueue(self, copy: int) -> None: ...


class GpuLaunchable(Protocol):
    """A tuned kernel or a rival, as the GPU's runner times it."""

    def prepare(self, inputs: Sequence[Array]) -> GpuPrepared: ...


class Gpu(Protocol):
    """What a runner needs of a device. All but `time` and `synchronize` only enqueue."""

    l2_bytes: int

    def flush(self) -> None: ...

    def hold(self, seconds: float) -> None: ...

    def time(self, work: Callable[[], None]) -> Timing: ...

    def synchronize(self) -> None: ...

    def free_bytes(self) -> int: ...


@dataclass
class InterleavedSamples:
    """A kernel's samples beside others': seconds per call and the number of the round of each, those kept only."""

    calls: int
    copies: int
    cost_s: float
    period: int = 1
    rounds: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    dropped: int = 0
    stopped_by: StopRule = StopRule.TIME_LIMIT


class GpuRunner:
    """Times a launchable on a GPU. Implements `protocols.Runner` for launchables whose calls can be enqueued.

    A sample: flush the L2 (cold mode), hold the stream while the host enqueues event, call and event, wait. So the
    device finds everything queued when it comes to the first event, and no launch latency of the host is in the
    window. A sample for which the host was slower than the hold counts as disturbed, and the next hold is longer.
    "cold": one call a sample, caches flushed; calls under SHORT_S in batches over rotating copies. "hot": batches on
    the same buffers. `elapsed` for the policy is the wall time of sampling, flushes included.
    """

    def __init__(self, gpu: Gpu, mode: str, certify: Callable[[], Certificate | None]) -> None:
        if mode not in ("hot", "cold"):
            raise ValueError(f"mode is 'hot' or 'cold', not {mode!r}")
        self.gpu = gpu
        self._mode = mode
        self._certify = certify
        self._hold_s = _FIRST_HOLD_S

    def run(self, launchable: GpuLaunchable, inputs: Sequence[Array], policy: Policy) -> Measurement:
        """Raw seconds per call; ok, or censored when the first sample is over `policy.give_up_above_s`.

        Raises GpuError.
        """
        began = time.perf_counter()
        prepared = launchable.prepare(inputs)
        prepared.enqueue(0)
        self.gpu.synchronize()
        first, _ = self._sample(prepared, 1, 1)
        limit = policy.give_up_above_s
        if limit is None or first <= limit:
            self._warm_up(prepared, first, max(WARM_UP_S, policy.warmup_s))
            first, _ = self._sample(prepared, 1, 1)
        details: dict[str, Any] = {"mode": self._mode}
        if limit is not None and first > limit:
            return Measurement(
                Status.CENSORED, fidelity=policy.fidelity, reason=f"over {limit:.3g} s", censored_at_s=limit,
                run_s=time.perf_counter() - began, conditions=Conditions(details=details),
            )  # fmt: skip
        calls, copies = self._batch(prepared, first, policy)
        prepared.copies(copies)
        before = self._certify()
        samples, late, stopped_by, wall_s = self._collect(prepared, calls, copies, policy)
        after = self._certify()
        kept = without_preempted(samples, late, policy.min_samples)
        details |= {
            "wall_s": wall_s, "calls_per_sample": calls, "copies": copies, "single_call_s": first,
            "samples_preempted": sum(late), "samples_dropped": len(samples) - len(kept),
            "launch_bound": 2 * sum(late) > len(late),
        }  # fmt: skip
        for word, certificate in (("before", before), ("after", after)):
            if certificate is not None:
                details[word] = certificate.data()
        conditions = Conditions(excluded=exclusion_reason(before, after), details=details)
        return Measurement(
            Status.OK,
            tuple(kept),
            policy.fidelity,
            stopped_by,
            run_s=time.perf_counter() - began,
            conditions=conditions,
        )

    def run_interleaved(
        self, kernels: Sequence[GpuPrepared], policy: Policy, budget_s: float, seed: int
    ) -> list[InterleavedSamples]:
        """Time several kernels side by side: round by round one sample of each, in random order.

        Ends when a rule of `policy` holds for all that take part in every round, or with the budget (seconds, all
        included), but not before three rounds. A round in which the host was late for one of them is dropped for all,
        so that what is left pairs up. Raises GpuError.
        """
        deadline = time.perf_counter() + budget_s
        turns = [self._enter(prepared, policy) for prepared in kernels]
        costs = [turn.cost_s for turn in turns]
        often = [turn for turn in turns if turn.cost_s <= RARE * min(costs)]
        for turn, period in zip(turns, periods(costs), strict=True):
            turn.period = period
        rng = random.Random(seed)
        late: list[bool] = []
        began = time.perf_counter()
        while True:
            taking_part = [pair for pair in zip(kernels, turns, strict=True) if len(late) % pair[1].period == 0]
            rng.shuffle(taking_part)
            preempted = False
            for prepared, turn in taking_part:
                seconds, was_late = self._sample(prepared, turn.calls, turn.copies)
                turn.seconds.append(seconds)
                turn.rounds.append(len(late))
                preempted = preempted or was_late
            late.append(preempted)
            over = time.perf_counter() >= deadline
            if len(late) < LEAST_ROUNDS or not (over or len(late) % 4 == 0):
                continue
            undisturbed = set(undisturbed_rounds(late, policy.min_samples))
            kept = [
                [s for s, r in zip(t.seconds, t.rounds, strict=True) if r in undisturbed] or t.seconds for t in often
            ]
            elapsed = (time.perf_counter() - began) / len(turns)
            rules = [should_stop(seconds, policy, elapsed) for seconds in kept]
            if over or all(rules):
                for turn, rule in zip(often, rules, strict=True):
                    turn.stopped_by = rule or StopRule.TIME_LIMIT
                return [_undisturbed(turn, undisturbed) for turn in turns]

    def _enter(self, prepared: GpuPrepared, policy: Policy) -> InterleavedSamples:
        prepared.enqueue(0)
        self.gpu.synchronize()
        first, _ = self._sample(prepared, 1, 1)
        self._warm_up(prepared, first, WARM_UP_S)
        began = time.perf_counter()
        first, _ = self._sample(prepared, 1, 1)
        calls, copies = self._batch(prepared, first, policy)
        prepared.copies(copies)
        return InterleavedSamples(calls, copies, time.perf_counter() - began + first * (calls - 1))

    def _batch(self, prepared: GpuPrepared, first: float, policy: Policy) -> tuple[int, int]:
        """Calls a sample, and copies of the arguments that they rotate over."""
        if self._mode == "cold" and first >= SHORT_S:
            return 1, 1
        wanted = BATCH_S if self._mode == "cold" else max(policy.block_s, BATCH_S)
        calls = min(max(math.ceil(wanted / first), 1), MAX_BATCH)
        if self._mode == "hot":
            return calls, 1
        copies = math.ceil(5 * self.gpu.l2_bytes / max(prepared.nbytes, 1)) + 1
        affordable = int(MAX_COPIES_SHARE * self.gpu.free_bytes() / max(prepared.nbytes, 1))
        return calls, max(1, min(copies, affordable, calls))

    def _sample(self, prepared: GpuPrepared, calls: int, copies: int) -> tuple[float, bool]:
        """Seconds per call, and whether the host was too slow for the figure to be the device's alone."""
        if self._mode == "cold":
            self.gpu.flush()
        hold_s = min(max(self._hold_s, calls * _LAUNCH_S), _MOST_HOLD_S)
        self.gpu.hold(hold_s)

        def work() -> None:
            for call in range(calls):
                prepared.enqueue(call % copies)

        timing = self.gpu.time(work)
        late = timing.host_s > 0.9 * hold_s
        if late:
            self._hold_s = min(2 * timing.host_s, _MOST_HOLD_S)
        return max(timing.device_s, 1e-9) / calls, late

    def _warm_up(self, prepared: GpuPrepared, call_s: float, seconds: float) -> None:
        for _ in range(max(1, math.ceil(seconds / max(call_s, _LAUNCH_S)))):  # no more than the host launches meanwhile
            prepared.enqueue(0)
        self.gpu.synchronize()

    def _collect(
        self, prepared: GpuPrepared, calls: int, copies: int, policy: Policy
    ) -> tuple[list[float], list[bool], StopRule, float]:
        samples: list[float] = []
        late: list[bool] = []
        began = time.perf_counter()
        while True:
            seconds, was_late = self._sample(prepared, calls, copies)
            samples.append(seconds)
            late.append(was_late)
            elapsed = time.perf_counter() - began
            if len(samples) > 64 and len(samples) % _LOOK_EVERY and elapsed < policy.max_time_s:
                continue
            stopped_by = should_stop(without_preempted(samples, late, policy.min_samples), policy, elapsed)
            if stopped_by:
                return samples, late, stopped_by, elapsed


def _undisturbed(turn: InterleavedSamples, undisturbed: set[int]) -> InterleavedSamples:
    """Without the samples of rounds that were disturbed; with all of them where nothing would be left."""
    kept = [i for i, number in enumerate(turn.rounds) if number in undisturbed] or list(range(len(turn.rounds)))
    turn.dropped = len(turn.rounds) - len(kept)
    turn.rounds, turn.seconds = [turn.rounds[i] for i in kept], [turn.seconds[i] for i in kept]
    return turn
