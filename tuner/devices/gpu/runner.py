"""The rules of timing on a GPU, for whatever stands behind `Gpu`: a device of CUDA or OpenCL, or a simulated one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tuner.measure.rounds import InterleavedSamples, sample_rounds
from tuner.measure.stats import StopRule, should_stop, without_preempted
from tuner.protocols import Array, Policy
from tuner.records import Conditions, Measurement, Status

WARM_UP_S = 0.025
"""Of GPU work before anything is timed: the clock has to come up from its idle frequency."""

SHORT_S = 10e-6
"""Events tick at half a microsecond: a kernel shorter than this is timed in batches."""

BATCH_S = 200e-6
MAX_BATCH = 256
MAX_COPIES_SHARE = 0.25
"""Batches rotate over so many copies of the arguments that none is in the L2 when it is used again; together the copies
take at most this share of the free memory."""

_FIRST_HOLD_S = 50e-6
_MOST_HOLD_S = 0.02
_LAUNCH_S = 10e-6  # of the host for one launch from Python; measured again with every sample
_LOOK_EVERY = 16


def lower_bound_s(nbytes: int, l2_bytes: int, peak_bytes_per_s: float) -> float:
    """The least seconds a kernel can take: what cannot have been in the L2, at the memory's peak rate.

    `nbytes` are the arguments, each touched once. The peak is clock times bus width, which no kernel reaches; 0 where
    it is not known, and then there is no lower bound. Arithmetic is left out: tensor cores do much of it or none.
    """
    return max(0, nbytes - l2_bytes) / peak_bytes_per_s if peak_bytes_per_s > 0 else 0.0


class GpuState(Protocol):
    """One reading of what the driver tells of a GPU while it works: clocks, throttling, other processes."""

    def data(self) -> dict[str, Any]:
        """As the conditions of a measurement hold it."""

    def outside_reason(self) -> str:
        """Why a time taken now may not win; "" when it may."""


def exclusion_reason(*readings: GpuState | None) -> str:
    """Why a time between two readings may not win; "" when it may, or when there are no readings."""
    reasons = [state.outside_reason() for state in readings if state is not None]
    return next((reason for reason in reasons if reason), "")


class GpuError(Exception):
    """The driver refused something, or a kernel failed. Whether the context survived is shown by a health check."""


@dataclass(frozen=True)
class Timing:
    """`device_s`: the seconds between two events; `host_s`: those the host took to enqueue what lies between them."""

    device_s: float
    host_s: float


class GpuPrepared(Protocol):
    """Something whose calls can be put on a stream."""

    @property
    def nbytes(self) -> int:
        """Of all its arguments."""

    def copies(self, count: int) -> None:
        """See that there are at least `count` copies of the arguments."""

    def enqueue(self, copy: int) -> None:
        """Put one call on the stream, on the given copy of the arguments."""


class GpuLaunchable(Protocol):
    """A tuned kernel or a baseline, as the GPU's runner times it."""

    def prepare(self, inputs: Sequence[Array]) -> GpuPrepared:
        """Load it with these inputs; its first call is still to come."""


@dataclass(frozen=True)
class Ready:
    """Implements `GpuLaunchable`: what is loaded already, with inputs of its own."""

    prepared: GpuPrepared

    def prepare(self, inputs: Sequence[Array]) -> GpuPrepared:
        return self.prepared


class Gpu(Protocol):
    """What a runner needs of a device. `flush` and `hold` only enqueue."""

    l2_bytes: int

    def flush(self) -> None:
        """Enqueue what drives everything out of the L2."""

    def hold(self, seconds: float) -> None:
        """Enqueue what keeps the stream busy for so long, while the host enqueues more."""

    def time(self, work: Callable[[], None]) -> Timing:
        """Enqueue `work` between two events, and wait for it."""

    def synchronize(self) -> None:
        """Wait for everything that was enqueued."""

    def free_bytes(self) -> int:
        """Of the device's memory."""


@dataclass(kw_only=True)
class GpuSamples(InterleavedSamples):
    """A kernel's samples on a GPU, each a batch of `calls` calls over `copies` copies of the arguments."""

    prepared: GpuPrepared
    calls: int
    copies: int


@dataclass(frozen=True)
class _Sampled:
    """The samples of one kernel alone: seconds per call, for which of them the host was late, and how it ended."""

    seconds: list[float]
    late: list[bool]
    stopped_by: StopRule
    wall_s: float


