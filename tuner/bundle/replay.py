"""Measurement replay for bundles: a file of measurements stands in for a GPU."""

from __future__ import annotations

from pathlib import Path

from tuner.bundle.measurements import read_measurements
from tuner.protocols import Job, Policy
from tuner.records import Measurement, Status


class BundleReplayBench:
    """Implements `devices.device.BundleBench` with what a file has of the same task, candidate and fidelity.

    What it does not have fails. One of which every sample is over `policy.give_up_above_s` is censored.
    """

    def __init__(self, path: Path) -> None:
        """Raises BundleError for a file that holds no measurements."""
        header, rows = read_measurements(path)
        self.device = rows[0].device if rows else next(iter(header.devices), "nothing recorded")
        self._measurements = {row.key: row.measurement for row in rows}

    def measure(self, job: Job, policy: Policy) -> Measurement:
        measured = self._measurements.get((job.task, job.candidate, policy.fidelity))
        if measured is None:
            return Measurement(Status.RUN_FAILED, fidelity=policy.fidelity, reason="not in the recorded measurements")
        limit = policy.give_up_above_s
        if measured.ok and limit is not None and min(measured.samples_s) > limit:
            return Measurement.censored(limit, policy.fidelity)
        return measured

    def close(self) -> None:
        """Nothing is held."""
