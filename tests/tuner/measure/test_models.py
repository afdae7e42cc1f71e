"""Whole models compared in real children: who is timed, what counts as verified, and what the notes say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tuner.measure import services
from tuner.measure.entries import call
from tuner.measure.models import TUNED, UNTUNED, EntrySpec, ModelComparison, Timing, compare_models
from tuner.models import InputSet
from tuner.process.worker import Child, ChildTimeout

ONES = InputSet("ones", (np.ones((4, 4), dtype=np.float32),))


def spec(name: str, **settings: Any) -> EntrySpec:
    return EntrySpec(name, f"{services.__name__}:Doubling", settings)


def compared(
    folder: Path, *specs: EntrySpec, references: Sequence[str] = ("torch",), sets: Sequence[InputSet] | None = None
) -> ModelComparison:
    sets = sets or [ONES]
    return compare_models(specs, references, sets, folder, 1, Timing(lambda: 0.5, 10), 0, lambda message: None)


def test_outputs_that_agree_are_verified_and_all_are_timed(tmp_path: Path) -> None:
    comparison = compared(tmp_path, spec(TUNED), spec(UNTUNED), spec("torch", factor=2.000001))
    assert comparison.verified is True
    assert comparison.max_abs_error == pytest.approx(1e-6, rel=0.1)
    assert comparison.settings == {TUNED: "times 2", UNTUNED: "times 2", "torch": "times 2"}
    assert all(len(comparison.result.seconds[name]) >= 10 for name in (TUNED, UNTUNED, "torch"))
    assert comparison.load_s == dict.fromkeys((TUNED, UNTUNED, "torch"), 0.25)
    assert comparison.peak_bytes.keys() == comparison.load_s.keys()
    assert all(peak > 10 << 20 for peak in comparison.peak_bytes.values())
    assert comparison.notes == ["tuned outputs compared with torch on ones"]
    assert comparison.result.aa_pairs[0], "the tuned model is timed against itself"


def test_outputs_that_differ_are_not_verified(tmp_path: Path) -> None:
    comparison = compared(tmp_path, spec(TUNED, factor=2.1), spec("torch"))
    assert comparison.verified is False
    assert comparison.notes[0].startswith("outputs differ from torch: ")


def test_a_baseline_that_answers_otherwise_than_every_reference_is_named_and_no_measure(tmp_path: Path) -> None:
    comparison = compared(tmp_path, spec(TUNED), spec(UNTUNED), spec("fast", factor=2.1), spec("torch"))
    assert comparison.verified is True
    assert set(comparison.result.seconds) == {TUNED, UNTUNED, "torch"}
    [note] = [note for note in comparison.notes if note.startswith("fast ")]
    assert note.startswith("fast is not compared: its outputs differ from every reference: ")


def test_an_entry_that_is_not_ready_in_its_time_is_left_out(tmp_path: Path) -> None:
    late = EntrySpec("late", f"{services.__name__}:Doubling", {}, prepare_s=1e-3)
    comparison = compared(tmp_path, spec(TUNED), late, spec("torch"))
    assert "late is not compared: no reply within 0.001 s" in comparison.notes
    assert set(comparison.result.seconds) == {TUNED, "torch"}


def test_when_no_time_is_left_for_an_entry_it_is_not_started(tmp_path: Path) -> None:
    allowed = {TUNED: 300.0, "torch": 300.0, "late": 0.0}
    timing = Timing(lambda: 0.5, 3, allowed.__getitem__, limited=True)
    comparison = compare_models(
        [spec(TUNED), spec("torch"), spec("late")], ("torch",), [ONES], tmp_path, 1, timing, 0,
        lambda message: None,
    )  # fmt: skip
    assert comparison.verified is True
    assert "late is not compared: no time is left for it" in comparison.notes
    assert comparison.result.seconds[TUNED]


def test_after_an_interrupt_what_verifies_is_started_and_nothing_else(tmp_path: Path) -> None:
    timing = Timing(lambda: 60.0, 10, stop=lambda: True)
    comparison = compare_models(
        [spec(TUNED), spec("torch"), spec("other")], ("torch",), [ONES], tmp_path, 1, timing, 0,
        lambda message: None,
    )  # fmt: skip
    assert comparison.verified is True
    assert "other is not compared: the run was interrupted" in comparison.notes
    assert len(comparison.result.seconds[TUNED]) >= 3


def test_an_entry_that_is_waited_for_is_given_up_when_the_run_is_to_stop(tmp_path: Path) -> None:
    began = time.monotonic()
    asleep = Child(f"{services.__name__}:Sleeper", {"call_s": 60.0})
    with asleep, pytest.raises(ChildTimeout, match="interrupted"):
        call(asleep, lambda: time.monotonic() > began + 0.2, "block", 300.0, count=1)
    assert time.monotonic() - began < 20.0


def test_a_wrong_tuned_model_is_replaced_by_one_that_is_right(tmp_path: Path) -> None:
    faults = []

    def mend(fault: Callable[[EntrySpec], str]) -> EntrySpec | None:
        faults.append(fault(spec(TUNED, factor=2.1)))
        assert fault(spec(TUNED)) == ""
        return spec(TUNED)

    comparison = compare_models(
        [spec(TUNED, factor=2.1), spec("torch")], ("torch",), [ONES], tmp_path, 1,
        Timing(lambda: 0.2, 3), 0, lambda message: None, mend=mend,
    )  # fmt: skip
    assert comparison.verified is True
    assert faults == [faults[0]] and faults[0]
    assert comparison.notes == ["tuned outputs compared with torch on ones"]
    assert comparison.result.aa_pairs[0]


def test_a_tuned_model_that_stays_wrong_is_said_to_be(tmp_path: Path) -> None:
    comparison = compare_models(
        [spec(TUNED, broken=True), spec("torch")], ("torch",), [ONES], tmp_path, 1,
        Timing(lambda: 0.2, 3), 0, lambda message: None, mend=lambda fault: None,
    )  # fmt: skip
    assert comparison.verified is None
    assert "the tuned model did not run; nothing is verified" in comparison.notes


def test_without_a_reference_it_is_not_known_whether_outputs_are_right(tmp_path: Path) -> None:
    comparison = compared(tmp_path, spec(TUNED), spec("torch", broken=True))
    assert comparison.verified is None
    assert comparison.notes[0].startswith("torch is not compared: ") and "no such package" in comparison.notes[0]
    assert comparison.notes[1:] == ["no independent reference ran; outputs are not verified"]
    assert "torch" not in comparison.result.seconds


def test_a_tuned_model_that_does_not_run_leaves_the_others_timed(tmp_path: Path) -> None:
    comparison = compared(tmp_path, spec(TUNED, broken=True), spec("torch"))
    assert comparison.verified is None
    assert TUNED not in comparison.result.seconds
    assert len(comparison.result.seconds["torch"]) >= 10


@pytest.mark.parametrize(("value", "verified"), [(2, True), (3, False)])
def test_outputs_that_came_with_the_inputs_must_be_the_tuned_ones(tmp_path: Path, value: float, verified: bool) -> None:
    stored = InputSet("stored", ONES.arrays, (np.full((4, 4), value, np.float32),))
    for sets in ([stored], [ONES, stored]):
        comparison = compared(tmp_path, spec(TUNED), spec("torch"), sets=sets)
        assert comparison.verified is verified
        words = "and with the outputs that" if verified else "outputs differ from those that"
        assert comparison.notes[-1].startswith(f"{words} came with stored")
