"""Faults of known causes, injected into nights that are otherwise as noisy as ever: which cause is named?

Verdicts are those of `tuner.nightly.verdicts`; what it would measure further (a second run, further seeds, an earlier
commit) is drawn from the same noise.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.nightly import noise
from tuner.nightly.lines import Context
from tuner.nightly.measuring import Measured
from tuner.nightly.verdicts import CODE, SEARCH, WHOLE, Again, absent, judge, outcome_of
from tuner.nights import Cause, CellKey, CellKind, CellNight, Finding, Night, Outcome

NIGHTS = 30
COMMITTED = 0.7
"""The share of nights with new commits."""
LUCK = 0.02
"""The deviation of what a search finds, over seeds."""
MACHINE = 0.05
"""The deviation of absolute times between nights."""
BASELINES = ("torch", "onnxruntime")
KEY = CellKey("cell", CellKind.MODEL, "onnx:model", device="CPU")

EXPECTED = {
    "slower code": (CODE, Cause.CODE),
    "slower library build": (CODE, Cause.LIBRARY),
    "search made worse": (SEARCH, Cause.SEARCH),
    "baseline upgraded": ("torch/reference", Cause.BASELINE),
    "slower machine": ("reference", Cause.ENVIRONMENT),
    "missing cell": ("cell", Cause.MISSING),
    "no fault": ("", None),
}
"""By fault, the series that must tell it, and the cause."""


@dataclass
class World:
    """One series of nights. `code`, `search`, `torch` and `machine` are log ratios that a fault adds."""

    rng: np.random.Generator
    core: Any
    scale: float
    code: float = 0.0
    search: float = 0.0
    torch: float = 0.0
    machine: float = 0.0

    def within(self) -> float:
        return self.scale * float(self.rng.choice(self.core))

    def luck(self) -> float:
        return LUCK * float(np.abs(self.rng.standard_normal()))

    def measured(self) -> Measured:
        code, found = self.code + self.within(), self.search + self.luck() + self.within()
        level = self.machine + MACHINE * float(self.rng.standard_normal())
        others = {
            "torch": 0.5 + self.torch + 3 * self.within(),
            "onnxruntime": 0.2 + 3 * self.within(),
        }
        logs = {"reference": level, "rebuilt": level + code, "searched": level + code + found}
        logs |= {name: level + ratio for name, ratio in others.items()}
        return Measured(
            seconds={name: 1e-3 * float(np.exp(value)) for name, value in logs.items()},
            ratios={CODE: code, SEARCH: found, WHOLE: code + found}
            | {f"{name}/reference": ratio for name, ratio in others.items()},
            texts={"rebuilt.code_hash": "slow" if self.code else "same"},
        )


def _night(number: int, commit: int, versions: dict[str, str]) -> Night:
    return Night(f"n{number}", "", f"{commit:040x}", "main", "e", versions, {"cpu": "CPU"}, number=number)


def _stored(measured: Measured, night: Night, findings: list[Finding], outcome: Outcome) -> CellNight:
    return CellNight(
        night.id, KEY, outcome, "", "n0", measured.seconds, measured.ratios, texts=measured.texts,
        findings=tuple(findings),
    )  # fmt: skip


def one(fault: str, rng: np.random.Generator, core: Any) -> list[Finding]:
    """The findings of the night in which a fault comes."""
    world = World(rng, core, noise.SCALE * float(np.exp(noise.SPREAD * rng.standard_normal())))
    versions = {"apache-tvm": "1+a", "torch": "1+a", "onnxruntime": "1+a", "numpy": "1+a"}
    commit, nights, past = 1, {}, []
    for number in range(NIGHTS):
        commit += int(rng.random() < COMMITTED)
        night = nights[f"n{number}"] = _night(number, commit, versions)
        measured = world.measured()
        if not number:
            measured = replace(measured, ratios={}, texts={"searched.code_hash": "same"})
        past.append(_stored(measured, night, [], Outcome.SAME))
    before, versions = world, dict(versions)
    commit += int(rng.random() < COMMITTED or fault in ("slower code", "search made worse"))
    if fault == "slower code":
        world = replace(world, code=float(rng.uniform(0.05, 0.3)))
        versions |= {"numpy": "2+a"} if rng.random() < 0.2 else {}
    elif fault == "slower library build":
        world = replace(world, code=float(rng.uniform(0.05, 0.3)))
        versions["apache-tvm"] = "1+b"
    elif fault == "search made worse":
        world = replace(world, search=float(rng.uniform(0.1, 0.3)))
    elif fault == "baseline upgraded":
        world = replace(world, torch=float(rng.choice([-1, 1]) * rng.uniform(0.08, 0.3)))
        versions["torch"] = "2+a"
    elif fault == "slower machine":
        world = replace(world, machine=float(rng.uniform(0.35, 0.8)))
    tonight = _night(NIGHTS, commit, versions)
    measured = world.measured()
    if fault == "missing cell":
        gone = Measured().failed(Outcome.MISSING, "no such device here")
        return [absent(gone, past)]
    with_todays_libraries = world if fault == "slower library build" else before

    def at_commit(commit: str) -> float:
        return with_todays_libraries.measured().ratios[CODE]

    confirm = world.measured
    again = Again(lambda: confirm().ratios, lambda number: world.measured().ratios[SEARCH], 3, at_commit)
    context = Context(past, nights | {tonight.id: tonight}, tonight, "n0")
    findings = judge(measured, context, again)
    assert outcome_of(measured, findings) in Outcome
    return findings


def named(each: int, seed: int) -> dict[str, Any]:
    """Of each fault, the share whose cause was named, and what was named instead."""
    core = noise.standardized()
    told: dict[str, Any] = {}
    for place, (fault, (series, cause)) in enumerate(EXPECTED.items()):
        causes: Counter[str] = Counter()
        for number in range(each):
            findings = one(fault, np.random.default_rng([seed, place, number]), core)
            causes[_named(findings, series, cause)] += 1
        right = "right" if cause is not None else "nothing"
        told[fault] = {
            "each": each,
            "right": causes[right] / each,
            "instead": {k: v for k, v in causes.items() if k != right},
        }
    return told


def _named(findings: list[Finding], series: str, cause: Cause | None) -> str:
    """`right`, or what was said instead. Without a fault nothing is to be an alert."""
    if cause is None:
        return "an alert" if any(finding.regression for finding in findings) else "nothing"
    wrong = [f for f in findings if f.regression and f.series != series]
    if wrong:
        return f"{wrong[0].series}: {wrong[0].cause}"
    found = next((f for f in findings if f.series == series), None)
    if found is None or found.cause is None:
        return "not seen"
    return "right" if found.cause is cause else str(found.cause)
