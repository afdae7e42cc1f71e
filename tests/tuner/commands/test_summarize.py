"""What a summary concludes: who replaces the default, and what the terminal says. Golden files hold its form."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.golden import synthetic_run
from tuner.commands.summarize import headline, kernel_verdict, summarize
from tuner.measure.models import ModelComparison
from tuner.records import Label, Measurement, Status
from tuner.tuning.session import TaskSession


def session_of(name: str) -> TaskSession:
    [found] = [s for s in synthetic_run.sessions().values() if s.task.name == name]
    return found


def test_only_what_is_not_slower_replaces_the_default() -> None:
    facts = synthetic_run.facts()
    winners = facts.winners()
    for key, session in facts.search.sessions.items():
        verdict = kernel_verdict(session)
        if key in winners:
            assert winners[key] == session.best
            assert verdict.label in (Label.FASTER, Label.UNDECIDED)
        else:
            assert session.best is None or verdict.label is not Label.FASTER
    assert 0 < len(winners) < len(facts.search.sessions)


def test_a_default_that_does_not_run_loses_without_a_ratio() -> None:
    session = next(s for s in synthetic_run.sessions().values() if s.best is not None)
    default = session.space.default()
    failed = Measurement(Status.RUN_FAILED, reason="on purpose")
    for measured in (session.certified, session.ranked, session.screened):
        if default in measured:
            measured[default] = failed
    verdict = kernel_verdict(session)
    assert (verdict.label, verdict.ratio) == (Label.FASTER, None)


def test_the_summary_counts_what_the_ledger_counted() -> None:
    facts = synthetic_run.facts()
    search = summarize(facts)["search"]
    assert (search["measured"], search["reused"]) == (14, 2)
    assert search["stopped_by"] == facts.search.stopped_by


def test_the_speedup_in_the_headline_is_the_ratio_of_the_pairs_and_not_of_the_medians() -> None:
    summary = summarize(synthetic_run.facts())
    whole = summary["end_to_end"]
    medians = whole["baselines"]["onnxruntime"]["median_s"] / whole["tuned_s"]
    [line] = [line for line in headline(summary) if "onnxruntime" in line]
    assert f"speedup {1 / whole['ratios']['onnxruntime']:.3g}x" in line
    assert f"speedup {medians:.3g}x" not in line  # the drift of the made-up machine tells the two apart


def without(comparison: ModelComparison | None) -> dict[str, Any]:
    return summarize(dataclasses.replace(synthetic_run.facts(), comparison=comparison))


def test_a_model_that_was_not_timed_has_no_times() -> None:
    summary = without(None)
    assert summary["end_to_end"]["tuned_s"] is None
    assert headline(summary) == ["the tuned model was not timed; see the notes in the report"]


@pytest.mark.parametrize(("verified", "words"), [(True, ", verified"), (False, ", NOT verified")])
def test_the_headline_says_whether_the_outputs_were_verified(verified: bool, words: str) -> None:
    summary = without(dataclasses.replace(synthetic_run.comparison(), verified=verified))
    assert headline(summary)[0].endswith(words)
