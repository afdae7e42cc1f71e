"""The user's budget for a whole run, from its start to its export, and how it is divided among the phases.

What the end of a run needs in any case (putting the model together, verifying it, writing it) is measured before the
search and reserved. The rest is divided by `SHARES`: each phase gets its part of what is left when it begins, so what
an earlier one leaves goes to the later ones. docs/search.md tells it in words.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Phase(enum.StrEnum):
    """The phases that scale with the budget, in their order."""

    SEARCH = "search"
    CERTIFICATION = "certification"
    KERNEL_BASELINES = "kernels of frameworks"
    STARTING = "starting baselines"
    COMPARISON = "comparison"
    ACCOUNT = "account"


class Share(NamedTuple):
    """A phase's part of what is divided, and the seconds beyond which more buy nothing."""

    part: float
    most_s: float


SHARES: Mapping[Phase, Share] = {
    Phase.SEARCH: Share(0.55, math.inf),
    Phase.CERTIFICATION: Share(0.10, 150.0),
    Phase.KERNEL_BASELINES: Share(0.05, 150.0),
    Phase.STARTING: Share(0.15, 600.0),
    Phase.COMPARISON: Share(0.13, 240.0),
    Phase.ACCOUNT: Share(0.02, 2.0),
}

LEAST_SEARCH = 0.25
"""The search gets this share of all that is left, even where the reserve leaves nothing: what is reserved for is taken
from the model with TVM's own kernels, and a tuned one needs less."""


@dataclass
class TotalBudget:
    """`total_s` None: no limit, and every phase takes its usual time. `spent_earlier_s` is what earlier attempts of the
    same run took; `reserved_s` what the end needs in any case. Seconds; `clock` counts them."""

    total_s: float | None = None
    spent_earlier_s: float = 0.0
    reserved_s: float = 0.0
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def limited(self) -> bool:
        return self.total_s is not None

    @property
    def spent_s(self) -> float:
        """What the run has taken so far, earlier attempts included."""
        return self.spent_earlier_s + self.clock() - self.began

    @property
    def left_s(self) -> float:
        """Seconds to the end of the budget, at least 0; infinite without one."""
        return math.inf if self.total_s is None else max(self.total_s - self.spent_s, 0.0)

    @property
    def free_s(self) -> float:
        """What is left beside the reserve."""
        return max(self.left_s - self.reserved_s, 0.0)

    def allowed_s(self, phase: Phase, usual_s: float) -> float:
        """What a phase that begins now may take. `usual_s` is what it takes where there is no total budget."""
        if self.total_s is None:
            return usual_s
        free_s = self.free_s
        if phase is Phase.SEARCH:
            share_s = free_s - sum(min(s.part * free_s, s.most_s) for p, s in SHARES.items() if p is not phase)
            return max(share_s, LEAST_SEARCH * self.left_s)
        order = list(SHARES)
        parts = sum(SHARES[later].part for later in order[order.index(phase) :])
        return min(SHARES[phase].part / parts * free_s, SHARES[phase].most_s)

    def stop_after(self, seconds: float) -> Callable[[], bool]:
        """A `stop` that is true from so many seconds after now on."""
        end = self.clock() + seconds
        return lambda: self.clock() >= end
