"""The whole model: linked, verified against independent answers, and timed beside its rivals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tuner.measure.comparison import BenchmarkEntry, ComparisonResult, contest, thread_env
from tuner.outputs import check_outputs
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Array

TUNED = "tuned"
UNTUNED = "untuned"

MODEL_RTOL = 1e-3
MODEL_ATOL = 1e-4
"""Tolerances of whole-model outputs: rtol on each element plus atol in units of the largest output.

fp32 rounding grows over a hundred layers and differs with the order of summation; frameworks differ from one another by
some 1e-5 of the largest output. A wrong layout or a missed bias is off by 1e-1.
"""

HALF_RTOL = 2e-2
HALF_ATOL = 2e-2
"""The same for models that answer in float16: an element carries 5e-4, and a hundred layers add theirs."""

_PREPARE_TIMEOUT_S = 300.0
_MIN_ROUNDS = 10


@dataclass
class EntrySpec:
    """Something that can compute the whole model: the service that hosts it in a child, and its settings."""

    name: str
    service: str
    settings: Mapping[str, Any]


@dataclass
class Outcome:
    """What became of the whole model. Errors are of the tuned outputs against the first reference that answered."""

    result: ComparisonResult
    settings: dict[str, str] = field(default_factory=dict)
    verified: bool = False
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    notes: list[str] = field(default_factory=list)


def compare_models(
    entrants: Sequence[EntrySpec],
    references: Sequence[str],
    inputs: Sequence[Array],
    folder: Path,
    threads: int,
    budget_s: float,
    seed: int,
    progress: Callable[[str], None],
) -> Outcome:
    """Start every entrant in a child of its own, check the tuned outputs, and time all in turn.

    `references` name the entrants whose outputs the tuned ones must equal; at least one of them must
    answer for the result to count as verified, and all that answer must agree. An entrant that does not
    start is noted and left out.
    """
    stored = folder / "inputs.npz"
    with open(stored, "wb") as file:
        np.savez(file, *inputs)
    outcome = Outcome(ComparisonResult())
    contenders: list[BenchmarkEntry] = []
    outputs: dict[str, list[Array]] = {}
    try:
        for entrant in entrants:
            progress(f"preparing {entrant.name}")
            child = Child(entrant.service, entrant.settings, env=thread_env(threads))
            try:
                outcome.settings[entrant.name] = child.call("prepare", _PREPARE_TIMEOUT_S, inputs_npz_path=str(stored))[
                    "settings"
                ]
                path = folder / f"outputs-{entrant.name}.npz"
                child.call("outputs", _PREPARE_TIMEOUT_S, path=str(path))
            except (ChildDied, ChildTimeout, ChildError) as error:
                outcome.notes.append(f"{entrant.name} is not compared: {str(error)[:300]}")
                child.close()
                continue
            outputs[entrant.name] = _arrays(path)
            contenders.append(BenchmarkEntry(entrant.name, child))
        _verify(outcome, outputs, references)
        progress("comparing whole models")
        names = [c.name for c in contenders]
        outcome.result = contest(
            contenders,
            min_rounds=_MIN_ROUNDS,
            time_budget_s=budget_s,
            seed=seed,
            incumbent=TUNED if TUNED in names else None,
        )
        outcome.notes.extend(f"{name} dropped out: {reason}" for name, reason in outcome.result.dropped.items())
    finally:
        for contender in contenders:
            contender.child.close()
    return outcome


def _arrays(path: Path) -> list[Array]:
    with np.load(path, allow_pickle=False) as stored:
        return [stored[name] for name in stored.files]


def _verify(outcome: Outcome, outputs: Mapping[str, list[Array]], references: Sequence[str]) -> None:
    if TUNED not in outputs:
        outcome.notes.append("the tuned model did not run; nothing is verified")
        return
    checks = {}
    half = any(array.dtype == np.float16 for array in outputs[TUNED])
    rtol, atol = (HALF_RTOL, HALF_ATOL) if half else (MODEL_RTOL, MODEL_ATOL)
    for name in references:
        if name in outputs:
            checks[name] = check_outputs(outputs[TUNED], outputs[name], rtol, atol)
    outcome.notes.extend(f"outputs differ from {name}: {c.reason}" for name, c in checks.items() if not c.ok)
    outcome.verified = bool(checks) and all(c.ok for c in checks.values())
    if not checks:
        outcome.notes.append("no independent reference answered; outputs are not verified")
        return
    outcome.max_abs_error = max((c.max_abs_error for c in checks.values() if c.max_abs_error is not None), default=None)
    outcome.max_rel_error = max((c.max_rel_error for c in checks.values() if c.max_rel_error is not None), default=None)
    outcome.notes.append(f"tuned outputs compared with {', '.join(checks)} on seeded inputs")


def run_once(
    library: Path, inputs: Sequence[Array], folder: Path, threads: int, device: str = "cpu"
) -> list[Array] | str:
    """The outputs of a compiled model, computed in a fresh child; the reason when it fails."""
    stored, answers = folder / "once-inputs.npz", folder / "once-outputs.npz"
    with open(stored, "wb") as file:
        np.savez(file, *inputs)
    settings = {"library": str(library), "threads": threads, "device": device}
    with Child("tuner.measure.compiled_model:CompiledModelWorker", settings, env=thread_env(threads)) as child:
        try:
            child.call("prepare", _PREPARE_TIMEOUT_S, inputs_npz_path=str(stored))
            child.call("outputs", _PREPARE_TIMEOUT_S, path=str(answers))
        except (ChildDied, ChildTimeout, ChildError) as error:
            return str(error)
    return _arrays(answers)
