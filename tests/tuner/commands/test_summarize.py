"""The summary: which candidates win, and verdicts with the ratios of the same pairs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kernels.space import Candidate
from tests.golden import synthetic_run
from tests.golden.synthetic_run import candidate
from tuner.commands.summarize import RunFacts, headline, kernel_verdict, summarize
from tuner.measure.models import TUNED, UNTUNED
from tuner.measure.stats import median
from tuner.records import CpuState, Label, Measurement, Status
from tuner.report import summary as summary_file

DEFAULT = Candidate(-1)


@pytest.fixture
def facts() -> RunFacts:
    return synthetic_run.facts()


def kernels(facts: RunFacts) -> dict[str, dict[str, Any]]:
    return {kernel["name"]: kernel for kernel in summarize(facts)["kernels"]}


def test_only_what_is_not_slower_replaces_the_default(facts: RunFacts) -> None:
    names = {session.task.key: session.task.name for session in facts.search.sessions.values()}
    winners = {names[key]: chosen for key, chosen in facts.winners().items()}
    assert winners == {"matmul_add_relu": candidate(2), "max_pool2d": candidate(7)}
    rows = kernels(facts)
    assert rows["softmax"]["verdict"] == "SLOWER"
    assert rows["softmax"]["candidate"] is None
    assert rows["softmax"]["tuned_s"] is None


def test_a_winner_whose_default_does_not_run_is_faster_without_a_ratio(facts: RunFacts) -> None:
    session = next(iter(facts.search.sessions.values()))
    session.certified[DEFAULT] = Measurement(Status.RUN_FAILED, reason="SIGSEGV")
    verdict = kernel_verdict(session)
    assert (verdict.label, verdict.ratio) == (Label.FASTER, None)
    assert session.task.key in facts.winners()


def test_outputs_that_nothing_could_be_compared_with_are_neither_right_nor_wrong(facts: RunFacts) -> None:
    rows = kernels(facts)
    assert rows["matmul_add_relu"]["verified"] is True
    assert rows["max_pool2d"]["verified"] is None
    [note] = [note for note in summarize(facts)["notes"] if note.startswith("max_pool2d: ")]
    assert "no reference could be computed" in note


def test_a_task_without_candidates_is_not_tuned(facts: RunFacts) -> None:
    row = kernels(facts)["reshape"]
    assert (row["verdict"], row["candidate"], row["ratio"], row["metadata"]) == ("NOT TUNED", None, None, None)
    assert row["untuned_s"] == pytest.approx(2e-6)


def test_the_printed_ratio_is_that_of_the_pairs(facts: RunFacts) -> None:
    """The machine got slower while it was measured: medians say the contrary of what each round says."""
    assert facts.comparison is not None
    state, result = facts.comparison.result.main(TUNED)
    seconds = result.seconds
    assert median(seconds["onnxruntime"]) > median(seconds[TUNED])
    whole = summarize(facts)["end_to_end"]
    paired = result.verdict(TUNED, "onnxruntime")
    assert (paired.label, whole["verdicts"]["onnxruntime"]) == (Label.SLOWER, "SLOWER")
    assert whole["ratios"]["onnxruntime"] == paired.ratio
    assert paired.ratio is not None
    assert paired.ratio == pytest.approx(43.0 / 42.2, rel=1e-3)
    assert (state, whole["state"]) == (CpuState.TOGETHER, "together")
    line, apart = (line for line in headline(summarize(facts)) if "onnxruntime" in line)
    assert line.endswith(f"SLOWER, speedup {1 / paired.ratio:.3g}x")
    assert apart.endswith(f"SLOWER, speedup {0.97 / paired.ratio:.3g}x")


def test_what_had_no_block_in_the_state_is_of_all_states(facts: RunFacts) -> None:
    assert facts.comparison is not None
    facts.comparison.result.blocks[UNTUNED] = {49: 5.0, 50: 5.1}
    whole = summarize(facts)["end_to_end"]
    assert whole["mixed"] == [UNTUNED]
    assert (whole["untuned_s"], whole["verdicts"][UNTUNED]) == (5.05, "FASTER")
    assert whole["states"]["apart"]["entries"][UNTUNED]["median_s"] == 5.1
    assert UNTUNED not in whole["states"]["together"]["entries"]


def test_first_call_load_and_memory_stand_beside_the_time(facts: RunFacts) -> None:
    whole = summarize(facts)["end_to_end"]
    first = whole["first_calls"]["onnxruntime"]
    assert first["median_s"] == pytest.approx(1.4 * whole["baselines"]["onnxruntime"]["median_s"])
    assert (first["verdict"], first["ratio"]) == ("SLOWER", pytest.approx(43.0 / 42.2, rel=1e-3))
    assert whole["first_calls"][TUNED]["verdict"] is None
    assert (whole["load_s"][TUNED], whole["peak_bytes"]["torch"]) == (0.31, 760 << 20)


def test_ratios_of_kernels_are_of_one_session(facts: RunFacts) -> None:
    row = kernels(facts)["matmul_add_relu"]
    assert row["ratio"] == pytest.approx(4.0e-3 / 9.1e-2, rel=1e-3)
    assert row["searched_s"] == pytest.approx(3.9e-3)
    assert row["remeasurement_shift"] == row["tuned_s"] / row["searched_s"] - 1.0
    assert row["ties"] == [candidate(1).to_text()], "as fast as the winner, as far as can be told"


def test_without_a_comparison_nothing_is_claimed(facts: RunFacts) -> None:
    summary = summarize(dataclasses.replace(facts, comparison=None, manifest=None))
    whole = summary["end_to_end"]
    assert (whole["tuned_s"], whole["untuned_s"], whole["verified"], whole["baselines"]) == (None, None, False, {})
    assert summary["export"] is None
    assert headline(summary) == ["the tuned model was not timed; see the notes in the report"]


def test_too_few_pairs_are_said(facts: RunFacts) -> None:
    assert facts.comparison is not None
    result = facts.comparison.result
    result.blocks["torch"] = {0: 71e-3}
    result.control = {}
    summary = summarize(facts)
    assert summary["end_to_end"]["noise_floor"] is None
    assert summary["end_to_end"]["verdicts"]["torch"] == "UNDECIDED"
    [line] = [line for line in headline(summary) if "torch (" in line]
    assert "UNDECIDED" in line


def test_whatever_is_summarized_can_be_read_again(facts: RunFacts) -> None:
    summary_file.validate(summarize(facts))
    summary_file.validate(summarize(dataclasses.replace(facts, comparison=None, manifest=None)))


def test_the_lines_for_the_terminal_begin_with_the_tuned_model(facts: RunFacts) -> None:
    first, untuned, *_, search = headline(summarize(facts))
    assert first.startswith("golden: ")
    assert first.endswith(", verified")
    assert untuned.startswith("  against untuned TVM (")
    counted = "10 trials: 8 candidates, 2 untuned programs; 4 to certify"
    assert search == f"search: 14 measurements ({counted}), 2 reused, 60 s, stopped by time budget"
    assert facts.comparison is not None
    facts.comparison.verified = False
    assert headline(summarize(facts))[0].endswith(", NOT verified")
    facts.comparison.result.blocks.pop(UNTUNED)
    assert not [line for line in headline(summarize(facts)) if "untuned TVM" in line]


def test_versions_are_those_of_the_environment(facts: RunFacts) -> None:
    assert facts.versions() == {"apache-tvm": "0.x"}
    facts.environment["packages"] = "unknown"
    assert facts.versions() == {}
