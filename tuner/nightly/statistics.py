"""When a series changed: its own threshold, its level, and a step that several nights show. Pure functions.

A value is a log ratio measured in pairs within one night, so that the machine's own drift cancels. All functions take
values along the last axis, so that many series are judged at once (experiments/nightly does that).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 0.005
"""A change under 0.5 % does not count: rebuilding the same source moves code placement by as much."""

COLD = 0.03
"""The threshold of a series with fewer than FEW changes: its noise is not known yet."""

FEW = 8
NIGHTS = 30
"""So many nights back the level and the threshold are taken from."""

TOO_NOISY = 0.05
"""A series whose threshold is above this cannot tell a change of 5 %, and says so."""

NOISY, SEVERAL = 0.03, 3
"""From the night on at which a series' threshold is above NOISY, its cell is compared SEVERAL times a night, and the
median counts."""

TAIL = 3
"""So many nights, tonight among them, show a step that one night alone does not."""

_STEP_SHARE = 0.4
"""Of the threshold, that all of TAIL nights have to exceed in the median: three nights scatter less than one."""

_CONFIRM_SHARE = 0.5
"""Of what made a change suspect, that the second run has to show: it scatters, too, around a true change."""

EXCURSIONS, _TOLERATED = 120, 2
"""What a series did more often than so many times in so many nights, without anyone having caused it, is no news. One
night that stands elsewhere is two changes: there and back."""

_PENALTY = 3.0
"""Of a change point, in units of the logarithm of the number of nights (Killick et al., 2012, use 2 to 3)."""

Array = NDArray[np.float64]
Truth = NDArray[np.bool_]


def threshold(changes: Array, cold: float = COLD) -> Array:
    """What a change must exceed: Q3 + 3 IQR of the last NIGHTS changes from night to night, at least LEAST.

    That is the rule of rustc-perf. Quartiles do not see a second mode in which a series stands now and then, so that
    the third largest of the last EXCURSIONS changes is a limit, too. `changes` [..., changes] are differences of
    values, oldest first, without tonight's. `cold` where there are fewer than FEW.
    """
    changes = np.abs(np.asarray(changes, dtype=np.float64))[..., -EXCURSIONS:]
    if changes.shape[-1] < FEW:
        return np.full(changes.shape[:-1], cold)
    first, third = np.quantile(changes[..., -NIGHTS:], [0.25, 0.75], axis=-1)
    seen = np.partition(changes, -1 - _TOLERATED, axis=-1)[..., -1 - _TOLERATED]
    found: Array = np.maximum(np.maximum(third + 3.0 * (third - first), seen), LEAST)
    return found


def level(values: Array) -> Array:
    """Where a series stands: the median of the last NIGHTS values."""
    found: Array = np.median(np.asarray(values, dtype=np.float64)[..., -NIGHTS:], axis=-1)
    return found


def jumps(values: Array, tonight: Array, limit: Array) -> Truth:
    """Whether tonight alone is beyond the threshold."""
    found: Truth = np.abs(tonight - level(values)) > limit
    return found


def steps(values: Array, tonight: Array, limit: Array) -> Truth:
    """Whether the last TAIL nights together stand apart from those before, as far as three numbers can tell.

    All of them lie on one side of the level, their median by twice LEAST and a part of the threshold. It is cheap, and
    what it lets pass has to be a change point too.
    """
    if values.shape[-1] < TAIL - 1 + FEW:
        return np.zeros(np.shape(tonight), dtype=bool)
    before, tail = values[..., : 1 - TAIL], np.concatenate([values[..., 1 - TAIL :], tonight[..., None]], axis=-1)
    apart = tail - level(before)[..., None]
    needed = np.maximum(_STEP_SHARE * limit, 2.0 * LEAST)
    one_side = np.abs(np.sign(apart).sum(axis=-1)) == TAIL
    found: Truth = one_side & (np.abs(np.median(apart, axis=-1)) > needed)
    return found


def step_size(values: Array, tonight: float) -> float:
    """How far the last TAIL nights stand from the level before them: the median."""
    tail = np.append(values[1 - TAIL :], tonight)
    return float(np.median(tail - level(values[: 1 - TAIL])))


def is_change_point(values: Sequence[float]) -> bool | None:
    """Whether the best cut of a series into levels has a change in its last TAIL nights.

    By PELT with squared deviations, in units of the noise that the night-to-night changes show. None where the package
    that does it (`ruptures`, extra `nightly`) is not installed.
    """
    ruptures = _ruptures()
    if ruptures is None:
        return None
    series = np.asarray(values[-2 * NIGHTS :], dtype=np.float64)
    noise = float(np.median(np.abs(np.diff(series)))) / 0.954  # of a normal law: median |a - b| = 0.954 deviations
    scaled = (series / max(noise, 1e-6)).clip(-1e6, 1e6)
    cuts = ruptures.Pelt(model="l2", min_size=2, jump=1).fit(scaled).predict(pen=_PENALTY * np.log(len(series)))
    return any(len(series) - TAIL <= cut < len(series) for cut in cuts)


@functools.cache
def _ruptures() -> Any:
    try:
        import ruptures
    except ModuleNotFoundError:
        return None
    return ruptures


def confirms(needed: Array | float, first: Array | float, second: Array | float) -> Any:
    """Whether a second run agrees with a suspect change: the same side, and half of what was `needed` at least.

    `first` and `second` are changes from the level.
    """
    return (np.sign(first) == np.sign(second)) & (np.abs(second) > _CONFIRM_SHARE * np.asarray(needed))


@dataclass
class Level:
    """The values at a series' level, and the changes that show its noise: both oldest first.

    A confirmed change is held back. One for the worse never becomes the level; one for the better does when it has held
    for TAIL nights. Where it goes away by itself, it was noise, and its changes count as such.
    """

    values: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    _direction: float = 0.0

    def add(self, value: float, confirmed: float = 0.0) -> None:
        """A night's value; `confirmed` is its change from the level where that was confirmed, else 0."""
        if confirmed:
            if self.held and confirmed * self._direction < 0:
                self._let_go()
            self.held.append(value)
            self._direction = confirmed
            if confirmed < 0 and len(self.held) >= TAIL:
                self.changes += np.diff(self.held).tolist()
                self.values, self.held = self.held, []
            return
        self._let_go()
        if self.values:
            self.changes.append(value - self.values[-1])
        self.values.append(value)

    def measured_otherwise(self) -> None:
        """From here on values are measured in another way: earlier changes do not show their noise."""
        self.changes = []

    def _let_go(self) -> None:
        """What was held back went away: the way there and back is noise."""
        if self.held and self.values:
            level = self.values[-1]
            self.changes += np.diff([level, *self.held, level]).tolist()
        self.held = []


