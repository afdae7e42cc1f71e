"""Verdicts on measured cells: what is an alert, what is only told, and what is said beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.tuner.nightly.synthetic import night, result
from tuner.nightly.lines import Context
from tuner.nightly.measuring import Measured
from tuner.nightly.spaces import SERIES as SPACE
from tuner.nightly.statistics import LEAST
from tuner.nightly.summary import change_of, sentence, threshold_of
from tuner.nightly.verdicts import (
    CODE,
    FIRST_NIGHT,
    NO_REFERENCE,
    SEARCH,
    Again,
    absent,
    judge,
    outcome_of,
    reason_of,
    what_changed,
)  # fmt: skip
from tuner.nights import Cause, CellNight, Finding, Outcome


def again(confirm: Mapping[str, float] | None = None, search: float | None = None) -> Again:
    return Again(lambda: confirm or {}, lambda number: search, 3)


def context(*past: CellNight, versions: Mapping[str, str] | None = None) -> Context:
    nights = {r.night: night(int(r.night[1:])) for r in past} | {"n000": night(0)}
    return Context(past, nights, night(99, versions=versions), "n000")


def code(past: int = 12) -> list[CellNight]:
    return [result(n, {CODE: 0.0005 * (-1) ** n, SEARCH: 0.01 * (-1) ** n}) for n in range(1, past)]


def one(findings: list[Finding], series: str) -> Finding:
    return next(f for f in findings if f.series == series)


def test_a_confirmed_change_is_an_alert_with_its_threshold() -> None:
    measured = Measured(ratios={CODE: 0.05}, intervals={CODE: (0.04, 0.06)}, seconds={"rebuilt": 1.0})
    found = one(judge(measured, context(*code()), again({CODE: 0.05})), CODE)
    assert found.regression and found.cause is Cause.CODE
    assert found.threshold is not None and found.threshold < 0.05 < 1
    assert found.interval is not None and found.interval[0] < 0.05 < found.interval[1]
    assert "last at its level in night n011" in found.evidence


def test_without_a_second_run_it_is_undecided() -> None:
    found = one(judge(Measured(ratios={CODE: 0.05}), context(*code()), again()), CODE)
    assert (found.outcome, found.confirmed) == (Outcome.UNDECIDED, None)


def test_an_improvement_is_shown_as_gladly() -> None:
    found = one(judge(Measured(ratios={CODE: -0.05}), context(*code()), again({CODE: -0.05})), CODE)
    assert (found.outcome, found.confirmed, found.regression) == (Outcome.BETTER, True, False)


def test_the_same_instructions_are_never_an_alert() -> None:
    past = [result(0, {}, texts={"searched.code_hash": "a"}), *code()]
    measured = Measured(ratios={CODE: 0.05}, texts={"rebuilt.code_hash": "a"})
    found = one(judge(measured, context(*past), again({CODE: 0.05})), CODE)
    assert (found.outcome, found.cause, found.regression) == (Outcome.UNDECIDED, Cause.NOISE, False)


def test_a_noisy_series_says_that_it_cannot_tell() -> None:
    past = [result(n, {CODE: 0.03 * (-1) ** n}) for n in range(1, 20)]
    found = one(judge(Measured(ratios={CODE: 0.0}), context(*past), again()), CODE)
    assert found.outcome is Outcome.UNDECIDED and "too noisy to tell a change of 5 %" in found.evidence[0]


def test_a_search_is_an_alert_only_over_seeds() -> None:
    measured = Measured(ratios={SEARCH: 0.2})
    assert one(judge(measured, context(*code()), again(search=0.2)), SEARCH).cause is Cause.SEARCH
    lucky = one(judge(measured, context(*code()), again(search=0.01)), SEARCH)
    assert (lucky.outcome, lucky.cause) == (Outcome.SAME, Cause.LUCK)
    assert one(judge(measured, context(*code()), again()), SEARCH).outcome is Outcome.UNDECIDED


def test_a_recorded_space_is_judged_seed_by_seed() -> None:
    past = result(1, {SPACE: 0.2}, facts={"by_seed": [0.1, 0.2, 0.3]}, reference="")
    for by_seed, outcome in (
        ([0.1, 0.2, 0.3], Outcome.SAME),
        ([0.2, 0.301, 0.4], Outcome.WORSE),
        ([0.4, 0.1, 0.4], Outcome.SAME),  # 0.1 on average, and anything between
        ([0.0, 0.1, 0.2005], Outcome.BETTER),
    ):
        measured = Measured(ratios={SPACE: sum(by_seed) / 3}, facts={"by_seed": by_seed})
        found = one(judge(measured, Context([past], {"n001": night(1)}, night(9)), again()), SPACE)
        assert (found.outcome, outcome_of(measured, [found])) == (outcome, outcome)


def test_machine_baselines_and_structure_are_told_and_are_no_alert() -> None:
    past = [
        result(
            n, {CODE: 0.0, "torch/reference": 0.5}, seconds={"reference": 1.0 + 0.01 * (n % 3), "torch": 1.6},
            structure={"rebuilt.instructions": 1000.0, "searched.trials_per_s": 5.0},
        )
        for n in range(1, 15)
    ]  # fmt: skip
    measured = Measured(
        ratios={CODE: 0.0, "torch/reference": 0.3}, seconds={"reference": 2.0, "torch": 3.2},
        structure={"rebuilt.instructions": 1100.0, "searched.trials_per_s": 2.0},
    )  # fmt: skip
    findings = judge(measured, context(*past, versions={"apache-tvm": "1", "torch": "2"}), again())
    causes = {f.series: (f.outcome, f.cause) for f in findings}
    assert causes["reference"] == (Outcome.WORSE, Cause.ENVIRONMENT)
    assert causes["torch/reference"] == (Outcome.BETTER, Cause.BASELINE)
    assert causes["rebuilt.instructions"] == (Outcome.WORSE, None)
    assert causes["searched.trials_per_s"] == (Outcome.WORSE, None)  # by more than its own past ever moved
    assert not any(f.regression for f in findings)
    assert outcome_of(measured, findings) is Outcome.SAME


def test_what_is_missing_or_broken_says_since_when() -> None:
    gone = Measured().failed(Outcome.MISSING, "no GPU")
    found = absent(gone, [result(3, {}), result(4, {}, outcome=Outcome.MISSING)])
    assert (found.cause, found.evidence, found.regression) == (
        Cause.MISSING,
        ("no GPU", "measured last in night n003"),
        False,
    )
    broken = absent(Measured().failed(Outcome.BROKEN, "it crashed"), [result(3, {})])
    assert broken.confirmed and broken.cause is None
    assert absent(Measured().failed(Outcome.BROKEN, "x"), []).confirmed is None


def test_what_changed_since_the_last_good_night() -> None:
    told = what_changed(context(result(1, {}), versions={"apache-tvm": "2", "torch": "1", "new": "1"}), "n001")
    assert told.committed and told.touched is None
    assert told.versions == {"apache-tvm": ("1", "2"), "new": ("", "1")}
    assert not what_changed(context(), "never").versions


def test_the_first_night_is_undecided_and_says_so() -> None:
    first = Measured(seconds={"searched": 1.0})
    findings = judge(first, context(), again())
    assert (outcome_of(first, findings), reason_of(first, findings, ())) == (Outcome.UNDECIDED, FIRST_NIGHT)
    assert reason_of(first, findings, [result(1, {}, seconds={"searched": 1.0})]) == NO_REFERENCE
    space = Measured(ratios={SPACE: 0.2}, facts={"by_seed": [0.1, 0.3]})
    findings = judge(space, Context([], {}, night(9)), again())
    assert (outcome_of(space, findings), reason_of(space, findings, ())) == (Outcome.UNDECIDED, FIRST_NIGHT)
    second = Measured(ratios={CODE: 0.0, SEARCH: 0.0}, seconds={"searched": 1.0})
    findings = judge(second, context(), again())
    assert (outcome_of(second, findings), reason_of(second, findings, ())) == (Outcome.SAME, "")


def structure(values: Sequence[float], series: str) -> list[Finding]:
    past = [result(n, {CODE: 0.0}, structure={series: value}) for n, value in enumerate(values[:-1], 1)]
    return [
        finding
        for finding in judge(Measured(ratios={CODE: 0.0}, structure={series: values[-1]}), context(*past), again())
        if finding.series == series
    ]


def test_code_that_is_kept_is_exact_and_code_that_is_found_is_not() -> None:
    [exact] = structure([0.7, 0.7, 0.5], "rebuilt.vector_share")
    assert (exact.outcome, exact.threshold) == (Outcome.WORSE, LEAST)
    assert structure([0.7, 0.7, 0.6], "searched.vector_share") == []
    [young] = structure([0.7, 0.7, 0.4], "searched.vector_share")
    assert young.outcome is Outcome.UNDECIDED and "not known yet" in young.evidence[1]
    assert sentence(young).startswith("searched.vector_share -43% (threshold -26%)")
    noisy = [0.7, 0.4, 0.6, 0.45, 0.7, 0.5, 0.65, 0.4, 0.7, 0.5, 0.6, 0.44]
    assert structure(noisy, "searched.vector_share") == []
    [worse] = structure([0.7, 0.71] * 10 + [0.4], "searched.vector_share")
    assert worse.outcome is Outcome.WORSE


def test_no_verdict_stands_within_its_threshold() -> None:
    """Over random histories of every kind of series, as it is stored and as it is printed."""
    rng, seen = np.random.default_rng(5), Counter[Outcome]()
    for number in range(60):
        count, scale = int(rng.integers(1, 40)), 10.0 ** rng.uniform(-3, -0.3)
        noise = scale * rng.standard_t(2, size=(6, count + 1)).clip(-8, 8)
        at = count - int(rng.integers(0, 5))
        noise[:, max(at, 0) :] += scale * rng.choice([0.0, 0.7, -1.0, 2.0, -5.0])
        values = np.exp(noise.clip(-5, 5))
        logs = noise.clip(-5, 5)

        def told(n: int, logs: Any = logs, values: Any = values) -> dict[str, Any]:
            names = ("rebuilt.load_s", "searched.vector_share", "searched.search_s", "rebuilt.instructions")
            return {
                "ratios": {CODE: logs[0, n], SEARCH: logs[1, n], "torch/reference": logs[2, n]},
                "seconds": {"reference": values[3, n], "torch": values[4, n]},
                "structure": {name: values[row, n] for row, name in enumerate(names, 2)},
            }

        past = [result(n, **told(n)) for n in range(count)]
        second = {CODE: float(logs[0, count])}
        findings = judge(Measured(**told(count)), context(*past), again(second, search=float(logs[1, count])))
        for finding in findings:
            seen[finding.outcome] += 1
            if finding.outcome in (Outcome.WORSE, Outcome.BETTER):
                assert finding.change is not None and finding.threshold is not None
                assert abs(finding.change) > finding.threshold, (number, finding)
                change, limit = (float(text.rstrip("%")) for text in (change_of(finding), threshold_of(finding)))
                assert abs(change) >= abs(limit) and change * limit >= 0, (number, finding)
    assert min(seen[outcome] for outcome in (Outcome.WORSE, Outcome.BETTER, Outcome.SAME, Outcome.UNDECIDED)) > 15
