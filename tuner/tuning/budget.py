"""What a search may spend, and why it ends."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass

from tuner.tuning.ledger import Ledger

REFINING_SHARE = 0.1
"""The share of the budget in which nothing new is looked for: what is near the fastest is tried."""


class SearchEnd(enum.StrEnum):
    """Why a search ended."""

    INTERRUPT = "interrupt"
    TIME = "time budget"
    TRIALS = "trial budget"
    FINISHED = "every task finished"


@dataclass
class Budget:
    """When to stop. `stop` is also true after an interrupt. Seconds of the monotonic clock.

    `end`, `span_s` (what there is from beginning to end) and `trials` are for the whole search. Trials of a part of it
    that was interrupted cost what their records say, not what replaying them takes, which is in `replayed_s`.
    """

    end: float
    span_s: float
    trials: int | None
    ledger: Ledger
    interrupted: Callable[[], bool]
    refining_share: float = REFINING_SHARE
    replayed_s: float = 0.0

    @classmethod
    def starting_now(
        cls, seconds: float, trials: int | None, ledger: Ledger, interrupted: Callable[[], bool] = lambda: False
    ) -> Budget:
        return cls(time.monotonic() + seconds, seconds, trials, ledger, interrupted)

    @property
    def deadline(self) -> float:
        return self.end + self.replayed_s - self.ledger.restored_s

    @property
    def left_s(self) -> float:
        """Seconds from now to the deadline, at least 0."""
        return max(self.deadline - time.monotonic(), 0.0)

    def spent(self) -> SearchEnd | None:
        """Why no further trial may start; None while one may."""
        if self.interrupted():
            return SearchEnd.INTERRUPT
        if time.monotonic() >= self.deadline:
            return SearchEnd.TIME
        if self.trials is not None and self.ledger.trials >= self.trials:
            return SearchEnd.TRIALS
        return None

    def stop(self) -> bool:
        return self.spent() is not None

    def ending(self) -> bool:
        """Whether the last part of the search has begun."""
        few = self.trials is not None and self.trials - self.ledger.trials <= self.refining_share * self.trials
        return few or self.deadline - time.monotonic() <= self.refining_share * self.span_s

    def allowed(self, count: int) -> int:
        """`count` trials, or as many as are left."""
        return count if self.trials is None else min(count, max(self.trials - self.ledger.trials, 0))

    def before(self, moment: float) -> Callable[[], bool]:
        """A `stop` that is also true from a moment on."""
        return lambda: self.stop() or time.monotonic() >= moment
