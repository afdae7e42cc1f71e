"""What the doctor finds."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass


class State(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"  # an option that is not there; nothing is wrong
    WARNING = "warning"  # runs work, worse than they could
    BROKEN = "broken"  # runs fail


@dataclass(frozen=True)
class Finding:
    """One result of an examination. `advice` says what to do about it, and is empty where there is nothing to do."""

    part: str
    state: State
    found: str
    advice: str = ""


Findings = Iterator[Finding]
