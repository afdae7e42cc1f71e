"""Measurement replay for bundles: a file of measurements stands in for a GPU."""

from __future__ import annotations

import json
from pathlib import Path

from tuner.bundle.archive import Bundle
from tuner.bundle.measurements import read_measurements
from tuner.errors import BundleError
from tuner.protocols import Job, Policy
from tuner.records import Measurement, Status

_HINT = "give the measurements of this bundle, as `python -m tuner measure` wrote them"


class BundleReplayBench:
    """Implements `devices.device.BundleBench` with what a file has of the same task, candidate and fidelity, of an
    equal target and mode.

    What it does not have fails. One of which every sample is over `policy.give_up_above_s` is censored.
    """

    def __init__(self, path: Path) -> None:
        """Raises BundleError for a file that holds no measurements."""
        header, rows = read_measurements(path)
        self.device = rows[0].device if rows else next(iter(header.devices), "nothing recorded")
        self._path, self._header = path, header
        self._measurements = {row.key: row.measurement for row in rows}

    def require(self, bundle: Bundle) -> None:
        """Raises BundleError, naming both, where the file has nothing of a bundle: it was recorded of another one."""
        manifest = bundle.manifest
        recorded = f"recorded of bundle {self._header.bundle_sha256[:12]}"
        of_this = f"the bundle to measure is {bundle.sha256[:12]}"
        for name in ("target", "mode"):
            was, wanted = getattr(self._header, name), getattr(manifest, name)
            if was != wanted:
                was, wanted = (was, wanted) if _short(was) == _short(wanted) else (_short(was), _short(wanted))
                raise BundleError(str(self._path), f"{recorded} for the {name} {was}; {of_this}, for {wanted}", _HINT)
        known = {(task, candidate) for task, candidate, _ in self._measurements}
        if not any((item.task, item.candidate) in known for item in manifest.items):
            raise BundleError(str(self._path), f"{recorded}; {of_this}, and none of its kernels is in it", _HINT)

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


def _short(text: str) -> str:
    """The kind and the model of a target as JSON; another text as it is."""
    try:
        target = json.loads(text)
        return " ".join(str(target[key]) for key in ("kind", "model") if key in target)
    except (ValueError, TypeError):
        return text
