"""The whole model: its outputs checked against independent references, and timed together with the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tuner.measure.accuracy import Yardstick, degenerate, without_number
from tuner.measure.comparison import BenchmarkEntry, ComparisonResult, compare_interleaved
from tuner.measure.states import StateProbe
from tuner.outputs import OutputCheck, check_outputs
from tuner.process.limits import for_compilers
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Array

TUNED = "tuned"
UNTUNED = "untuned"

EXACT = "float64"
"""The entry that is not timed: the model in float64, by which all others are checked."""

MODEL_RTOL = 1e-3
MODEL_ATOL = 1e-4
"""Tolerances of whole-model outputs where no float64 run can be had: rtol on each element plus atol in units of the
largest output.

fp32 rounding grows over a hundred layers and differs with the order of summation; frameworks differ from one another by
some 1e-5 of the largest output. A wrong layout or a missed bias is off by 1e-1.
"""

HALF_RTOL = 2e-2
HALF_ATOL = 2e-2
"""The same for models with outputs in float16: an element carries 5e-4, and a hundred layers add theirs."""

PIPELINE = "tuner.measure.pipeline:PipelineWorker"
"""The service of a model with islands."""

_SEGMENTS_S, _SEGMENTS_TIMEOUT_S = 0.5, 120.0
"""For how long its parts are timed, and how long that may last where one inference takes longer."""

PREPARE_S = 300.0
_EXACT_S = 120.0
_REPLY_S = 10.0
_SHOWN = 300  # characters of a child's error that a note repeats


@dataclass
class EntrySpec:
    """How a benchmark entry is started: its name, the service that computes the whole model in a child, the service's
    settings, and the seconds within which it must be ready."""

    name: str
    service: str
    settings: Mapping[str, Any]
    prepare_s: float = PREPARE_S


def compiled_entry(name: str, library: Path, threads: int, device: str = "cpu") -> EntrySpec:
    """The entry of a model that this program compiled: its library, or the folder of an export with islands."""
    settings: dict[str, Any] = {"library": str(library), "threads": threads}
    if library.is_dir():
        return EntrySpec(name, PIPELINE, settings)
    return EntrySpec(name, "tuner.measure.compiled_model:CompiledModelWorker", {**settings, "device": device})


@dataclass
class ModelComparison:
    """The tuned model against its baselines: times, whether its outputs are right, and notes for the report.

    `settings` says of each entry, in words, how it ran. `load_s` has the seconds from loading to the end of the first
    call, and `peak_bytes` the largest resident set that its process ever had, whatever took it. `verified` is None
    where no reference ran to check against. Errors are the largest of the tuned outputs against any reference that ran.
    `segments_s`: of a model with islands, what each part of the tuned one takes of an inference, in order.
    """

    result: ComparisonResult
    settings: dict[str, str] = field(default_factory=dict)
    load_s: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    verified: bool | None = None
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    segments_s: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare_models(
    specs: Sequence[EntrySpec],
    references: Sequence[str],
    inputs: Sequence[Array],
    folder: Path,
    threads: int,
    budget_s: float,
    min_rounds: int,
    seed: int,
    progress: Callable[[str], None],
    probe: StateProbe | None = None,
    more_inputs: Sequence[Array] = (),
) -> ModelComparison:
    """Start every entry in a child of its own, check the tuned outputs, and time all of them interleaved, within
    `budget_s` seconds and for at least `min_rounds` rounds.

    The spec named EXACT is not timed: its outputs, in float64, are what all others are checked by (`accuracy`), and it
    checks the tuned model on `more_inputs` too. Without it (or where it fails) `references` name the entries whose
    outputs the tuned ones must equal within a tolerance: at least one of them must run for the result to count as
    verified, and all that run must agree. An entry that does not start is noted and left out, and so is one whose
    outputs are wrong: a wrong answer is no measure of speed. `probe` tells the machine's state.
    """
    exact = next((spec for spec in specs if spec.name == EXACT), None)
    specs = [spec for spec in specs if spec.name != EXACT]
    stored = _store(inputs, folder / "inputs.npz")
    comparison = ModelComparison(ComparisonResult())
    entries: list[BenchmarkEntry] = []
    outputs: dict[str, list[Array]] = {}
    try:
        for spec in specs:
            progress(f"preparing {spec.name}")
            started = _start(spec, stored, folder, threads, comparison)
            if started is not None:
                entries.append(started[0])
                outputs[spec.name] = started[1]
        wrong = None
        if exact is not None:
            progress("computing the model in float64")
            tuned = next((spec for spec in specs if spec.name == TUNED), None)
            with _ExactRun(exact, folder, threads) as run:
                wrong = _verify_exactly(comparison, run, outputs, references, stored)
                if comparison.verified and more_inputs and tuned is not None:
                    _verify_again(comparison, run, tuned, more_inputs)
        if wrong is None:
            wrong = _by_tolerance(comparison, outputs, references)
        progress("comparing whole models")
        comparison.result = compare_interleaved(
            [entry for entry in entries if entry.name not in wrong],
            min_rounds=min_rounds,
            time_budget_s=budget_s,
            seed=seed,
            incumbent=TUNED if TUNED in outputs else None,
            probe=probe,
        )
        if any(spec.name == TUNED and spec.service == PIPELINE for spec in specs):
            comparison.segments_s = _segments_s(entries, comparison)
        comparison.peak_bytes = {e.name: peak for e in entries if (peak := _peak_bytes(e, comparison)) is not None}
        comparison.notes += [f"{name} was dropped: {reason}" for name, reason in comparison.result.dropped.items()]
    finally:
        for entry in entries:
            entry.child.close()
    return comparison


def _start(
    spec: EntrySpec, inputs: Path, folder: Path, threads: int, comparison: ModelComparison
) -> tuple[BenchmarkEntry, list[Array]] | None:
    """An entry that is ready, and its outputs; None, with a note, when it does not start."""
    child = Child(spec.service, spec.settings, env=thread_env(threads))
    path = folder / f"outputs-{spec.name}.npz"
    try:
        prepared = _prepare(child, inputs, path, spec.prepare_s)
    except (ChildDied, ChildTimeout, ChildError) as error:
        comparison.notes.append(f"{spec.name} is not compared: {str(error)[:_SHOWN]}")
        child.close()
        return None
    comparison.settings[spec.name] = str(prepared["settings"])
    comparison.load_s[spec.name] = float(prepared["load_s"])
    return BenchmarkEntry(spec.name, child), _arrays(path)


def _prepare(child: Child, inputs: Path, outputs: Path, timeout_s: float = PREPARE_S) -> Mapping[str, Any]:
    """Load the model in its child and write its outputs; its settings in words and the seconds of loading. Raises the
    errors of a child."""
    prepared: Mapping[str, Any] = child.call("prepare", timeout_s, inputs_npz_path=str(inputs))
    child.call("outputs", timeout_s, path=str(outputs))
    return prepared


def _peak_bytes(entry: BenchmarkEntry, comparison: ModelComparison) -> int | None:
    """The largest resident set of an entry's process; None where it ended."""
    if not comparison.result.running(entry.name):
        return None
    try:
        return int(entry.child.call("peak_bytes", _REPLY_S))
    except (ChildDied, ChildTimeout, ChildError):
        return None


