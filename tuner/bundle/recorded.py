"""Measurements read back from a file instead of made: the whole way of a bundle without a GPU."""

from __future__ import annotations

from pathlib import Path

from tuner.bundle.measurements import read_measurements
from tuner.protocols import Job, Policy
from tuner.records import Measurement, Status


class BundleReplayBench:
    """Answers what a file of measurements holds of the same task, candidate and tier, else that it holds nothing."""

    def __init__(self, path: Path) -> None:
        """Raises BundleError for a file that is none of measurements."""
        header, rows = read_measurements(path)
        self.device = rows[0].device if rows else next(iter(header.devices), "nothing recorded")
        self._rows = {row.key: row.measurement for row in rows}

    def measure(self, job: Job, policy: Policy) -> Measurement:
        found = self._rows.get((job.task, job.candidate, policy.fidelity))
        if found is None:
            return Measurement(Status.RUN_FAILED, fidelity=policy.fidelity, reason="not in the recorded measurements")
        limit = policy.give_up_above_s
        if found.ok and limit is not None and found.samples_s[0] > limit:
            return Measurement(
                Status.CENSORED, fidelity=policy.fidelity, reason=f"over {limit:.3g} s", censored_at_s=limit
            )
        return found

    def close(self) -> None:
        """Nothing is held."""
