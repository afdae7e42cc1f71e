"""What every strategy needs: candidates of a space that were not handed out before, and what an outcome teaches."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tuner.records import Measurement, Status

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace

_DRAWS = 64
"""Draws without a new candidate after which the space counts as small and is walked through."""

_WALK_STEPS = 20_000
"""Points one call may walk over (about a second): a space whose legal rest is rarer than that counts as used up."""


class CandidatePool:
    """The candidates of one space that nobody has claimed. A candidate leaves it by `claim` only."""

    def __init__(self, space: DesignSpace, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)
        self._claimed: set[Candidate] = set()
        self._order = _scattered_points(space, seed)
        self._small = False
        self._used_up = False

    def __contains__(self, candidate: Candidate) -> bool:
        """Whether the candidate is of this space, legal, and not claimed yet."""
        return candidate not in self._claimed and belongs(self.space, candidate) and self.space.legal(candidate)

    def claim(self, candidate: Candidate) -> bool:
        """Take a candidate out of the pool; False when it was not in it. Foreign ones are remembered too."""
        fresh = candidate in self
        self._claimed.add(candidate)
        return fresh

    def draw(self) -> Candidate | None:
        """A random candidate that is not claimed (nor claimed by drawing it); None when there is none left."""
        if not self._small:
            # A resumed search draws again what was drawn before, and must come out where it was.
            for _ in range(_DRAWS + len(self._claimed)):
                candidate = self.space.sample(self.rng)
                if candidate in self:
                    return candidate
            self._small = True
        return self.walk()

    def walk(self) -> Candidate | None:
        """The next candidate that is not claimed, in a scattered order; None when there is none, or hardly any."""
        if self._used_up:
            return None
        for candidate in itertools.islice(self._order, min(self.space.size(), _WALK_STEPS)):
            if candidate not in self._claimed and self.space.legal(candidate):
                return candidate
        self._used_up = True
        return None

    def mutation(self, candidate: Candidate, changes: int = 1) -> Candidate | None:
        """A candidate of the pool near the given one, further away where the near ones are claimed."""
        for attempt in range(8):
            mutated = self.space.mutate(candidate, self.rng, changes + attempt // 2)
            if mutated in self:
                return mutated
        return self.draw()


def belongs(space: DesignSpace, candidate: Candidate) -> bool:
    """Whether a candidate is a point of the space: stored ones may come from an older or wider space."""
    if not 0 <= candidate.sketch < len(space.sketches):
        return False
    try:
        return space.from_indices(candidate.sketch, space.to_indices(candidate)) == candidate
    except (KeyError, ValueError):  # a decision that is no choice; another number of decisions
        return False


def candidate_of(space: DesignSpace, text: str) -> Candidate | None:
    """The candidate that a stored record names; None when this space has no such point.

    The text may be damaged, or name a pass that this run does not allow.
    """
    from kernels.space import Candidate

    try:
        candidate = Candidate.from_text(text)
    except ValueError:
        return None
    return candidate if candidate == space.default() or belongs(space, candidate) else None


def _scattered_points(space: DesignSpace, seed: int) -> Iterator[Candidate]:
    """Every point of the space in a scattered order, over and over, without holding them in memory.

    Counts through the points with a step that shares no factor with their number.
    """
    rng = random.Random(seed)
    size = space.size()
    step = rng.randrange(size) + 1
    while math.gcd(step, size) != 1:
        step += 1
    number = rng.randrange(size)
    while True:
        yield _point(space, number)
        number = (number + step) % size


def _point(space: DesignSpace, number: int) -> Candidate:
    """The point with a number from 0 to `space.size() - 1`."""
    for sketch in space.sketches:
        sizes = space.sizes(sketch.number)
        if number < math.prod(sizes):
            indices = []
            for n in sizes:
                number, index = divmod(number, n)
                indices.append(index)
            return space.from_indices(sketch.number, indices)
        number -= math.prod(sizes)
    raise IndexError("the space has fewer points")


def teaches(measurement: Measurement) -> bool:
    """Whether the outcome says something about the candidate.

    `suspect` does not: the clock is in doubt, not the candidate.
    """
    return measurement.status is not Status.SUSPECT


def time_or_bound(measurement: Measurement) -> float | None:
    """The median seconds, or the time that was exceeded; None for a failure."""
    return measurement.median_s if measurement.ok else measurement.censored_at_s
