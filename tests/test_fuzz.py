"""Damaged files at every door: each is accepted or refused by a typed error, in bounded time and memory.

The short form of experiments/fuzz, with a seed of its own.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.fuzzing import hunt as hunting
from tests.fuzzing.doors import DOORS, Door
from tests.fuzzing.hunt import hunt
from tests.fuzzing.mutants import mutant

QUICK = [door for door in DOORS if door != "report"]  # drawing takes half a second


def test_damaged_files_do_no_harm() -> None:
    tallies = hunt(QUICK, 60)
    found = [(tally.door, finding) for tally in tallies for finding in tally.findings]
    assert not found
    assert all(tally.outcomes.total() == 60 and tally.outcomes["refused"] > 6 for tally in tallies), tallies


def _behave(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    if content != b"whole" and content[:1] == b"w":
        raise KeyError("a bug")


BAD: dict[str, tuple[str, str]] = {}


@pytest.mark.parametrize(
    ("deed", "what"),
    [
        ("raise KeyError('a bug')", "KeyError"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "code -11"),
        ("bytearray(1 << 34)", "MemoryError"),
        ("time.sleep(60)", "no answer in time"),
    ],
)
def test_harm_would_be_noticed(deed: str, what: str) -> None:
    raise NotImplementedError
