"""How long a build or a run may take: learned from those of the same task, never more than the configured limit.

With one fixed limit, every candidate of a fast task that hangs would cost as much as the slowest task allows.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Sequence

QUANTILE = 0.9
FACTOR = 4.0
"""Builds of one task were seen to differ threefold; the rest is for a machine that is busy with something else."""

LEAST_KNOWN = 8
"""Durations of a task before they are trusted over the configured limit."""

NEWEST = 32
"""Only so many of the last durations count: searches move to candidates that take longer to build."""

LEAST_BUILD_S = 5.0
LEAST_RUN_S = 3.0
"""No deadline is shorter: a swapped page or a busy disk must not fail a candidate."""

SLOWER = 10.0
"""A call this many times slower than the time above which a candidate is given up is not waited for."""

SINGLE_CALLS = 8
"""Calls of a kernel outside of its sampling: checks, first samples, calibrating a block."""


class Durations:
    """What one kind of work took for each task, and the deadline that follows. Seconds.

    Work that was stopped at its deadline counts as having taken that long: where more than one in ten is stopped, the
    deadline rises fourfold, until it is the configured limit again.
    """

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._known: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=NEWEST))

    def add(self, task: str, seconds: float) -> None:
        """Note how long one piece of work took."""
        self._known[task].append(seconds)

    def limit(self, task: str, most_s: float) -> float:
        """The deadline: FACTOR times the quantile of the task's durations, between the least and `most_s`.

        While fewer than LEAST_KNOWN are known it is `most_s`.
        """
        known = self._known[task]
        if len(known) < LEAST_KNOWN:
            return most_s
        return min(most_s, max(self._least_s, FACTOR * quantile(known, QUANTILE)))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least `share` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def run_limit(setup_s: float, sampling_s: float, give_up_above_s: float | None, most_s: float) -> float:
    """Seconds in which a kernel must be checked and timed.

    `setup_s` is what loading and checking may take, `sampling_s` the longest that sampling goes on.
    `give_up_above_s` is a multiple of the task's best: a call far over it need not be waited for. Without it the limit
    is `most_s` and the sampling.
    """
    if give_up_above_s is None:
        return most_s + sampling_s
    return min(most_s, setup_s + SINGLE_CALLS * SLOWER * give_up_above_s) + sampling_s
