"""What a search is given beside its tasks: the settings of its effort, notes, and the passes that it may search."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from kernels.passes import PASSES
from tests.tuner.tuning.on_null import Loop
from tuner.config import SETTINGS, PassesConfig
from tuner.store import SqlStore
from tuner.tuning.context import NEEDS_FAST_MATH, searched_passes


@pytest.mark.parametrize("effort", SETTINGS)
def test_settings_are_those_of_the_effort(effort: str, tmp_path: Path, store: SqlStore) -> None:
    assert Loop(tmp_path, store, effort=effort).context.settings is SETTINGS[effort]


def test_a_note_is_shown_and_kept(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    loop.context.note("something is so")
    loop.context.progress.close()
    assert loop.context.notes == ["something is so"]
    assert "something is so" in loop.said.getvalue()


def test_by_default_nobody_interrupts_and_every_record_is_usable(tmp_path: Path, store: SqlStore) -> None:
    fields = {f.name: f.default for f in dataclasses.fields(Loop(tmp_path, store).context)}
    assert fields["interrupted"]() is False  # type: ignore[operator]
    assert fields["usable"](None) is True  # type: ignore[operator]


def test_passes_that_change_results_are_searched_where_they_are_allowed() -> None:
    everything = tuple(PASSES)
    assert set(everything) - set(searched_passes(PassesConfig())) == set(NEEDS_FAST_MATH)
    assert searched_passes(PassesConfig(fast_math=True)) == everything
    assert searched_passes(PassesConfig(kernel=("cse", "fast_math"))) == ("cse",)
    assert searched_passes(PassesConfig(kernel=("cse", "fast_math"), fast_math=True)) == ("cse", "fast_math")
