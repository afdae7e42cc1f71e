"""Damaged files at every entry point: each is accepted or refused by a typed error, in bounded time and memory.

The short form of experiments/fuzz, with a seed of its own.
"""

from __future__ import annotations

from tests.fuzzing.entry_points import ENTRY_POINTS, HARMFUL_SAMPLES
from tests.fuzzing.hunt import hunt

QUICK = [entry_point for entry_point in ENTRY_POINTS if entry_point != "report"]  # drawing takes half a second a time


def test_damaged_files_do_no_harm() -> None:
    tallies = hunt(QUICK, 40)
    assert [(tally.entry_point, defect) for tally in tallies for defect in tally.defects] == []
    for tally in tallies:
        assert tally.outcomes.total() == 40
        assert tally.outcomes["refused"] > 4, tally


def test_harm_would_be_noticed() -> None:
    words = {
        "bug": "ValueError",
        "crash": "code -11",
        "greed": "MemoryError",
        "hang": "no outcome in time",
    }
    assert words.keys() == HARMFUL_SAMPLES.keys()
    quick = [entry_point for entry_point in HARMFUL_SAMPLES if entry_point != "hang"]
    for tally in [*hunt(quick, 1, memory_bytes=1 << 30), *hunt(["hang"], 1, deadline_s=1.0)]:
        [defect] = tally.defects
        assert words[tally.entry_point] in defect.what
