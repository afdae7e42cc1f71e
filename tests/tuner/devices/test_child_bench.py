"""What benches of every kind do with a child's replies and failures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tuner.bundle.packing import PackingBench
from tuner.devices.child_bench import call_interleaved, failure, measure_each
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import CERTIFY, AaControl, Job, Policy
from tuner.records import Measurement, Status


class Service:
    """A child's service: every kernel takes as many seconds as its entry says; without jobs there is no control."""

    def op_measure_interleaved(
        self, jobs: Sequence[Mapping[str, Any]], policy: Mapping[str, Any], budget_s: float, seed: int
    ) -> dict[str, Any]:
        fidelity = Policy.from_json(policy).fidelity
        times = [float(Job.from_json(job).entry) for job in jobs]
        measurements = [Measurement(Status.OK, (seconds,), fidelity).to_json() for seconds in times]
        control = AaControl((seed,), (budget_s,)).to_json() if jobs else None
        return {"measurements": measurements, "control": control}


def job(entry: str, path: Path = Path("no-file")) -> Job:
    return Job("task", entry, path, entry, (), (), seed=0, resources={"plan": {}})


def test_a_childs_reply_is_read() -> None:
    with Child(f"{__name__}:Service") as child:
        measured, control = call_interleaved(child.call, 20, [job("2.0"), job("3.0")], CERTIFY, 1.5, 7)
        assert [m.samples_s for m in measured] == [(2.0,), (3.0,)]
        assert {m.fidelity for m in measured} == {CERTIFY.fidelity}
        assert control == AaControl((7,), (1.5,))
        assert call_interleaved(child.call, 20, [], CERTIFY, 1.5, 7) == ([], None)
        with pytest.raises(ChildError, match="could not convert"):
            call_interleaved(child.call, 20, [job("no number")], CERTIFY, 1.5, 7)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ChildTimeout("no reply within 1 s"), Status.RUN_TIMEOUT),
        (ChildDied("killed by SIGSEGV"), Status.RUN_FAILED),
        (ChildError("ValueError", "x" * 1000), Status.RUN_FAILED),
    ],
)
def test_a_failure_is_a_status_with_a_short_reason(error: Exception, status: Status) -> None:
    measured = failure(error, CERTIFY, time.perf_counter() - 2.0)
    assert (measured.status, measured.fidelity) == (status, CERTIFY.fidelity)
    assert measured.reason == str(error)[:300]
    assert measured.run_s >= 2.0


def test_each_alone_has_no_control(tmp_path: Path) -> None:
    (tmp_path / "cubin").write_bytes(b"code")
    bench = PackingBench()
    measured, control = measure_each(bench, [job("a", tmp_path / "cubin"), job("b", tmp_path / "cubin")], CERTIFY, 2.0)
    assert [m.status for m in measured] == [Status.DEFERRED] * 2
    assert set(bench.kernels["task"]) == {"a", "b"}
    assert control is None
