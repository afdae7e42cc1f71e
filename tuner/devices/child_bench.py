"""What the parent's side of every bench does alike: kernels run in a child, and whatever becomes of it is a status."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from tuner.process.worker import ChildTimeout
from tuner.protocols import AaControl, Bench, Job, Policy
from tuner.records import Measurement, Status


def failure(error: Exception, policy: Policy, began: float) -> Measurement:
    """The measurement of a kernel whose child was late, died or raised. `began` is a moment of time.perf_counter."""
    status = Status.RUN_TIMEOUT if isinstance(error, ChildTimeout) else Status.RUN_FAILED
    return Measurement(status, fidelity=policy.fidelity, reason=str(error)[:300], run_s=time.perf_counter() - began)


def call_interleaved(
    call: Callable[..., Any], timeout_s: float, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
) -> tuple[list[Measurement], AaControl | None]:
    """Have a child time several kernels interleaved. `call` is its `Child.call`, or a supervisor's.

    Raises ChildTimeout, ChildDied or ChildError.
    """
    reply = call(
        "measure_interleaved", timeout_s, jobs=[job.to_json() for job in jobs], policy=policy.to_json(),
        budget_s=budget_s, seed=seed,
    )  # fmt: skip
    control = reply["control"]
    measurements = [Measurement.from_json(measurement) for measurement in reply["measurements"]]
    return measurements, None if control is None else AaControl.from_json(control)


def measure_each(bench: Bench, jobs: Sequence[Job], policy: Policy, budget_s: float) -> tuple[list[Measurement], None]:
    """Time each kernel alone, after one of them has failed among the others: only the culprit is blamed.

    There is no A/A control then.
    """
    alone = dataclasses.replace(policy, max_time_s=min(policy.max_time_s, budget_s / len(jobs)))
    return [bench.measure(job, alone) for job in jobs], None
