"""What is stored of a run: Status, Fidelity, Measurement, Record. All times are seconds.

A Measurement has samples if and only if its status is `ok`; construction checks it.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

PROTOCOL_VERSION = 1
"""Version of the timing protocol. Records of another version are not comparable and not reused."""


class Status(enum.StrEnum):
    """The outcome for one candidate."""

    OK = "ok"
    INVALID = "invalid"  # the schedule cannot be applied, or the target forbids it; never built
    BUILD_FAILED = "build failed"
    BUILD_TIMEOUT = "build timeout"
    RUN_FAILED = "run failed"
    RUN_TIMEOUT = "run timeout"
    WRONG_RESULT = "wrong result"
    SUSPECT = "suspect"  # faster than physics allows
    DEFERRED = "deferred"  # built, and to be measured elsewhere; never stored
    CENSORED = "censored"  # slower than `censored_at_s`, where timing stopped


class Fidelity(enum.StrEnum):
    """How carefully something was timed. A report's results are of `certify` only."""

    SCREEN = "screen"
    RANK = "rank"
    CERTIFY = "certify"


class Label(enum.StrEnum):
    """The verdict of a comparison, on the first of two things against the second."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    UNDECIDED = "UNDECIDED"


class CpuState(enum.StrEnum):
    """Whether the CPUs in use share a last-level cache, as `tuner.measure.states` tells it."""

    TOGETHER = "together"
    APART = "apart"
    ONE = "one state"  # no difference was ever seen, and nothing says in which of the two the machine is
    MIXED = "mixed"  # it changed meanwhile, or figures of several states were taken together
    UNKNOWN = "unknown"  # it could not be measured, for other processes kept the CPUs


_FORMER_NAMES = {
    "barred": "excluded", "certification": "session_id", "samples_disturbed": "samples_preempted",
}  # fmt: skip
"""Names of conditions in measurements that earlier versions stored, and today's names."""


@dataclass(frozen=True)
class Conditions:
    """What a measurement was made under. What steers a decision is a field; `details` are what readers may ask for.

    `cost_s`: seconds of search that it took. `batch`: the batch of its task's search. `excluded`: why its time may not
    win, e.g. because the GPU was throttled or shared; empty when it may. `session_id`: only measurements of one session
    are compared pair by pair; `rounds` has, for each process, the number of the round that each sample is from, and
    `aa_floor` is the session's A/A noise floor (a log ratio). `device`: where it was measured, if not here.
    """

    cost_s: float | None = None
    batch: int | None = None
    excluded: str = ""
    session_id: str = ""
    rounds: tuple[tuple[int, ...], ...] = ()
    aa_floor: float | None = None
    device: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """One flat mapping; what is not known is left out."""
        known = {name: value for name in _DECIDING if (value := getattr(self, name)) not in (None, "", ())}
        return {**self.details, **known} | ({"rounds": [list(r) for r in self.rounds]} if self.rounds else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, also of what earlier versions wrote. A field that holds no sense is left out.

        Raises TypeError where `data` is no mapping.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"expected a mapping of conditions, not {data!r}")
        stated = {_FORMER_NAMES.get(name, name): value for name, value in data.items() if name != "round"}
        if "round" in data:  # of one process; what was pooled has `rounds` beside it
            stated.setdefault("rounds", [data["round"]])
        known = {name: read(stated[name]) for name, read in _DECIDING.items() if name in stated}
        details = {name: value for name, value in stated.items() if name not in _DECIDING}
        return cls(**{name: value for name, value in known.items() if value is not None}, details=details)


def _sensible_seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < math.inf else None


def _sensible_count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _sensible_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _sensible_rounds(value: object) -> tuple[tuple[int, ...], ...] | None:
    lists = value if isinstance(value, list | tuple) else ()
    whole = all(isinstance(r, list | tuple) and all(isinstance(number, int) for number in r) for r in lists)
    return tuple(tuple(r) for r in lists) if whole else None


_DECIDING: Mapping[str, Callable[[object], Any]] = {
    "cost_s": _sensible_seconds, "batch": _sensible_count, "excluded": _sensible_text, "session_id": _sensible_text,
    "rounds": _sensible_rounds, "aa_floor": _sensible_seconds, "device": _sensible_text,
}  # fmt: skip
"""The fields of `Conditions` that are not details, and how each is read."""


