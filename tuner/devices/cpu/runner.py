"""Timing on the CPU, in this process: blocks of calls, sampled until a policy is satisfied."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuner.measure.metadata import process_conditions, usage, used_since
from tuner.measure.stats import StopRule, should_stop, without_preempted
from tuner.protocols import Launchable, Policy, Prepared
from tuner.records import Conditions, Measurement, Status

if TYPE_CHECKING:
    from tuner.protocols import Array

OVERHEAD_SHARE = 1e-4
"""Reading the clock may cost at most this share of a block."""

_LOOK_EVERY = 16  # nvbench's step: beyond 64 samples, deciding costs more than taking another
_HICCUP_S = 0.1  # no scheduler takes the CPU away for longer at once


@dataclass(frozen=True)
class Clock:
    """`resolution_s`: the smallest step seen; `empty_s`: what timing nothing costs. Seconds."""

    resolution_s: float
    empty_s: float

    @property
    def least_block_s(self) -> float:
        """The shortest block for which the clock is negligible."""
        return max(self.resolution_s, self.empty_s) / OVERHEAD_SHARE


@functools.cache
def clock() -> Clock:
    """This process's clock, calibrated at the first use (about a millisecond)."""
    readings = [time.perf_counter_ns() for _ in range(4001)]
    steps = np.diff(np.asarray(readings, dtype=np.int64))
    positive = steps[steps > 0]
    resolution = int(positive.min()) if positive.size else 1
    return Clock(resolution * 1e-9, float(np.median(steps)) * 1e-9)


def clock_share(calls: int, seconds: Sequence[float]) -> float:
    """The most that reading the clock can be of a block. `seconds` are per call, of blocks of so many calls."""
    return max(clock().empty_s, clock().resolution_s) / (calls * min(seconds))


@dataclass(frozen=True)
class Block:
    """One sample: seconds a call, and whether the process was switched out meanwhile."""

    seconds: float
    preempted: bool


def last_level_cache_bytes(fallback: int = 32 << 20) -> int:
    """Size of the largest data cache of the first CPU, as Linux states it; `fallback` where it does not."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KM")) * unit)
    return max(sizes, default=fallback)


class CpuRunner:
    """Times a launchable in the calling process. Implements `protocols.Runner`.

    `mode` "hot": the calls of a block follow one another on the same buffers. "model": so they do, and what is called
    takes copies of its constants in turn (see `rotation`). "cold": before each call a buffer twice the last-level cache
    is written, outside the timed window, so a block is one call. Outputs are not checked here. Exceptions of the
    launchable are raised.
    """

    def __init__(self, mode: str = "hot") -> None:
        if mode not in ("model", "hot", "cold"):
            raise ValueError(f"mode is 'model', 'hot' or 'cold', not {mode!r}")
        self._flush = np.zeros(2 * last_level_cache_bytes(), dtype=np.uint8) if mode == "cold" else None
        self.mode = mode

    def run(
        self, launchable: Launchable, inputs: Sequence[Array], policy: Policy, called_before: bool = False
    ) -> Measurement:
        """Raw seconds per call, one per block; status ok, or censored when the first sample is over
        `policy.give_up_above_s`. `called_before`: what `prepare` returns had its first call already."""
        began = time.perf_counter()
        load = os.getloadavg()[0]
        prepared = launchable.prepare(inputs)
        if not called_before:
            prepared.launch(1)  # first call: allocation, page faults, thread start
        _warm_up(prepared, policy.warmup_s)
        before = usage()
        first_s = self._first_sample_s(prepared, policy.give_up_above_s)
        limit = policy.give_up_above_s
        if limit is not None and first_s > limit:
            conditions = Conditions(details={"mode": self.mode, "load_before": load})
            return Measurement.censored(limit, policy.fidelity, time.perf_counter() - began, conditions)
        calls, blocks = self.calibrate(prepared, first_s, policy.block_s)
        stopped_by = self._collect(prepared, calls, blocks, policy)
        samples, preempted = [b.seconds for b in blocks], [b.preempted for b in blocks]
        kept = without_preempted(samples, preempted, policy.min_samples)
        details = {
            **process_conditions(self.mode), "load_before": load, **used_since(before), "calls_per_block": calls,
            "clock_share": clock_share(calls, kept), "samples_preempted": sum(preempted),
            "samples_dropped": len(samples) - len(kept),
        }  # fmt: skip
        run_s, conditions = time.perf_counter() - began, Conditions(details=details)
        return Measurement(Status.OK, tuple(kept), policy.fidelity, stopped_by, run_s=run_s, conditions=conditions)

    @property
    def in_blocks(self) -> bool:
        """Whether calls follow one another, with no flush before each."""
        return self._flush is None

    def sample(self, prepared: Prepared, calls: int) -> float:
        """Seconds per call of one block."""
        if self._flush is not None:
            np.add(self._flush, 1, out=self._flush)
        start = time.perf_counter_ns()
        prepared.launch(calls)
        elapsed = time.perf_counter_ns() - start
        # Seven digits: far below what the clock can tell, and half the room in the database.
        return float(f"{max(elapsed * 1e-9, clock().resolution_s) / calls:.7g}")

    def block(self, prepared: Prepared, calls: int) -> Block:
        """One sample of so many calls."""
        switches = usage().switches
        seconds = self.sample(prepared, calls)
        return Block(seconds, usage().switches > switches)

    def _first_sample_s(self, prepared: Prepared, limit_s: float | None) -> float:
        """Seconds of one call; of the faster of two where the first is over `limit_s`."""
        first_s = self.sample(prepared, 1)
        if limit_s is not None and limit_s < first_s < _HICCUP_S:
            first_s = min(first_s, self.sample(prepared, 1))  # one lost time slice must not censor a candidate
        return first_s

    def calibrate(self, prepared: Prepared, first_s: float, block_s: float) -> tuple[int, list[Block]]:
        """How many calls last `block_s` and dwarf the clock (one in cold mode), and the blocks of as many that showed
        it: samples like those to come."""
        if self._flush is not None:
            return 1, []
        wanted = max(block_s, clock().least_block_s)
        if first_s >= 10 * wanted:
            return 1, []
        calls = max(1, math.ceil(wanted / first_s))
        while True:  # a sample may be slow by accident: the faster of two blocks of this length counts
            blocks = [self.block(prepared, calls), self.block(prepared, calls)]
            seconds = min(b.seconds for b in blocks) * calls
            if seconds >= wanted:
                return calls, blocks
            calls = math.ceil(calls * min(10.0, 1.1 * wanted / seconds))

    def _collect(self, prepared: Prepared, calls: int, blocks: list[Block], policy: Policy) -> StopRule:
        """Add to `blocks` until a rule of `policy` says to stop; returns that rule."""
        elapsed = sum(b.seconds for b in blocks) * calls
        while True:
            blocks.append(self.block(prepared, calls))
            elapsed += blocks[-1].seconds * calls
            if len(blocks) > 64 and len(blocks) % _LOOK_EVERY and elapsed < policy.max_time_s:
                continue
            preempted = [b.preempted for b in blocks]
            kept = without_preempted([b.seconds for b in blocks], preempted, policy.min_samples)
            stopped_by = should_stop(kept, policy, elapsed)
            if stopped_by:
                return stopped_by


def _warm_up(prepared: Prepared, seconds: float) -> None:
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        prepared.launch(1)