class GpuRunner:
    """Times a launchable on a GPU. Implements `protocols.Runner` for launchables whose calls can be enqueued.

    A sample: flush the L2 (cold mode), hold the stream while the host enqueues event, call and event, wait. So the
    device finds everything queued when it comes to the first event, and no launch latency of the host is in the
    window. A sample for which the host was slower than the hold counts as preempted, and the next hold is longer.
    "cold": one call a sample, caches flushed; calls under SHORT_S in batches over rotating copies. "hot": batches on
    the same buffers. `elapsed` for the policy is the wall time of sampling, flushes included.
    """

    def __init__(self, gpu: Gpu, mode: str, read_state: Callable[[], GpuState | None]) -> None:
        if mode not in ("hot", "cold"):
            raise ValueError(f"mode is 'hot' or 'cold', not {mode!r}")
        self.gpu = gpu
        self._mode = mode
        self._read_state = read_state
        self._hold_s = _FIRST_HOLD_S

    def run(self, launchable: GpuLaunchable, inputs: Sequence[Array], policy: Policy) -> Measurement:
        """Raw seconds per call; ok, or censored when the first sample is over `policy.give_up_above_s`.

        Raises GpuError.
        """
        began = time.perf_counter()
        prepared = launchable.prepare(inputs)
        first_s = self._first_call_s(prepared, policy)
        limit = policy.give_up_above_s
        if limit is not None and first_s > limit:
            conditions = Conditions(details={"mode": self._mode})
            return Measurement.censored(limit, policy.fidelity, time.perf_counter() - began, conditions)
        calls, copies = self._batch(prepared, first_s, policy)
        prepared.copies(copies)
        before = self._read_state()
        sampled = self._collect(prepared, calls, copies, policy)
        after = self._read_state()
        kept = without_preempted(sampled.seconds, sampled.late, policy.min_samples)
        late = sum(sampled.late)
        details: dict[str, Any] = {
            "mode": self._mode, "wall_s": sampled.wall_s, "calls_per_sample": calls, "copies": copies,
            "single_call_s": first_s, "samples_preempted": late, "samples_dropped": len(sampled.seconds) - len(kept),
            "launch_bound": 2 * late > len(sampled.late),
        }  # fmt: skip
        details |= {word: state.data() for word, state in (("before", before), ("after", after)) if state is not None}
        conditions = Conditions(excluded=exclusion_reason(before, after), details=details)
        run_s = time.perf_counter() - began
        return Measurement(
            Status.OK, tuple(kept), policy.fidelity, sampled.stopped_by, run_s=run_s, conditions=conditions
        )

    def run_interleaved(
        self, kernels: Sequence[GpuPrepared], policy: Policy, budget_s: float, seed: int
    ) -> list[GpuSamples]:
        """The samples of several kernels, taken interleaved as `sample_rounds` says within `budget_s`, all included.

        A round in which the host was late for one of them is dropped for all. Raises GpuError.
        """
        deadline = time.perf_counter() + budget_s
        entries = [self._calibrated(prepared, policy) for prepared in kernels]
        began = time.perf_counter()
        sample_rounds(
            entries,
            lambda entry: self._sample(entry.prepared, entry.calls, entry.copies),
            lambda entry: (time.perf_counter() - began) / len(entries),
            policy,
            deadline,
            seed,
        )
        return entries

    def _first_call_s(self, prepared: GpuPrepared, policy: Policy) -> float:
        """Seconds of one call on a GPU at work; on an idle one where the kernel is to be given up anyway."""
        prepared.enqueue(0)
        self.gpu.synchronize()
        first_s, _ = self._sample(prepared, 1, 1)
        if policy.give_up_above_s is None or first_s <= policy.give_up_above_s:
            self._warm_up(prepared, first_s, max(WARM_UP_S, policy.warmup_s))
            first_s, _ = self._sample(prepared, 1, 1)
        return first_s

    def _calibrated(self, prepared: GpuPrepared, policy: Policy) -> GpuSamples:
        prepared.enqueue(0)
        self.gpu.synchronize()
        first_s, _ = self._sample(prepared, 1, 1)
        self._warm_up(prepared, first_s, WARM_UP_S)
        began = time.perf_counter()
        first_s, _ = self._sample(prepared, 1, 1)
        calls, copies = self._batch(prepared, first_s, policy)
        prepared.copies(copies)
        cost_s = time.perf_counter() - began + first_s * (calls - 1)
        return GpuSamples(cost_s=cost_s, prepared=prepared, calls=calls, copies=copies)

    def _batch(self, prepared: GpuPrepared, first_s: float, policy: Policy) -> tuple[int, int]:
        """Calls a sample, and copies of the arguments that they rotate over."""
        if self._mode == "cold" and first_s >= SHORT_S:
            return 1, 1
        wanted = BATCH_S if self._mode == "cold" else max(policy.block_s, BATCH_S)
        calls = min(max(math.ceil(wanted / first_s), 1), MAX_BATCH)
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

    def _collect(self, prepared: GpuPrepared, calls: int, copies: int, policy: Policy) -> _Sampled:
        """Samples until a rule of `policy` says to stop."""
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
                return _Sampled(samples, late, stopped_by, elapsed)
