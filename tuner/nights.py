"""What is stored of a night: Night, CellKey, CellNight, Finding, Acceptance. Times are seconds, ratios logarithms.

A *night* is one run of all cells. A *cell* is one thing that is measured every night under conditions that do not
change; its *series* are the values of one name, night by night.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tuner.caveats import Caveat
from tuner.records import require_text

CAVEAT = "caveat"
"""The name of a cell night's caveat among its facts."""


class CellKind(enum.StrEnum):
    """What a cell measures."""

    MODEL = "model"
    KERNEL = "kernel"
    SPACE = "space"  # a recorded space: the quality of the search, without a device


class Outcome(enum.StrEnum):
    """The verdict on a cell's night, or on one of its series."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    UNDECIDED = "undecided"
    MISSING = "missing"  # it could not be measured here, or there was no time
    BROKEN = "broken"  # it was tried, and failed


class Cause(enum.StrEnum):
    """Why a series changed."""

    CODE = "our code"
    SEARCH = "our search"
    LIBRARY = "compiler or library"
    LUCK = "search luck"
    BASELINE = "baseline"
    ENVIRONMENT = "environment"
    NOISE = "noise"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class CellKey:
    """What must be the same for two nights of a cell to be compared. `shape` and `dtype` are as configured: empty where
    the model itself says them. `budget` is in words: seconds of search, or evaluations of a recorded space.

    `device` is the model of CPU or GPU, empty where there was none; it is not part of `id`.
    """

    name: str
    kind: CellKind
    source: str
    shape: str = ""
    dtype: str = ""
    target: str = ""
    threads: int = 0
    budget: str = ""
    seed: int = 0
    device: str = ""

    @property
    def id(self) -> str:
        """12 hexadecimal digits over everything but the device. Must never change."""
        parts = [getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "device"]
        return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError, TypeError or KeyError where `data` is not what `to_json` makes."""
        texts = {
            name: require_text(data[name])
            for name in ("name", "source", "shape", "dtype", "target", "budget", "device")
        }
        return cls(kind=CellKind(data["kind"]), threads=int(data["threads"]), seed=int(data["seed"]), **texts)


