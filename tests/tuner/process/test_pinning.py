"""Busy threads get a CPU each; idle ones and serial work are left alone."""

from __future__ import annotations

import os
import threading
import zlib

import pytest

from tuner.process.pinning import pin_while_calling
from tuner.process.worker import Child

SERVICE = "tests.tuner.process.test_pinning:Pinner"
_DATA = os.urandom(1 << 20)


class Pinner:
    """Works on as many threads as asked for, in a child, since pinning outlasts a test."""

    def op_pin(self, workers: int, threads: int) -> dict[str, list[list[int]] | bool]:
        from tuner.process.pinning import pin_workers

        stop = threading.Event()
        idle = threading.Thread(target=stop.wait, daemon=True)
        idle.start()
        rounds: list[threading.Barrier] = [threading.Barrier(workers)]
        tids: list[int] = []

        def work(again: threading.Event) -> None:
            tids.append(threading.get_native_id())
            rounds[0].wait()
            for _ in range(20):
                zlib.compress(_DATA, 6)  # lets go of the interpreter lock
            again.wait()

        again = threading.Event()
        others = [threading.Thread(target=work, args=(again,), daemon=True) for _ in range(workers - 1)]

        def all_work() -> None:
            for other in others:
                other.start()
            rounds[0].wait()
            for _ in range(20):
                zlib.compress(_DATA, 6)

        answer = pin_workers(all_work, threads)
        ours = [threading.get_native_id(), *tids]
        result: dict[str, list[list[int]] | bool] = {
            "pinned": answer,
            "workers": [sorted(os.sched_getaffinity(t)) for t in ours],
            "idle": [sorted(os.sched_getaffinity(idle.native_id or 0))],
        }
        again.set()
        stop.set()
        return result


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_each_busy_thread_gets_its_own_cpu() -> None:
    with Child(SERVICE) as child:
        found = child.call("pin", 60, workers=2, threads=2)
    assert found["pinned"] is True
    assert all(len(cpus) == 1 for cpus in found["workers"])
    assert len({cpus[0] for cpus in found["workers"]}) == 2
    assert len(found["idle"][0]) > 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_serial_work_pins_nothing() -> None:
    with Child(SERVICE) as child:
        found = child.call("pin", 60, workers=1, threads=2)
    assert found["pinned"] is False
    assert all(len(cpus) > 1 for cpus in found["workers"])


def test_more_threads_than_cpus_pins_nothing() -> None:
    with Child(SERVICE) as child:
        found = child.call("pin", 60, workers=1, threads=4096)
    assert found["pinned"] is True
    assert found["workers"][0] == found["idle"][0]


def test_short_calls_are_made_until_the_threads_have_shown_themselves() -> None:
    calls: list[int] = []
    pin_while_calling(calls.append, 1, call_s=5e-5)
    assert calls == [1001]
    calls.clear()
    pin_while_calling(calls.append, 1, call_s=3.0)
    assert calls == [1]
    calls.clear()
    pin_while_calling(calls.append, 1)
    assert len(calls) == 2
    assert calls[0] == 1