def _segments_s(entries: Sequence[BenchmarkEntry], comparison: ModelComparison) -> list[float]:
    """The seconds of each part of the tuned model; none, with a note, where they could not be measured."""
    tuned = next((entry for entry in entries if entry.name == TUNED), None)
    if tuned is None or not comparison.result.running(TUNED):
        return []
    try:
        return list(tuned.child.call("segments", _SEGMENTS_TIMEOUT_S, seconds=_SEGMENTS_S))
    except (ChildDied, ChildTimeout, ChildError) as error:
        comparison.notes.append(f"the parts of the model were not timed: {str(error)[:_SHOWN]}")
        return []


def _store(arrays: Sequence[Array], path: Path) -> Path:
    with open(path, "wb") as file:
        np.savez(file, *arrays)
    return path


def _arrays(path: Path) -> list[Array]:
    with np.load(path, allow_pickle=False) as stored:
        return [stored[name] for name in stored.files]


class _ExactRun:
    """A child that computes the model in float64; started when it is first asked. A context."""

    def __init__(self, spec: EntrySpec, folder: Path, threads: int) -> None:
        self._child = Child(spec.service, spec.settings, env=thread_env(threads), limits=for_compilers())
        self.folder, self.threads = folder, threads

    def __enter__(self) -> _ExactRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()

    def yardstick(self, inputs: Path) -> Yardstick:
        """What is right for stored inputs. Raises the errors of a child."""
        path = self.folder / "outputs-exact.npz"
        unit = self._child.call("outputs", _EXACT_S, inputs_npz_path=str(inputs), path=str(path))["unit"]
        with np.load(path, allow_pickle=False) as stored:
            runs: dict[str, list[Array]] = {}
            for name in stored.files:  # in order: exact_0, exact_1, ..., noisy_0_0, ...
                runs.setdefault(name.rpartition("_")[0], []).append(stored[name])
        return Yardstick(runs.pop("exact"), list(runs.values()), unit)


