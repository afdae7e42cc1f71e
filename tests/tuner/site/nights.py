"""Histories to make sites of: nights of a program that gets faster, slower, and moves to another machine."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tuner.nights import Acceptance, Cause, CellKey, CellKind, CellNight, Finding, Night, Outcome
from tuner.store.history import History

CODE, SEARCH, WHOLE = "rebuilt/reference", "searched/rebuilt", "searched/reference"
MACHINES = ({"cpu_model": "AMD EPYC 9R14", "cpu_count": 2}, {"cpu_model": "Intel Xeon <8488C>", "cpu_count": 4})


def night(number: int, moved: int) -> Night:
    """`moved`: the number of the first night on the second machine."""
    day = np.datetime64("2026-01-01") + number
    stamp = str(day).replace("-", "")
    versions = {"apache-tvm": "0.27.0", "torch": "2.12.0" if number < moved + 3 else "2.13.0"}
    return Night(
        f"{stamp}-020000", f"{day}T02:00:00+00:00", f"{number:04x}" * 10, "main", f"env{number >= moved}", versions,
        MACHINES[number >= moved], "configs/nightly.yaml",
    )  # fmt: skip


def result(key: CellKey, one: Night, number: int, count: int, rng: np.random.Generator) -> CellNight:
    """The last night is worse by a tenth, the one before it is missing; a third of the way everything gets better."""
    if number == count - 2:
        reason = "the night's budget was over"
        finding = Finding("cell", Outcome.MISSING, cause=Cause.MISSING, evidence=(reason,))
        return CellNight(one.id, key, Outcome.MISSING, reason, findings=(finding,))
    level = -0.2 if number > count // 3 else 0.0
    change = 0.1 if number == count - 1 else 0.0
    code, search = (level + change + rng.normal(0, 0.004)), rng.normal(0, 0.01)
    reference = 5e-3 * math.exp(rng.normal(0, 0.05))
    seconds = {
        "reference": reference, "rebuilt": reference * math.exp(code),
        "searched": reference * math.exp(code + search), "onnxruntime": reference * 1.1, "torch": reference * 2.4,
    }  # fmt: skip
    outcome = Outcome.WORSE if change else Outcome.BETTER if number == count // 3 + 1 else Outcome.SAME
    confirmed = None if outcome is Outcome.SAME else True
    cause = None if outcome is Outcome.SAME else Cause.CODE
    findings = [
        Finding(CODE, outcome, code, level, code - level, 0.012, (code - 0.002, code + 0.002), confirmed, cause,
                ("commit 0001 -> 0002, which changes kernels/passes/threads.py",) if cause else ()),
        Finding(SEARCH, Outcome.SAME, search, 0.0, search, 0.04),
        Finding("onnxruntime/reference", Outcome.SAME, 0.1, 0.1, 0.0, 0.02),
    ]  # fmt: skip
    structure = {
        "rebuilt.instructions": 51234.0 + 40 * (number > count // 3), "rebuilt.vector_share": 0.71,
        "searched.trials_per_s": 3.0 + rng.normal(0, 0.1), "searched.peak_bytes": 3.1e8, "rebuilt.compile_s": 4.1,
        "rebuilt.bytes_allocated": 5.5e6, "rebuilt.kernels": 27.0, "searched.load_s": 0.021,
    }  # fmt: skip
    ratios = {CODE: code, SEARCH: search, WHOLE: code + search, "onnxruntime/reference": 0.1}
    return CellNight(
        one.id, key, outcome, "", "20260101-020000", seconds, ratios, {CODE: (code - 0.002, code + 0.002)}, structure,
        {"rebuilt.code_hash": "ab" * 8}, tuple(findings), (), {"cpus": "together"}, 31.0,
    )  # fmt: skip


def fill(history: History, cells: int = 3, count: int = 40, seed: int = 0) -> list[str]:
    """Store `count` nights of `cells` cells; returns the cells' ids. The first cell's name has to be escaped."""
    rng = np.random.default_rng(seed)
    keys = [
        CellKey(f"cell-{n}" if n else "<b>resnet & co</b>", CellKind.MODEL if n % 3 != 1 else CellKind.KERNEL,
                f"torch:configs.models:m{n}", "", "float32", "llvm", 2, "60 s", 0, "AMD EPYC")
        for n in range(cells)
    ]  # fmt: skip
    for number in range(count):
        one = night(number, moved=count // 2)
        history.begin(one)
        for key in keys:
            history.add(result(key, one, number, count, rng))
        history.end(one.id, one.began_at.replace("T02", "T03"))
    accepted = night(count // 3 + 1, moved=count // 2).id
    history.accept(Acceptance(keys[0].id, accepted, "another algorithm", "2026-02-01T00:00:00+00:00"))
    return [key.id for key in keys]


def database(folder: Path) -> str:
    return f"sqlite:///{folder / 'history.db'}"
