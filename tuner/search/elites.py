"""The fastest candidates of a task so far: the parents of new ones."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kernels.space import Candidate

_COUNT = 12


class Elites:
    """The fastest candidates, each schedule once: a dozen that differ in their passes are one parent."""

    def __init__(self) -> None:
        self._ranked: list[tuple[float, int, Candidate]] = []
        self._considered = 0

    def __len__(self) -> int:
        return len(self._ranked)

    @property
    def best(self) -> Candidate | None:
        return self._ranked[0][2] if self._ranked else None

    def fastest(self, count: int) -> Sequence[Candidate]:
        return [candidate for _, _, candidate in self._ranked[:count]]

    def consider(self, seconds: float, candidate: Candidate) -> None:
        """Add the candidate if it is fast enough."""
        self._considered += 1
        same = next((e for e in self._ranked if schedule(e[2]) == schedule(candidate)), None)
        if same is not None and same[0] <= seconds:
            return
        if same is not None:
            self._ranked.remove(same)
        bisect.insort(self._ranked, (seconds, self._considered, candidate))
        del self._ranked[_COUNT:]

    def parent(self, rng: np.random.Generator) -> Candidate:
        """One of them, the faster the likelier. Raises IndexError when there is none."""
        return self._ranked[math.floor(len(self._ranked) * rng.random() ** 2)][2]


def schedule(candidate: Candidate) -> object:
    """What two candidates share that differ only in their passes."""
    return candidate.sketch, candidate.decisions
