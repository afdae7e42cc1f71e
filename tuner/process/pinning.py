"""How many threads a worker uses, and the CPUs they run on.

Left to the scheduler, or to TVM's own binding, the two threads of a kernel can share one CPU while another
idles: the same kernel then takes twice as long, and the scheduler is measured. Every child that times something, tuned
or baseline, therefore pins the threads that do the work. Which those are is seen while they work.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

_BUSY_SHARE = 0.1
"""A thread that used less than this share of the busiest one's CPU time does not do the work."""

_WORK_S = 0.05
"""Twenty calls of a kernel of 50 microseconds end before the system has counted which threads made them."""


def thread_env(threads: int) -> dict[str, str]:
    """The environment with which every child that is timed is started, so that all use the same number of threads.

    TVM would pin its workers one CPU each but not the calling thread, which the scheduler then often leaves on
    a worker's CPU: on two cores that halves the speed. The operating system places them better.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS")
    return dict.fromkeys(names, str(threads)) | {"TVM_BIND_THREADS": "0"}


def pin_workers(work: Callable[[], object], threads: int) -> bool:
    """Run `work` and pin the `threads` busiest threads of this process to a CPU each.

    False, with nothing pinned, when fewer threads than that were busy: a serial kernel shows no workers. Nothing
    is pinned either where there are fewer CPUs than threads, or one thread only; then the result is True.
    """
    cpus = _allowed()
    if threads < 2 or threads > len(cpus):
        work()
        return True
    before = _cpu_times()
    work()
    used = {thread: after - before.get(thread, 0) for thread, after in _cpu_times().items()}
    busiest = sorted(used, key=lambda thread: used[thread], reverse=True)[:threads]
    if len(busiest) < threads or used[busiest[-1]] < _BUSY_SHARE * max(used[busiest[0]], 1):
        return False
    for thread, cpu in zip(sorted(busiest), cpus, strict=False):
        with contextlib.suppress(OSError):  # the thread may have ended, or the CPU been taken away
            os.sched_setaffinity(thread, {cpu})
    return True


def pin_while_calling(launch: Callable[[int], object], threads: int, call_s: float | None = None) -> bool:
    """`pin_workers` while `launch(count)` makes enough calls to see which threads are busy.

    `call_s` is about the seconds of a call; without it one call is timed. A long call is made once.
    """
    if call_s is None:
        start = time.perf_counter()
        launch(1)
        call_s = time.perf_counter() - start
    calls = 1 + int(_WORK_S / max(call_s, 1e-7))
    return pin_workers(lambda: launch(calls), threads)


def _allowed() -> list[int]:
    """CPUs that any thread of this process may use, as the process was started."""
    allowed: set[int] = set()
    for entry in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            allowed |= os.sched_getaffinity(int(entry.name))
    return sorted(allowed)


def _cpu_times() -> dict[int, int]:
    """Nanoseconds of CPU time of each thread of this process."""
    times = {}
    for entry in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            times[int(entry.name)] = int((entry / "schedstat").read_text().split()[0])
    return times
