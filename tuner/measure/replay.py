"""Recorded measurements in place of timing: a search can be repeated exactly, and without waiting.

A recording is a JSON file of measurements by the key of what was timed, and by tier. Times are seconds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import InfrastructureError
from tuner.files import write_aside
from tuner.protocols import Job, Launchable, Policy, Runner
from tuner.records import Conditions, Fidelity, Measurement, Status

if TYPE_CHECKING:
    from tuner.protocols import Array

_SCHEMA = 1

_UNKNOWN_COST_S = 0.1
"""What a trial costs that is not in a recording: about what others do, and always the same, since costs decide which
task is next."""


@dataclass(frozen=True)
class Recording:
    """`measurements` by (key of the launchable, tier); `ceilings` are those of the machine they were made on."""

    measurements: Mapping[tuple[str, Fidelity], Measurement]
    ceilings: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Raises OutputError."""
        listed = [[key, fidelity, found.to_json()] for (key, fidelity), found in self.measurements.items()]
        content = {"schema": _SCHEMA, "ceilings": dict(self.ceilings), "measurements": listed}
        write_aside(path, json.dumps(content).encode() + b"\n")

    @staticmethod
    def load(path: Path) -> Recording:
        """Raises InfrastructureError, naming the file, when there is none or it is damaged."""
        try:
            content = json.loads(path.read_bytes())
            if content["schema"] != _SCHEMA:
                raise ValueError(f"schema {content['schema']!r}")
            found = {
                (str(key), Fidelity(fidelity)): Measurement.from_json(stated)
                for key, fidelity, stated in content["measurements"]
            }
            return Recording(found, dict(content["ceilings"]))
        except OSError as error:
            raise InfrastructureError(f"{path}: {error.strerror}", "record the measurements again") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InfrastructureError(
                f"{path}: not a recording of schema {_SCHEMA}: {error}", "record the measurements again"
            ) from error


class ReplayBench:
    """Answers with what was recorded of a kernel's symbol; nothing is loaded. Implements `protocols.Bench`."""

    def __init__(self, recording: Recording) -> None:
        self._runner = ReplayRunner(recording)

    @property
    def rechecks(self) -> bool:
        return False

    def measure(self, job: Job, policy: Policy) -> Measurement:
        return self._runner.answer(job.entry, policy)

    def measure_interleaved(
        self, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], None]:
        return [self.measure(job, policy) for job in jobs], None

    def store_outputs(self, job: Job, path: Path) -> str | None:
        return "outputs are not recorded"

    def renew(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


class ReplayRunner:
    """Answers with what was recorded; nothing is launched. Implements `protocols.Runner`.

    What is not in the recording is timed by `otherwise`; without one it is a failed run that says so.
    """

    def __init__(self, recording: Recording, otherwise: Runner | None = None) -> None:
        self._recording = recording
        self._otherwise = otherwise

    def run(
        self, launchable: Launchable, inputs: Sequence[Array], policy: Policy, called_before: bool = False
    ) -> Measurement:
        """The recorded measurement; censored where every sample of it is over `policy.give_up_above_s`.

        Not where the first one is: a runner takes a sample that may be one lost time slice again.
        """
        if self._otherwise is not None and (launchable.key, policy.fidelity) not in self._recording.measurements:
            return self._otherwise.run(launchable, inputs, policy)
        return self.answer(launchable.key, policy)

    def answer(self, key: str, policy: Policy) -> Measurement:
        """What was recorded under a key."""
        found = self._recording.measurements.get((key, policy.fidelity))
        if found is None:
            reason = f"{key} is not in the recording"
            conditions = Conditions(cost_s=_UNKNOWN_COST_S)
            return Measurement(Status.RUN_FAILED, fidelity=policy.fidelity, reason=reason, conditions=conditions)
        limit = policy.give_up_above_s
        if found.ok and limit is not None and min(found.samples_s) > limit:
            return dataclasses.replace(
                found, status=Status.CENSORED, samples_s=(), reason=f"over {limit:.3g} s", censored_at_s=limit
            )
        return found
