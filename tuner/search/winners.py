"""The fastest candidates of all tasks: what was fast for one shape is worth trying for the nearest others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kernels.space.transfer import adapted, distance

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace

_NEAREST = 4
"""Tasks whose winners are offered: with the fifth the shapes are rarely alike any more."""


class Winners:
    """The fastest candidate of each task so far, shared by the tasks of a search; earlier runs' may be noted, too."""

    def __init__(self) -> None:
        self._best: dict[str, tuple[float, Candidate]] = {}

    def note(self, key: str, candidate: Candidate, seconds: float) -> None:
        """One verified time of a task's candidate. The untuned program is not offered to other tasks."""
        if not candidate.is_default and seconds < self._best.get(key, (float("inf"),))[0]:
            self._best[key] = seconds, candidate

    def task(self, key: str) -> TaskWinners:
        return TaskWinners(self, key)

    def others(self, key: str) -> list[Candidate]:
        """The winners of the other tasks."""
        return [candidate for other, (_, candidate) in self._best.items() if other != key]


class TaskWinners:
    """The winners as one task sees them. Made by `Winners.task`."""

    def __init__(self, winners: Winners, key: str) -> None:
        self._winners = winners
        self._key = key
        self._adapted: dict[Candidate, Candidate | None] = {}

    def note(self, candidate: Candidate, seconds: float) -> None:
        self._winners.note(self._key, candidate, seconds)

    def near(self, space: DesignSpace) -> Iterator[Candidate]:
        """The winners of the tasks whose loops are most like this space's, as candidates of it, the nearest first."""
        comparable = [(d, c) for c in self._winners.others(self._key) if (d := distance(space, c)) is not None]
        for _, winner in sorted(comparable, key=lambda pair: pair[0])[:_NEAREST]:
            if winner not in self._adapted:
                self._adapted[winner] = adapted(space, winner)
            candidate = self._adapted[winner]
            if candidate is not None:
                yield candidate
