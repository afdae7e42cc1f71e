"""The whole model: its outputs checked against independent references, and timed together with the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuner.measure.accuracy import Yardstick, constants, degenerate, without_number
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
from tuner.measure.quality import Quality
from tuner.measure.states import StateProbe
from tuner.measure.tolerances import by_tolerances
from tuner.outputs import OutputCheck
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Array, InputSet, Stop

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


@dataclass
class ModelComparison:
    """The tuned model against its baselines: times, whether its outputs are right, and notes for the report.

    `settings` says of each entry, in words, how it ran. `load_s` has the seconds from loading to the end of the first
    call, and `peak_bytes` the largest resident set that its process ever had, whatever took it. `verified` is None
    where no reference ran to check against. Errors are the largest of the tuned outputs against any reference that ran.
    `segments_s`: of a model with islands, what each part of the tuned one takes of an inference, in order.
    `precisions`: what entries compute in, of those that are told. `quality`: how good the tuned outputs are.
    """

    result: ComparisonResult
    settings: dict[str, str] = field(default_factory=dict)
    load_s: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    verified: bool | None = None
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    segments_s: list[float] = field(default_factory=list)
    precisions: dict[str, str] = field(default_factory=dict)
    quality: Quality | None = None
    notes: list[str] = field(default_factory=list)


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
        verifier = _Verifier(exact, references, sets, folder, threads, coarse)
        apart = {spec.name for spec in specs if spec.whole}
        comparison.precisions = {spec.name: spec.precision for spec in specs if spec.precision}
        wrong = verifier.look({n: o for n, o in started.outputs.items() if n not in apart}, comparison)
        wrong |= _wrong_of_whole({n: o for n, o in started.outputs.items() if n in apart}, whole, comparison)
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
            [entry for entry in started.entries if entry.name not in {*wrong, *slow}],
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


class _Verifier:
    """Checks outputs: against the float64 run where there is one, else against the references that ran.

    `sets` are sets of inputs; entries run on the first of them.
    """

    def __init__(
        self, exact: ExactRun | None, references: Sequence[str], sets: Sequence[InputSet], folder: Path,
        threads: int, coarse: bool,
    ) -> None:  # fmt: skip
        self._exact, self._references, self._sets, self._coarse = exact, references, sets, coarse
        self._folder, self._threads = folder, threads
        self._yardstick: Yardstick | None = None
        self._outputs: Mapping[str, list[Array]] = {}

    def look(self, outputs: Mapping[str, list[Array]], comparison: ModelComparison) -> dict[str, str]:
        """Learn from the outputs of all entries what is right; why each wrong entry (but the tuned one) is wrong."""
        self._outputs = dict(outputs)
        wrong = self._look_exactly(outputs, comparison)
        if self._yardstick is None:
            wrong = _wrong(outputs, self._references, self._coarse)
            comparison.notes += [
                f"{name} is not compared: its outputs differ from every reference: {why}" for name, why in wrong.items()
            ]
        return wrong

    def _look_exactly(self, outputs: Mapping[str, list[Array]], comparison: ModelComparison) -> dict[str, str]:
        if self._exact is None:
            return {}
        self._exact.compute()
        yardstick = self._exact.yardstick(0)
        if yardstick is None:
            comparison.notes.append(f"no float64 run to verify by: {self._exact.missing}")
            return {}
        wrong = {}
        agreed = []
        for name in [n for n in self._references if n in outputs]:
            if (check := yardstick.check(outputs[name])).ok:
                agreed.append(outputs[name])
            else:
                wrong[name] = check.reason
        if wrong and not agreed:  # all that answer disagree with it: then it may be the one that is wrong
            comparison.notes.append("the float64 run differs from every reference and is not used")
            return {}
        for peer in agreed:
            yardstick = yardstick.with_peer(peer)
        for name in sorted(outputs.keys() - {TUNED, *self._references}):
            if not (check := yardstick.check(outputs[name])).ok:
                wrong[name] = check.reason
        comparison.notes += [f"{n} is not compared: its outputs are wrong: {why}" for n, why in wrong.items()]
        self._yardstick = yardstick
        return wrong

    def verify(
        self, tuned: EntrySpec | None, outputs: Mapping[str, list[Array]], comparison: ModelComparison
    ) -> list[str]:
        """Check the tuned outputs, say in `comparison` whether they are right, and return what to note of it."""
        comparison.verified = comparison.max_abs_error = comparison.max_rel_error = None
        if tuned is None or TUNED not in outputs:
            return ["the tuned model did not run; nothing is verified"]
        if self._yardstick is None:
            notes = _verify(comparison, outputs, self._references, self._sets[0].name, self._coarse)
            return [*notes, *self._further(tuned, outputs, comparison)]
        if why := degenerate(self._yardstick.exact):
            return [f"outputs are not verified: {why} on {self._sets[0].name}; give real ones: model.data"]
        check = self._yardstick.check(outputs[TUNED])
        comparison.verified = check.ok
        comparison.max_abs_error, comparison.max_rel_error = check.max_abs_error, check.max_rel_error
        notes = constants(self._yardstick.exact, self._sets[0].name)
        notes.append(f"tuned outputs compared with a float64 run on {self._sets[0].name}")
        if not check.ok:
            return [f"outputs differ from the float64 run: {check.reason}", *notes]
        return [*notes, *self._further(tuned, outputs, comparison)]

    def _further(self, tuned: EntrySpec, outputs: Mapping[str, list[Array]], comparison: ModelComparison) -> list[str]:
        """Check the tuned outputs against those that came with the first set, and the model on the other sets, while
        it is right."""
        notes = []
        if comparison.verified and (said := self._expected(0, outputs[TUNED], self._yardstick, comparison)):
            notes.append(said)
        for number in range(1, len(self._sets)):
            if comparison.verified:
                notes += self._again(tuned, number, comparison)
        return notes

    def _again(self, tuned: EntrySpec, number: int, comparison: ModelComparison) -> list[str]:
        """Check the tuned model on further inputs, in a child of its own: a stale or constant output passes only
        once."""
        one = self._sets[number]
        yardstick = None if self._yardstick is None or self._exact is None else self._exact.yardstick(number)
        if yardstick is None and one.expected is None:
            missing = "" if self._exact is None else self._exact.missing
            return [f"not verified on {one.name}: {missing}"] if missing else []
        answer = answer_once(tuned, one.arrays, self._folder, self._threads)
        if isinstance(answer, str):
            comparison.verified = False
            return [f"on {one.name} the tuned model fails: {answer[:SHOWN]}"]
        notes = []
        if yardstick is not None:
            check = yardstick.check(answer)
            comparison.verified = check.ok
            if not check.ok:
                return [f"outputs differ on {one.name}: {check.reason}"]
            notes = [f"and on {one.name}"]
        said = self._expected(number, answer, yardstick, comparison)
        return [*notes, said] if said else notes

    def _expected(
        self, number: int, outputs: Sequence[Array], yardstick: Yardstick | None, comparison: ModelComparison
    ) -> str:
        """Compare outputs with those that came with a set: with both right by float64 they agree."""
        one = self._sets[number]
        if one.expected is None:
            return ""
        check = by_tolerances(outputs, one.expected, self._coarse)
        comparison.verified = check.ok or (yardstick is not None and yardstick.check(one.expected).ok)
        if comparison.verified:
            return f"and with the outputs that came with {one.name}"
        return f"outputs differ from those that came with {one.name}: {check.reason}"

    def fault(self, spec: EntrySpec) -> str:
        """What is wrong with a model on any of the sets of inputs; "" where nothing is, or nothing can tell."""
        for number, inputs in enumerate(self._sets):
            answer = answer_once(spec, inputs.arrays, self._folder, self._threads)
            if isinstance(answer, str):
                return answer
            yardstick = self._yardstick
            if number and yardstick is not None and self._exact is not None:
                yardstick = self._exact.yardstick(number)
            if yardstick is not None and not (check := yardstick.check(answer)).ok:
                return check.reason
            if self._yardstick is None and number == 0:
                checks = _checks(answer, self._outputs, self._references, self._coarse)
                if wrong := [check.reason for check in checks.values() if not check.ok]:
                    return wrong[0]
        return ""


def _wrong_of_whole(
    outputs: Mapping[str, list[Array]], whole: ExactRun | None, comparison: ModelComparison
) -> dict[str, str]:
    """Why an entry that runs the model as it was is wrong, for each that is, where there is a float64 run of it."""
    yardstick = None if whole is None else whole.yardstick(0)
    if yardstick is None:
        return {}
    checks = {name: yardstick.check(one) for name, one in sorted(outputs.items())}
    wrong = {name: check.reason for name, check in checks.items() if not check.ok}
    comparison.notes += [f"{name} is not compared: its outputs are wrong: {why}" for name, why in wrong.items()]
    return wrong


def _verify(
    comparison: ModelComparison, outputs: Mapping[str, list[Array]], references: Sequence[str], inputs: str,
    coarse: bool,
) -> list[str]:  # fmt: skip
    """Check the tuned outputs against those of every reference that ran; returns what to note of it."""
    checks = _checks(outputs[TUNED], outputs, references, coarse)
    if not checks:
        return ["no independent reference ran; outputs are not verified"]
    if why := without_number(outputs[TUNED]):
        return [f"outputs are not verified: {why} on {inputs}; give real ones: model.data"]
    comparison.verified = all(check.ok for check in checks.values())
    comparison.max_abs_error = _largest([check.max_abs_error for check in checks.values()])
    comparison.max_rel_error = _largest([check.max_rel_error for check in checks.values()])
    differing = [f"outputs differ from {name}: {check.reason}" for name, check in checks.items() if not check.ok]
    return [*differing, f"tuned outputs compared with {', '.join(checks)} on {inputs}"]


def _wrong(outputs: Mapping[str, list[Array]], references: Sequence[str], coarse: bool) -> dict[str, str]:
    """Why an entry is wrong, for each but the tuned model and the references that agrees with no reference that ran."""
    reasons = {}
    for name in outputs.keys() - {TUNED, *references}:
        checks = list(_checks(outputs[name], outputs, references, coarse).values())
        if checks and not any(check.ok for check in checks):
            reasons[name] = checks[0].reason
    return dict(sorted(reasons.items()))


def _checks(
    checked: Sequence[Array], outputs: Mapping[str, list[Array]], references: Sequence[str], coarse: bool
) -> dict[str, OutputCheck]:
    """An entry's outputs against those of each reference that ran."""
    return {name: by_tolerances(checked, outputs[name], coarse) for name in references if name in outputs}


def _largest(errors: Sequence[float | None]) -> float | None:
    return max((error for error in errors if error is not None), default=None)