def _verify_exactly(
    comparison: ModelComparison, run: _ExactRun, outputs: Mapping[str, list[Array]], references: Sequence[str],
    inputs: Path,
) -> dict[str, str] | None:  # fmt: skip
    """Check all outputs against float64, note what came of it, and tell why each wrong entry (but the tuned one) is
    wrong; None, with a note, where there is no float64 run."""
    try:
        yardstick = run.yardstick(inputs)
    except (ChildDied, ChildTimeout, ChildError) as error:
        comparison.notes.append(f"no float64 run to verify by: {str(error)[:_SHOWN]}")
        return None
    wrong = {}
    agreed = []
    for name in [n for n in references if n in outputs]:
        if (check := yardstick.check(outputs[name])).ok:
            agreed.append(outputs[name])
        else:
            wrong[name] = check.reason
    if wrong and not agreed:  # all that answer disagree with it: then it may be the one that is wrong
        comparison.notes.append("the float64 run differs from every reference and is not used")
        return None
    for peer in agreed:
        yardstick = yardstick.with_peer(peer)
    for name in sorted(outputs.keys() - {TUNED, *references}):
        if not (check := yardstick.check(outputs[name])).ok:
            wrong[name] = check.reason
    comparison.notes += [f"{n} is not compared: its outputs are wrong: {why}" for n, why in wrong.items()]
    _verdict(comparison, yardstick, outputs)
    return wrong


def _verdict(comparison: ModelComparison, yardstick: Yardstick, outputs: Mapping[str, list[Array]]) -> None:
    if TUNED not in outputs:
        comparison.notes.append("the tuned model did not run; nothing is verified")
        return
    if why := degenerate(yardstick.exact):
        comparison.notes.append(f"outputs are not verified: {why} on drawn inputs; give inputs that mean something")
        return
    check = yardstick.check(outputs[TUNED])
    comparison.verified = check.ok
    comparison.max_abs_error, comparison.max_rel_error = check.max_abs_error, check.max_rel_error
    if not check.ok:
        comparison.notes.append(f"outputs differ from the float64 run: {check.reason}")
    comparison.notes.append("tuned outputs compared with a float64 run on seeded inputs")


