"""The round trip of a cache line between the CPUs in use: what tells whether they share a cache.

Two threads, each pinned to one CPU, hand a pair of spin locks to and fro. The loop is compiled by TVM; the locks are
the C library's, whose calls no compiler moves or leaves out.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuner import environment
from tuner.devices.cpu import machine
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.records import CpuState

_TRIPS = 500  # 40 to 200 us: far less than a time slice, so that some batch is undisturbed on a loaded machine, too
_LEAST_BATCHES, _MOST_BATCHES = 6, 200
_ENOUGH_S = 0.3
_AGREE = 1.05  # two batches this near to the shortest show that these were not disturbed
_MOST_PAIRS = 8
_TIMEOUT_S = 5.0
_START_S = 60.0
_LINE = 32  # int32 elements: 128 bytes, since some CPUs fetch lines in pairs

_HAND_OVER = """
@T.prim_func(s_tir=True)
def main(locks: T.Buffer(({size},), "int32"), wait: T.int32, release: T.int32, trips: T.int32):
    for i in range(trips):
        T.evaluate(T.call_extern("int32", "pthread_spin_lock", T.address_of(locks[wait])))
        T.evaluate(T.call_extern("int32", "pthread_spin_unlock", T.address_of(locks[release])))
"""

_CACHES = "devices/system/cpu/cpu{cpu}/cache"


def open_probe(threads: int, runs: Path) -> RoundTripProbe | FixedState | None:
    """What tells the state of the first `threads` CPUs that this process may use; None under two.

    Where Linux states which CPUs share a cache and the machine is no virtual one, nothing is measured. Else round trips
    are, and kept beside the runs in `runs`.
    """
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    if threads < 2 or len(cpus) < threads:
        return None
    if not environment.virtual():
        state = shared_cache_state(cpus)
        if state is not None:
            return FixedState(state)
    return RoundTripProbe(cpus, runs)


def longest_round_trip_s(threads: int, runs: Path) -> float | None:
    """Seconds of a round trip between the first CPUs that this process may use, in the worst state in which this
    machine was seen; None where it cannot be measured."""
    probe = RoundTripProbe(sorted(os.sched_getaffinity(0))[:threads], runs)
    try:
        probe.round_trip_s()
        return max(probe.known_s, default=None)
    finally:
        probe.close()


def shared_cache_state(cpus: Sequence[int], system: Path = Path("/sys")) -> CpuState | None:
    """Whether these CPUs share the last-level cache; None where Linux does not state it."""
    shared = [_last_level(system / _CACHES.format(cpu=cpu)) for cpu in cpus]
    if not all(shared):
        return None
    return CpuState.TOGETHER if len(set(shared)) == 1 else CpuState.APART


def _last_level(caches: Path) -> str:
    """The list of CPUs that share the highest cache level with one, as Linux writes it; "" where it is not there."""
    levels = []
    for index in caches.glob("index*"):
        try:
            levels.append((int((index / "level").read_text()), (index / "shared_cpu_list").read_text().strip()))
        except (OSError, ValueError):
            return ""
    return max(levels, default=(0, ""))[1]


class FixedState:
    """Implements `StateProbe` where the state cannot change: Linux states which CPUs share a cache."""

    known_s: Sequence[float] = ()

    def __init__(self, state: CpuState) -> None:
        self.fixed: CpuState | None = state

    def round_trip_s(self) -> float | None:
        return None

    def close(self) -> None:
        pass


class RoundTripProbe:
    """Implements `StateProbe`: a child measures between neighbours in the list of `cpus`; the longest counts.

    Of more than nine CPUs nine, evenly spread, are looked at. The child is started by the first measurement, which is
    made twice since the first one compiles. One that fails is not replaced: what it did not measure is None.
    """

    fixed: CpuState | None = None

    def __init__(self, cpus: Sequence[int], runs: Path) -> None:
        self._cpus = _spread(cpus, _MOST_PAIRS + 1)
        self._runs = runs
        self._threads = len(cpus)
        self.known_s: list[float] = machine.read_round_trips(runs, self._threads)
        self._stored = len(self.known_s)
        self._child: Child | None = None
        self._failed = False

    def round_trip_s(self) -> float | None:
        if self._failed:
            return None
        try:
            if self._child is None:
                self._child = Child("tuner.devices.cpu.round_trip:RoundTrip", env=thread_env(1))
                self._child.call("longest", _START_S, cpus=self._cpus)
            seconds: float | None = self._child.call("longest", _TIMEOUT_S, cpus=self._cpus)
        except (ChildDied, ChildTimeout, ChildError):
            self._failed = True
            self._end()
            return None
        if seconds is not None:
            self.known_s.append(seconds)
        return seconds

    def close(self) -> None:
        self._end()
        if len(self.known_s) > self._stored:
            machine.keep_round_trips(self._runs, self._threads, self.known_s)
            self._stored = len(self.known_s)

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def _spread(cpus: Sequence[int], most: int) -> list[int]:
    if len(cpus) <= most:
        return list(cpus)
    return [cpus[index * (len(cpus) - 1) // (most - 1)] for index in range(most)]


class RoundTrip:
    """A child's service that measures round trips."""

    def __init__(self) -> None:
        import numpy as np
        import tvm

        size = 2 * _LINE
        function = tvm.script.from_source(_HAND_OVER.format(size=size)).with_attr("global_symbol", "main")
        self._hand_over: Any = tvm.compile(tvm.IRModule({"main": function}), "llvm")["main"]
        self._tensor = tvm.runtime.empty((size,), "int32")
        self._locks = np.from_dlpack(self._tensor)

    def op_longest(self, cpus: Sequence[int]) -> float | None:
        """Seconds of the longest round trip between neighbours in the list; None where one could not be measured."""
        trips = [self._between(first, second) for first, second in itertools.pairwise(cpus)]
        measured = [seconds for seconds in trips if seconds is not None]
        return max(measured) if len(measured) == len(trips) else None

    def _between(self, first: int, second: int) -> float | None:
        """Seconds of a round trip between two CPUs: of the shortest of several batches, since whatever disturbs a batch
        makes it longer. None where too few batches were undisturbed."""
        address, libc = self._locks.ctypes.data, ctypes.CDLL(None)
        for lock in (address, address + self._locks.itemsize * _LINE):
            libc.pthread_spin_init(ctypes.c_void_p(lock), 0)
        libc.pthread_spin_lock(ctypes.c_void_p(lock))  # the second: whoever waits for it goes second
        last = [_MOST_BATCHES]

        def echo() -> None:
            os.sched_setaffinity(0, {second})
            number = 0
            while number < last[0]:
                self._hand_over(self._tensor, _LINE, 0, _TRIPS)
                number += 1

        os.sched_setaffinity(0, {first})
        other = threading.Thread(target=echo)
        other.start()
        batches: list[float] = []
        began, settled = time.perf_counter(), False
        while len(batches) < last[0]:
            settled = settled or _settled(batches)
            if settled or time.perf_counter() - began > _ENOUGH_S:
                last[0] = len(batches) + 1  # stated before its last batch begins, so that the other thread makes it too
            start = time.perf_counter()
            self._hand_over(self._tensor, 0, _LINE, _TRIPS)
            batches.append((time.perf_counter() - start) / _TRIPS)
        other.join()
        return min(batches) if settled else None


def _settled(batches: Sequence[float]) -> bool:
    return len(batches) >= _LEAST_BATCHES and sorted(batches)[2] <= _AGREE * min(batches)
