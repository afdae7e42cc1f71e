"""The nouns that survive a run: Status, Measurement, Record.

A Measurement has numbers if and only if its status is `ok`; the invariant is checked on construction.
All times are seconds.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

PROTOCOL_VERSION = 1
"""Version of the timing protocol. Records of another version are not comparable and not reused."""


_RENAMED = {"barred": "excluded", "samples_disturbed": "samples_preempted"}
"""Names of conditions that earlier versions stored."""


class Status(enum.StrEnum):
    """What became of one candidate."""

    OK = "ok"
    INVALID = "invalid"  # the schedule cannot be applied, or the target forbids it; never built
    BUILD_FAILED = "build failed"
    BUILD_TIMEOUT = "build timeout"
    RUN_FAILED = "run failed"
    RUN_TIMEOUT = "run timeout"
    WRONG_RESULT = "wrong result"
    SUSPECT = "suspect"  # faster than physics allows
    CENSORED = "censored"  # given up: slower than `censored_at_s`, never timed further


class Fidelity(enum.StrEnum):
    """How carefully something was timed; only `certify` may appear in a report as a result."""

    SCREEN = "screen"
    RANK = "rank"
    CERTIFY = "certify"


class Label(enum.StrEnum):
    """The verdict of a comparison, on the first of two things against the second."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    UNDECIDED = "UNDECIDED"


@dataclass(frozen=True)
class Measurement:
    """The outcome of building, checking and timing one thing.

    `samples_s` are raw seconds per call, one per timed block; never empty when `status` is ok and
    always empty otherwise. `stopped_by` says which rule ended the sampling. `censored_at_s` is set
    if and only if the status is `censored`: the true time is above it.
    """

    status: Status
    samples_s: tuple[float, ...] = ()
    fidelity: Fidelity = Fidelity.SCREEN
    stopped_by: str = ""
    reason: str = ""
    censored_at_s: float | None = None
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    build_s: float = 0.0
    run_s: float = 0.0
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.status is Status.OK) != bool(self.samples_s):
            raise ValueError(f"status {self.status} with {len(self.samples_s)} samples")
        if not all(math.isfinite(s) and s > 0 for s in self.samples_s):
            raise ValueError("samples must be finite and positive seconds")
        if (self.status is Status.CENSORED) != (self.censored_at_s is not None):
            raise ValueError("censored_at_s belongs to censored measurements, and only to them")
        if not (0 <= self.build_s < math.inf and 0 <= self.run_s < math.inf):
            raise ValueError("build_s and run_s must be finite seconds, not negative")

    @property
    def ok(self) -> bool:
        return self.status is Status.OK

    @property
    def median_s(self) -> float:
        """Median seconds per call. Raises ValueError when there is no number to give."""
        if not self.samples_s:
            raise ValueError(f"a measurement that is {self.status} has no time")
        ordered = sorted(self.samples_s)
        middle = len(ordered) // 2
        if len(ordered) % 2:
            return ordered[middle]
        return 0.5 * (ordered[middle - 1] + ordered[middle])

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a pipe or a database; `from_json` is the inverse."""
        stated = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return stated | {"samples_s": list(self.samples_s), "conditions": dict(self.conditions)}

    @classmethod
    def from_json(cls, stated: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, also of what earlier versions wrote.

        Raises ValueError, TypeError or KeyError on what `to_json` cannot have made: the source may be damaged.
        """
        conditions: dict[str, Any] = dict(stated["conditions"])
        return cls(
            status=Status(stated["status"]),
            samples_s=tuple(_number(sample) for sample in stated["samples_s"]),
            fidelity=Fidelity(stated["fidelity"] if "fidelity" in stated else stated["tier"]),
            stopped_by=text(stated["stopped_by"]),
            reason=text(stated["reason"]),
            censored_at_s=_number_or_none(stated["censored_at_s"]),
            max_abs_error=_number_or_none(stated["max_abs_error"]),
            max_rel_error=_number_or_none(stated["max_rel_error"]),
            build_s=_number(stated["build_s"]),
            run_s=_number(stated["run_s"]),
            conditions={_RENAMED.get(name, name): value for name, value in conditions.items()},
        )


def excluded(measurement: Measurement) -> str:
    """Why a time may not win though it is kept: the GPU was throttled, or not ours alone. Empty when it may."""
    return str(measurement.conditions.get("excluded", ""))


@dataclass(frozen=True)
class Record:
    """One trial as it is stored: append-only, never rewritten.

    `candidate` is `Candidate.totext()`; `scope` is the key of everything that must match for a
    record to be reused (target, threads, versions, protocol, CPU model), see
    `tuner.environment.scope_key`.
    """

    run_id: str
    task_key: str
    task_name: str
    scope: str
    trial: int
    candidate: str
    proposer: str
    measurement: Measurement
    seed: int
    created_at: str
    features: tuple[float, ...] = ()


def text(value: object) -> str:
    """A text that was read. Raises TypeError, or ValueError for what is no UTF-8."""
    if not isinstance(value, str):
        raise TypeError(f"text expected, got {type(value).__name__}")
    value.encode()  # refuses the stand-ins for bytes that are no UTF-8
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a number expected, got {type(value).__name__}")
    return float(value)


def _number_or_none(value: object) -> float | None:
    return None if value is None else _number(value)
