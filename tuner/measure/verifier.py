"""Whether the outputs of whole models are right: by the float64 run where there is one, else by the references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tuner.measure.accuracy import Yardstick, constants, degenerate, without_number
from tuner.measure.entries import SHOWN, TUNED, EntrySpec, answer_once
from tuner.measure.exact import ExactRun
from tuner.measure.model_comparison import ModelComparison
from tuner.measure.quality import relative_error
from tuner.measure.tolerances import by_tolerances
from tuner.models import InputSet
from tuner.outputs import OutputCheck
from tuner.protocols import Array


class Verifier:
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


def wrong_of_whole(
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


def errors_against(outputs: Mapping[str, list[Array]], exact: ExactRun | None) -> dict[str, float]:
    """The relative error of each entry's outputs, all together, against those of float64."""
    yardstick = None if exact is None else exact.yardstick(0)
    if yardstick is None:
        return {}
    shapes = [array.shape for array in yardstick.exact]
    alike = {name: one for name, one in outputs.items() if [array.shape for array in one] == shapes}
    found = {name: relative_error(one, yardstick.exact) for name, one in alike.items()}
    return {name: error for name, error in found.items() if error is not None}


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