@dataclass(frozen=True)
class Measurement:
    """The outcome of building, checking and timing one kernel or model.

    `samples_s` are raw seconds per call, one per timed block: at least one when `status` is ok, none otherwise.
    `stopped_by` names the rule that ended the sampling. `censored_at_s` is set if and only if the status is
    `censored`: the true time is above it.
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
    conditions: Conditions = Conditions()

    def __post_init__(self) -> None:
        if (self.status is Status.OK) != bool(self.samples_s):
            raise ValueError(f"status {self.status} with {len(self.samples_s)} samples")
        if not all(math.isfinite(s) and s > 0 for s in self.samples_s):
            raise ValueError("samples must be finite and positive seconds")
        if (self.status is Status.CENSORED) != (self.censored_at_s is not None):
            raise ValueError("censored_at_s must be set in censored measurements, and in no others")
        if not (0 <= self.build_s < math.inf and 0 <= self.run_s < math.inf):
            raise ValueError("build_s and run_s must be finite seconds, not negative")

    @classmethod
    def censored(
        cls, limit_s: float, fidelity: Fidelity, run_s: float = 0.0, conditions: Conditions = Conditions()
    ) -> Self:
        """Of a kernel whose timing stopped because a call took longer than `limit_s` seconds."""
        return cls(
            Status.CENSORED, fidelity=fidelity, reason=f"over {limit_s:.3g} s", censored_at_s=limit_s, run_s=run_s,
            conditions=conditions,
        )  # fmt: skip

    @property
    def ok(self) -> bool:
        return self.status is Status.OK

    @property
    def failed(self) -> bool:
        """Whether nothing is known of the kernel's time, and nothing is to come."""
        return self.status not in (Status.OK, Status.CENSORED, Status.DEFERRED)

    @property
    def median_s(self) -> float:
        """Median seconds per call. Raises ValueError where there are no samples."""
        if not self.samples_s:
            raise ValueError(f"a measurement that is {self.status} has no time")
        ordered = sorted(self.samples_s)
        middle = len(ordered) // 2
        if len(ordered) % 2:
            return ordered[middle]
        return 0.5 * (ordered[middle - 1] + ordered[middle])

    def to_json(self) -> dict[str, Any]:
        """JSON-able data, for a pipe or a database; `from_json` is the inverse."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return data | {"samples_s": list(self.samples_s), "conditions": self.conditions.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Reads what earlier versions wrote, too.

        Raises ValueError, TypeError or KeyError where `data` is not what `to_json` makes, e.g. because it is damaged.
        """
        return cls(
            status=Status(data["status"]),
            samples_s=tuple(map(_require_number, data["samples_s"])),
            fidelity=Fidelity(data["fidelity"] if "fidelity" in data else data["tier"]),
            stopped_by=require_text(data["stopped_by"]),
            reason=require_text(data["reason"]),
            censored_at_s=_optional_number(data["censored_at_s"]),
            max_abs_error=_optional_number(data["max_abs_error"]),
            max_rel_error=_optional_number(data["max_rel_error"]),
            build_s=_require_number(data["build_s"]),
            run_s=_require_number(data["run_s"]),
            conditions=Conditions.from_json(data["conditions"]),
        )


@dataclass(frozen=True)
class Record:
    """One trial as it is stored: appended once, never rewritten.

    `candidate` is `Candidate.to_text()`. `scope` is the key of everything that must match for a record to be reused
    (target, threads, versions, protocol, CPU model), see `tuner.environment.scope_key`.

    `columns` names the `features`, one name a value. Features without names are of an earlier version, or their names
    were lost to damage: nothing may be learned from them. `environment` is `tuner.environment.environment_id` of the
    machine and the installation, `commit` the git revision of this program; each is empty where it is not known.
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
    columns: tuple[str, ...] = ()
    environment: str = ""
    commit: str = ""

    def __post_init__(self) -> None:
        if self.columns and len(self.columns) != len(self.features):
            raise ValueError(f"{len(self.features)} features with {len(self.columns)} names")


def require_text(value: object) -> str:
    """`value`, which was read from outside. Raises TypeError where it is no text, ValueError where it is no UTF-8."""
    if not isinstance(value, str):
        raise TypeError(f"text expected, got {type(value).__name__}")
    if not value.isascii():
        value.encode()  # refuses the surrogates that stand for bytes that are no UTF-8
    return value


def _require_number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a number expected, got {type(value).__name__}")
    return float(value)


def _optional_number(value: object) -> float | None:
    return None if value is None else _require_number(value)
