"""The best so far of one search, trial by trial, and what it would ship at each checkpoint."""

from __future__ import annotations

import time
from typing import Generic, TypeVar

TRIALS = (32, 64, 128, 256)
SECONDS = (60, 180, 600)
"""The checkpoints: what would be shipped after so many trials, and after so many seconds."""

END = "end"

Choice = TypeVar("Choice")
"""What names a kernel: a candidate, or the number of a trial."""


def trials_name(trials: int) -> str:
    return f"{trials} trials"


def seconds_name(seconds: float) -> str:
    return f"{seconds:g} s"


class Curve(Generic[Choice]):
    """Its clock starts with it. `points` are (trial, seconds of search, seconds of the kernel) for each trial
    that was the fastest so far, `shipped` the choice at each checkpoint."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.points: list[tuple[int, float, float]] = []
        self.shipped: dict[str, Choice | None] = {}
        self.trials = 0
        self.best: Choice | None = None
        self.best_s = float("inf")

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def add(self, choice: Choice, seconds: float | None) -> None:
        """One trial: its choice, and what the kernel takes (None: it failed)."""
        self._pass_checkpoints()
        self.trials += 1
        if seconds is not None and seconds < self.best_s:
            self.best_s, self.best = seconds, choice
            self.points.append((self.trials, round(self.elapsed_s, 2), seconds))
        if self.trials in TRIALS:
            self.shipped[trials_name(self.trials)] = self.best

    def _pass_checkpoints(self) -> None:
        for limit in SECONDS:
            if self.elapsed_s >= limit:
                self.shipped.setdefault(seconds_name(limit), self.best)

    def close(self) -> None:
        """The search is over."""
        self._pass_checkpoints()
        self.shipped[END] = self.best
