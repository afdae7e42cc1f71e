"""Uniform random search: the baseline every other strategy has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.protocols import Proposal
from tuner.records import Measurement
from tuner.search.base import CandidatePool

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace


class RandomStrategy:
    """Random legal candidates, each once; learns nothing but what is known already."""

    def __init__(self, space: DesignSpace, seed: int) -> None:
        self._pool = CandidatePool(space, seed)

    def ask(self, count: int, refine: bool = False) -> list[Proposal]:
        proposals: list[Proposal] = []
        while len(proposals) < count and (candidate := self._pool.draw()) is not None:
            self._pool.claim(candidate)
            proposals.append(Proposal(candidate, "random"))
        return proposals

    def tell(self, candidate: Candidate, measurement: Measurement) -> None:
        self._pool.claim(candidate)
