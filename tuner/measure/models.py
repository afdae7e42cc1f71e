"""The whole model: its outputs checked against independent references, and timed together with the baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.measure.comparison import BenchmarkEntry, ComparisonResult, compare_interleaved
from tuner.measure.entries import (
    EXACT,
    PIPELINE,
    PREPARE_S,
    SHOWN,
    TUNED,
    UNTUNED,
    EntrySpec,
    answer_once,
    arrays,
    compiled_entry,
    prepare,
    store,
)
from tuner.measure.exact import ExactRun
from tuner.measure.model_comparison import ModelComparison
from tuner.measure.states import StateProbe
from tuner.measure.verifier import Verifier, errors_against, wrong_of_whole
from tuner.models import InputSet
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Array, Stop

__all__ = [
    "EXACT", "PIPELINE", "PREPARE_S", "TUNED", "UNTUNED", "EntrySpec", "ModelComparison", "Timing", "answer_once",
    "compare_models", "compiled_entry",
]  # fmt: skip

_SEGMENTS_S, _SEGMENTS_TIMEOUT_S = 0.5, 120.0
"""For how long the parts of a model with islands are timed, and how long that may last where one inference takes
longer."""

_REPLY_S = 10.0
_SLOW_S = 2.0  # to load a model may take as long on a busy machine

Fault = Callable[[EntrySpec], str]
"""From how a model is started to what is wrong with its outputs, "" where nothing is."""

Mend = Callable[[Fault], EntrySpec | None]
"""Makes a tuned model that is right out of one that is not; None where that is not possible."""


@dataclass(frozen=True)
class Timing:
    """How long a comparison takes.

    `rounds_s` are the seconds for the rounds, asked when they begin, of which there are at least `min_rounds`.
    `start_s`: within how many seconds an entry must be ready, asked when its turn comes; 0: it is left out. `limited`:
    no more than that in any case; then rounds end when their seconds do. Once `stop()` is true no further entry is
    started, but what verifies, and the rounds end as soon as the tuned model was timed.
    """

    rounds_s: Callable[[], float]
    min_rounds: int
    start_s: Callable[[str], float] = lambda name: PREPARE_S
    limited: bool = False
    stop: Stop = lambda: False


def compare_models(
    specs: Sequence[EntrySpec],
    references: Sequence[str],
    sets: Sequence[InputSet],
    folder: Path,
    threads: int,
    timing: Timing,
    seed: int,
    progress: Callable[[str], None],
    probe: StateProbe | None = None,
    exact: ExactRun | None = None,
    mend: Mend | None = None,
    whole: ExactRun | None = None,
    coarse: bool = False,
) -> ModelComparison:
    """Start every entry in a child of its own, check the tuned outputs, and time all of them interleaved.

    All run on the first of `sets`; the tuned model is checked on the others, too, and against the outputs that came
    with them. `exact` has what is right for `sets`. Without it
    `references` name the entries whose outputs the tuned ones must equal within a tolerance: at least one of them must
    run for the result to count as verified, and all that run must agree. Where the tuned model does not run or is
    wrong, `mend` is asked for another one. An entry that does not start is noted and left out, and so is one whose
    outputs are wrong: a wrong answer is no measure of speed. `probe` tells the machine's state. `whole` has what is
    right for entries that run the model as it was before it was quantized; `coarse`: operands are narrower than what
    the model gives.
    """
    comparison = ModelComparison(ComparisonResult())
    started = _Started(store(sets[0].arrays, folder / "inputs.npz"), folder, threads, comparison)
    try:
        for spec in specs:
            progress(f"preparing {spec.name}")
            verifies = spec.name == TUNED or spec.name in references
            started.start(spec, timing.start_s(spec.name), (lambda: False) if verifies else timing.stop)
        verifier = Verifier(exact, references, sets, folder, threads, coarse)
        apart = {spec.name for spec in specs if spec.whole}
        untimed = {spec.name for spec in specs if not spec.timed}
        comparison.precisions = {spec.name: spec.precision for spec in specs if spec.precision}
        wrong = verifier.look({n: o for n, o in started.outputs.items() if n not in apart}, comparison)
        wrong |= wrong_of_whole({n: o for n, o in started.outputs.items() if n in apart}, whole, comparison)
        comparison.errors = errors_against(started.outputs, whole or exact)
        tuned = next((spec for spec in specs if spec.name == TUNED), None)
        notes = verifier.verify(tuned, started.outputs, comparison)
        while mend is not None and (TUNED not in started.outputs or comparison.verified is False):
            tuned = mend(verifier.fault)
            if tuned is None:
                break
            started.replace(tuned)
            notes = verifier.verify(tuned, started.outputs, comparison)
        comparison.notes += notes
        progress("comparing whole models")
        rounds_s = timing.rounds_s()
        slow = _too_slow(comparison, rounds_s) if timing.limited else {}
        comparison.notes += [f"{name} is not timed: {why}" for name, why in slow.items()]
        comparison.result = compare_interleaved(
            [entry for entry in started.entries if entry.name not in {*wrong, *slow, *untimed}],
            min_rounds=timing.min_rounds,
            time_budget_s=rounds_s,
            seed=seed,
            incumbent=TUNED if TUNED in started.outputs and TUNED not in slow else None,
            probe=probe,
            limited=timing.limited,
            stop=timing.stop,
        )
        if any(spec.name == TUNED and spec.service == PIPELINE for spec in specs):
            comparison.segments_s = _segments_s(started.entries, comparison)
        comparison.peak_bytes = {
            e.name: peak for e in started.entries if (peak := _peak_bytes(e, comparison)) is not None
        }
        comparison.notes += [f"{name} was dropped: {reason}" for name, reason in comparison.result.dropped.items()]
    finally:
        started.close()
    return comparison


def _too_slow(comparison: ModelComparison, rounds_s: float) -> dict[str, str]:
    """The compiled models (which load at once) that a first call showed to be too slow to be called again."""
    return {
        name: f"its first call took {load_s:.0f} s, and {rounds_s:.0f} s are left"
        for name in (TUNED, UNTUNED)
        if (load_s := comparison.load_s.get(name, 0.0)) > _SLOW_S + rounds_s
    }


class _Started:
    """The entries that are ready, each in a child of its own, and their outputs on the stored `inputs`."""

    def __init__(self, inputs: Path, folder: Path, threads: int, comparison: ModelComparison) -> None:
        self._inputs, self._folder, self._threads, self._comparison = inputs, folder, threads, comparison
        self.entries: list[BenchmarkEntry] = []
        self.outputs: dict[str, list[Array]] = {}

    def start(self, spec: EntrySpec, within_s: float = PREPARE_S, stop: Stop = lambda: False) -> None:
        """Start one, or note why it does not."""
        if within_s <= 0.0 or stop():
            why = "the run was interrupted" if within_s > 0.0 else "no time is left for it"
            self._comparison.notes.append(f"{spec.name} is not compared: {why}")
            return
        child = Child(spec.service, spec.settings, env=thread_env(self._threads))
        path = self._folder / f"outputs-{spec.name}.npz"
        try:
            prepared = prepare(child, self._inputs, path, min(spec.prepare_s, within_s), stop)
        except (ChildDied, ChildTimeout, ChildError) as error:
            self._comparison.notes.append(f"{spec.name} is not compared: {str(error)[:SHOWN]}")
            child.close()
            return
        self._comparison.settings[spec.name] = str(prepared["settings"])
        self._comparison.load_s[spec.name] = float(prepared["load_s"])
        self.entries.append(BenchmarkEntry(spec.name, child))
        self.outputs[spec.name] = arrays(path)

    def replace(self, spec: EntrySpec) -> None:
        """Start an entry in place of the one of its name."""
        for entry in [entry for entry in self.entries if entry.name == spec.name]:
            entry.child.close()
            self.entries.remove(entry)
        self.outputs.pop(spec.name, None)
        self.start(spec)
        self.entries.sort(key=lambda entry: entry.name != spec.name)

    def close(self) -> None:
        for entry in self.entries:
            entry.child.close()


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
        comparison.notes.append(f"the parts of the model were not timed: {str(error)[:SHOWN]}")
        return []