@dataclass(frozen=True)
class Suspicion:
    """What one night says of a series. `change`: from the level; `threshold`: what it was held against. `by_step`: not
    tonight alone, but several nights together show it, whose `change` and smaller `threshold` these are. `suspect`: it
    is beyond, and needs a second run. `young`: the noise of the series is not known yet."""

    base: float
    change: float
    threshold: float
    suspect: bool
    by_step: bool = False
    sentence: str = ""
    young: bool = False

    @property
    def too_noisy(self) -> bool:
        return self.threshold > TOO_NOISY and not self.young


def suspicion(
    values: Sequence[float], tonight: float, changes: Sequence[float] | None = None, cold: float = COLD
) -> Suspicion:
    """Judge tonight's value against those of earlier nights at its level, oldest first: at least one.

    `changes` are the differences from night to night that show the noise; those of `values` unless given. `cold`:
    the threshold while there are few of them.
    """
    past, now = np.asarray(values, dtype=np.float64), np.asarray(tonight, dtype=np.float64)
    noise = np.diff(past) if changes is None else np.asarray(changes, dtype=np.float64)
    base, limits = float(level(past)), threshold(noise, cold)
    change, limit = tonight - base, float(limits)
    if bool(jumps(past, now, limits)):
        return Suspicion(base, change, limit, True, young=len(noise) < FEW)
    if not bool(steps(past, now, limits)):
        return Suspicion(base, change, limit, False, young=len(noise) < FEW)
    point = is_change_point([*values, tonight])
    size = step_size(past, tonight)
    before = float(level(past[: 1 - TAIL]))
    needed = max(_STEP_SHARE * limit, 2.0 * LEAST)
    if point is False:
        return Suspicion(base, change, limit, False)
    how = f"the last {TAIL} nights stand {size:+.2%} from those before"
    how += ", a change point" if point else "; `ruptures` is not installed, no change point was looked for"
    return Suspicion(before, size, needed, True, True, how)
