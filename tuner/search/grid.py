"""Grid search: every legal point of a small space, in the order of their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.protocols import Proposal
from tuner.records import Measurement
from tuner.search.base import CandidatePool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernels.space import Candidate, DesignSpace


class GridStrategy:
    """Each legal point once, whatever becomes of it.

    A space that can be listed (`DesignSpace.points`) is tried in order: sketch by sketch, the last coordinate
    fastest. One that is too large to be listed is larger than any budget: its points come in a scattered order that
    depends on the seed, so that wherever the search stops it has seen all parts of the space equally; their proposer is
    `scattered`, not `grid`. Where legal points are too rare to be walked to, the rest is drawn at random.
    """

    def __init__(self, space: DesignSpace, seed: int) -> None:
        self._pool = CandidatePool(space, seed)
        points = space.points()
        self._proposer = "scattered" if points is None else "grid"
        self._points: Iterator[Candidate] | None = None if points is None else iter(points)

    def ask(self, count: int, refine: bool = False) -> list[Proposal]:
        proposals: list[Proposal] = []
        while len(proposals) < count and (candidate := self._next()) is not None:
            self._pool.claim(candidate)
            proposals.append(Proposal(candidate, self._proposer))
        return proposals

    def tell(self, candidate: Candidate, measurement: Measurement) -> None:
        self._pool.claim(candidate)

    def _next(self) -> Candidate | None:
        if self._points is None:
            return self._pool.walk() or self._pool.draw()
        return next((point for point in self._points if point in self._pool), None)