def _verify_again(comparison: ModelComparison, run: _ExactRun, tuned: EntrySpec, inputs: Sequence[Array]) -> None:
    """Check the tuned model on further inputs, in a child of its own: a stale or constant output passes only once."""
    stored, path = _store(inputs, run.folder / "more-inputs.npz"), run.folder / "more-outputs.npz"
    try:
        yardstick = run.yardstick(stored)
        with Child(tuned.service, tuned.settings, env=thread_env(run.threads)) as child:
            _prepare(child, stored, path, tuned.prepare_s)
    except (ChildDied, ChildTimeout, ChildError) as error:
        comparison.notes.append(f"verified on one set of inputs only: {str(error)[:_SHOWN]}")
        return
    check = yardstick.check(_arrays(path))
    comparison.verified = check.ok
    comparison.notes.append(
        "and on inputs of another seed" if check.ok else f"outputs differ on inputs of another seed: {check.reason}"
    )


def _by_tolerance(
    comparison: ModelComparison, outputs: Mapping[str, list[Array]], references: Sequence[str]
) -> dict[str, str]:
    """Check by tolerance against the references; why each wrong entry (but the tuned one) is wrong."""
    _verify(comparison, outputs, references)
    wrong = _wrong(outputs, references)
    comparison.notes += [
        f"{name} is not compared: its outputs differ from every reference: {why}" for name, why in wrong.items()
    ]
    return wrong


def _verify(comparison: ModelComparison, outputs: Mapping[str, list[Array]], references: Sequence[str]) -> None:
    """Check the tuned outputs against those of every reference that ran, and note what came of it."""
    if TUNED not in outputs:
        comparison.notes.append("the tuned model did not run; nothing is verified")
        return
    checks = _checks(outputs[TUNED], outputs, references)
    if not checks:
        comparison.notes.append("no independent reference ran; outputs are not verified")
        return
    if why := without_number(outputs[TUNED]):
        comparison.notes.append(f"outputs are not verified: {why} on drawn inputs; give inputs that mean something")
        return
    comparison.verified = all(check.ok for check in checks.values())
    comparison.notes += [
        f"outputs differ from {name}: {check.reason}" for name, check in checks.items() if not check.ok
    ]
    comparison.max_abs_error = _largest([check.max_abs_error for check in checks.values()])
    comparison.max_rel_error = _largest([check.max_rel_error for check in checks.values()])
    comparison.notes.append(f"tuned outputs compared with {', '.join(checks)} on seeded inputs")


def _wrong(outputs: Mapping[str, list[Array]], references: Sequence[str]) -> dict[str, str]:
    """Why an entry is wrong, for each but the tuned model and the references that agrees with no reference that ran."""
    reasons = {}
    for name in outputs.keys() - {TUNED, *references}:
        checks = list(_checks(outputs[name], outputs, references).values())
        if checks and not any(check.ok for check in checks):
            reasons[name] = checks[0].reason
    return dict(sorted(reasons.items()))


def _checks(
    checked: Sequence[Array], outputs: Mapping[str, list[Array]], references: Sequence[str]
) -> dict[str, OutputCheck]:
    """An entry's outputs against those of each reference that ran."""
    half = any(array.dtype == np.float16 for array in checked)
    rtol, atol = (HALF_RTOL, HALF_ATOL) if half else (MODEL_RTOL, MODEL_ATOL)
    return {name: check_outputs(checked, outputs[name], rtol, atol) for name in references if name in outputs}


def _largest(errors: Sequence[float | None]) -> float | None:
    return max((error for error in errors if error is not None), default=None)


def answer_once(spec: EntrySpec, inputs: Sequence[Array], folder: Path, threads: int) -> list[Array] | str:
    """The outputs of an entry, computed in a fresh child; the reason when it fails."""
    stored, outputs = _store(inputs, folder / "once-inputs.npz"), folder / "once-outputs.npz"
    with Child(spec.service, spec.settings, env=thread_env(threads)) as child:
        try:
            _prepare(child, stored, outputs, spec.prepare_s)
        except (ChildDied, ChildTimeout, ChildError) as error:
            return str(error)
    return _arrays(outputs)