@dataclass(frozen=True)
class Night:
    """One run of all cells. `number` orders nights as they were begun, whatever the clock said; 0 before it is stored.

    `began_at` and `ended_at` are UTC, ISO 8601; `ended_at` is empty for a night that goes on or was killed. `commit` is
    the git revision, `branch` its branch (each empty where it is not known), `environment` an id of
    `tuner.environment.environment_id`, `versions` those of the packages. `origin`: "night", or "backfill" of a commit.
    `site`: the folder that the site is written into, as the night's own process would open it.
    """

    id: str
    began_at: str
    commit: str = ""
    branch: str = ""
    environment: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    origin: str = "night"
    ended_at: str = ""
    number: int = 0
    notes: tuple[str, ...] = ()
    site: str = ""

    def to_json(self) -> dict[str, Any]:
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | {"notes": list(self.notes)}
        return data if self.site else {name: value for name, value in data.items() if name != "site"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError, TypeError or KeyError where `data` is not what `to_json` makes."""
        names = ("id", "began_at", "commit", "branch", "environment", "config", "origin", "ended_at")
        return cls(
            **{name: require_text(data[name]) for name in names},
            versions=_texts(data["versions"]),
            machine=_mapping(data["machine"]),
            number=int(data["number"]),
            notes=tuple(map(require_text, data["notes"])),
            site=require_text(data.get("site", "")),
        )


@dataclass(frozen=True)
class Finding:
    """The verdict on one series of a cell in one night.

    `value` is tonight's, `base` the level of the series before (a log ratio, or a value of its unit); `change` the log
    ratio between them, above 0 where it is worse; `threshold` what `change` has to exceed in this series (a log
    ratio). `interval` is the 95 % interval of `change` where it was measured in pairs. `confirmed`: None where there
    was nothing to confirm, else whether the second, reversed run agreed. `evidence`: sentences.
    """

    series: str
    outcome: Outcome
    value: float | None = None
    base: float | None = None
    change: float | None = None
    threshold: float | None = None
    interval: tuple[float, float] | None = None
    confirmed: bool | None = None
    cause: Cause | None = None
    evidence: tuple[str, ...] = ()

    @property
    def regression(self) -> bool:
        """Whether this is an alert: something of ours got worse, and a second run said so too."""
        return self.outcome is Outcome.WORSE and self.confirmed is True

    def to_json(self) -> dict[str, Any]:
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        interval = None if self.interval is None else list(self.interval)
        return {name: value for name, value in data.items() if value not in (None, ())} | (
            {"interval": interval} if interval else {}
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError, TypeError or KeyError where `data` is not what `to_json` makes."""
        numbers = {name: _number(data.get(name)) for name in ("value", "base", "change", "threshold")}
        interval = data.get("interval")
        confirmed, cause = data.get("confirmed"), data.get("cause")
        return cls(
            series=require_text(data["series"]),
            outcome=Outcome(data["outcome"]),
            interval=None if interval is None else (float(interval[0]), float(interval[1])),
            confirmed=None if confirmed is None else bool(confirmed),
            cause=None if cause is None else Cause(cause),
            evidence=tuple(map(require_text, data.get("evidence", ()))),
            **numbers,
        )


@dataclass(frozen=True)
class CellNight:
    """One cell in one night.

    `outcome` is the worst of its findings, `reason` why it is missing or broken. `seconds` has the medians by entry
    (`reference`, `rebuilt`, `searched`, and the baselines); `ratios` the log ratios of two entries by `A/B`,
    `intervals` their 95 % intervals; `structure` numbers by series (`rebuilt.instructions`, ...), and `texts` what is
    compared for equality (`rebuilt.code_hash`, ...). `reference` is the id of the night whose artifact was the
    reference. `facts`: anything else for a reader. `samples`: the paired blocks by entry and round; only
    `history.samples` reads them.
    """

    night: str
    cell: CellKey
    outcome: Outcome
    reason: str = ""
    reference: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    structure: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    wall_s: float = 0.0
    samples: Mapping[str, Mapping[int, float]] = field(default_factory=dict, compare=False)

    def value(self, series: str) -> float | None:
        """Tonight's value of a series by its name: seconds of an entry, a log ratio `A/B`, or a number of structure."""
        for values in (self.ratios, self.seconds, self.structure):
            if series in values:
                return values[series]
        return None

    @property
    def caveat(self) -> Caveat:
        """What its times are."""
        return Caveat.from_json(self.facts.get(CAVEAT))

    @property
    def regressions(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.regression)

    def to_json(self) -> dict[str, Any]:
        """Without the samples."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "samples"}
        return data | {
            "cell": self.cell.to_json(),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError, TypeError or KeyError where `data` is not what `to_json` makes."""
        return cls(
            night=require_text(data["night"]),
            cell=CellKey.from_json(data["cell"]),
            outcome=Outcome(data["outcome"]),
            reason=require_text(data["reason"]),
            reference=require_text(data["reference"]),
            seconds=_numbers(data["seconds"]),
            ratios=_numbers(data["ratios"]),
            intervals={name: (float(low), float(high)) for name, (low, high) in _mapping(data["intervals"]).items()},
            structure=_numbers(data["structure"]),
            texts=_texts(data["texts"]),
            findings=tuple(map(Finding.from_json, data["findings"])),
            notes=tuple(map(require_text, data["notes"])),
            facts=_mapping(data["facts"]),
            wall_s=float(data["wall_s"]),
        )


@dataclass(frozen=True)
class Acceptance:
    """A change that a person accepted: from `night` on the cell is judged against what was found in it."""

    cell: str
    night: str
    why: str
    at: str
    commit: str = ""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises TypeError or KeyError where `data` is not what `to_json` makes."""
        return cls(**{f.name: require_text(data[f.name]) for f in dataclasses.fields(cls)})


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"a mapping expected, got {type(value).__name__}")
    return value


def _numbers(value: object) -> dict[str, float]:
    return {require_text(name): _finite(number) for name, number in _mapping(value).items()}


def _texts(value: object) -> dict[str, str]:
    return {require_text(name): require_text(text) for name, text in _mapping(value).items()}


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"a finite number expected, got {value!r}")
    return float(value)


def _number(value: object) -> float | None:
    return None if value is None else _finite(value)


@dataclass(frozen=True)
class Since:
    """How a model stands since its cell's last night, in a sentence; `page` is the cell's page, empty where none was
    written."""

    cell: str
    sentence: str
    page: str = ""
