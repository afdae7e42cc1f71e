"""Cells without a compiler: a measurer whose true times are given, and histories made with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuner.nightly.measuring import Job, Measured
from tuner.nightly.verdicts import CODE, SEARCH, WHOLE
from tuner.nights import CellKey, CellKind, CellNight, Finding, Night, Outcome

KEY = CellKey("cell", CellKind.MODEL, "onnx:model", device="CPU, 2 threads")


@dataclass
class Synthetic:
    """Implements `measuring.Measurer`. `code` and `search` are true log ratios; `wobble` is added to every ratio of the
    first run and not to a second one. `before` is called with each job."""

    code: float = 0.0
    search: float = 0.0
    wobble: float = 0.0
    seconds: float = 1e-3
    before: Callable[[Job], None] = lambda job: None
    asked: list[str] = field(default_factory=list)

    def measure(self, job: Job) -> Measured:
        self.asked.append(job.cell.name)
        self.before(job)
        run = job.work / "run"
        (run / "export").mkdir(parents=True)
        (run / "export" / "manifest.json").write_text("{}")
        ratios = {}
        if job.reference is not None:
            ratios = {
                CODE: self.code + self.wobble, SEARCH: self.search + self.wobble,
                WHOLE: self.code + self.search + self.wobble,
            }  # fmt: skip
        logs = {"searched": self.code + self.search}
        logs |= {"reference": 0.0, "rebuilt": self.code} if job.reference is not None else {}
        return Measured(
            seconds={name: self.seconds * math.exp(value) for name, value in logs.items()}, ratios=ratios,
            texts={"searched.code_hash": "a", "rebuilt.code_hash": "b" if self.code else "a"},
            samples={"searched": {0: self.seconds}}, run=run,
        )  # fmt: skip

    def confirm(self, job: Job, measured: Measured) -> Mapping[str, float]:
        self.asked.append(f"{job.cell.name} again")
        return {CODE: self.code, SEARCH: self.search, WHOLE: self.code + self.search}

    def search_again(self, job: Job, measured: Measured, seed: int) -> float | None:
        self.asked.append(f"{job.cell.name} seed {seed}")
        return self.search

    def rebuilt_by(self, job: Job) -> float | None:
        return None


def night(number: int, commit: str = "", versions: Mapping[str, str] | None = None, cpu: str = "CPU") -> Night:
    return Night(
        f"n{number:03d}", "2026-01-01T00:00:00+00:00", commit or f"{number:040x}", "main", "e",
        versions or {"apache-tvm": "1", "torch": "1"}, {"cpu": cpu}, number=number,
    )  # fmt: skip


def result(number: int, ratios: Mapping[str, float], *findings: Finding, **changes: object) -> CellNight:
    facts = {"reference": "n000", "ratios": dict(ratios), "findings": findings, "outcome": Outcome.SAME} | changes
    return CellNight(f"n{number:03d}", KEY, **facts)  # type: ignore[arg-type]


def config(folder: Path, cells: str, **settings: object) -> str:
    """The file of a night whose cells are all of one small run file: names, each with its budget where that is not a
    second (`a:9m`)."""
    (folder / "cell.yaml").write_text('model: {source: "onnx:light_squeezenet"}\ntarget: {spec: llvm, threads: 1}\n')
    lines = [f"{name}: {value}" for name, value in settings.items()]
    lines += [f"out: {folder / 'out'}", f'database: "sqlite:///{folder / "h.db"}"', "cells:"]
    for cell in cells.split():
        name, _, budget = cell.partition(":")
        lines.append(f"  - {{name: {name}, run: {folder / 'cell.yaml'}, budget: {budget or '1s'}}}")
    path = folder / "night.yaml"
    path.write_text("\n".join(lines) + "\n")
    return str(path)
