"""Verdicts on measured cells: what is an alert, what is only told, and what is said beside it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.tuner.nightly.synthetic import night, result
from tuner.nightly.lines import Context
from tuner.nightly.measuring import Measured
from tuner.nightly.spaces import SERIES as SPACE
from tuner.nightly.verdicts import CODE, SEARCH, Again, absent, judge, outcome_of, what_changed
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
    assert causes["searched.trials_per_s"] == (Outcome.WORSE, None)
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
    assert broken.confirmed and absent(Measured().failed(Outcome.BROKEN, "x"), []).confirmed is None


def test_what_changed_since_the_last_good_night() -> None:
    told = what_changed(context(result(1, {}), versions={"apache-tvm": "2", "torch": "1", "new": "1"}), "n001")
    assert told.committed and told.touched is None
    assert told.versions == {"apache-tvm": ("1", "2"), "new": ("", "1")}
    assert not what_changed(context(), "never").versions
