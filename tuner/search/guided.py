"""Many proposers, one judge: a pool of candidates from simple rules, ranked by a cost model."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from costmodel.dataset import FAILURE, Outcome

from tuner.protocols import Proposal, Strategy
from tuner.records import Measurement, Status
from tuner.search.base import Pool, belongs, teaches, time_or_bound
from tuner.search.ranker import MIN_ROWS, FeatureCache, TaskRanker

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace

POOL_SIZE = 64
"""New candidates considered for a batch. A row takes some 15 ms, so this is half a second on two workers."""

_ELITES = 12
_INNER_ASKS = 4
_EXPLORE = 0.125
"""The share of a batch that the model has no say in: what it is wrong about is found only so."""

_EXPLORE_STUCK = 0.375
_STUCK_AFTER = 2
"""The same after so many batches without a new best: the neighbourhood of the fastest is used up."""

_SAME_SCHEDULE = 2
"""How many candidates of one batch may differ in nothing but their passes."""

_ROUNDS = 16
"""Pools in a row of which nothing can be scheduled before the space counts as used up."""


class GuidedStrategy:
    """Seeds and random draws first; then the best of a pool of mutations, crossovers and others, by the model.

    The pool is mutations and crossovers of the fastest, neighbours of the best, seeds not tried yet,
    random draws, and a few candidates of the `inner` strategy, which is told every outcome. What was
    considered and not picked is ranked again with the next pool: its row is known, so that is free.
    """

    def __init__(
        self,
        space: DesignSpace,
        features: FeatureCache,
        ranker: TaskRanker,
        inner: Strategy,
        seed: int,
        pool_size: int = POOL_SIZE,
    ) -> None:
        self._space = space
        self._features = features
        self._ranker = ranker
        self._inner = inner
        self._pool_size = pool_size
        self._pool = Pool(space, seed)
        self._rng = self._pool.rng
        seeds = space.seeds()
        # every third first: candidates next to each other in the list are alike
        self._seeds = [c for start in range(3) for c in seeds[start::3]]
        self._elites: list[tuple[float, int, Candidate]] = []
        self._told = 0
        self._best_at_ask: Candidate | None = None
        self._stuck = 0
        self._unlearned: list[tuple[Candidate, Outcome]] = []
        self._leftovers: list[Proposal] = []

    def ask(self, count: int) -> list[Proposal]:
        if count <= 0:
            return []
        self._learn_late()
        best = self._elites[0][2] if self._elites else None
        self._stuck = self._stuck + 1 if best == self._best_at_ask else 0
        self._best_at_ask = best
        for _ in range(_ROUNDS):
            knows = len(self._ranker) >= MIN_ROWS
            considered = self._schedulable(self._proposals(self._pool_size) if knows else self._first(count))
            if considered:
                return self._pick(considered, count) if knows else self._take(considered[:count])
            if self._pool.draw() is None:
                break
        return []

    def tell(self, candidate: Candidate, measurement: Measurement) -> None:
        self._pool.claim(candidate)
        self._inner.tell(candidate, measurement)
        if not teaches(measurement):
            return
        self._told += 1
        if measurement.ok and belongs(self._space, candidate):
            bisect.insort(self._elites, (measurement.median_s, self._told, candidate))
            del self._elites[_ELITES:]
        seconds = time_or_bound(measurement)
        if seconds is None:
            outcome = FAILURE
        else:
            outcome = Outcome(seconds=seconds) if measurement.ok else Outcome(slower_than=seconds)
        known = candidate in self._features
        if known or candidate.is_default or belongs(self._space, candidate):
            self._unlearned.append((candidate, outcome))
        if known:
            self._learn_late()

    def _learn_late(self) -> None:
        """Pass outcomes on to the ranker; rows not known yet are computed together, which is in parallel."""
        rows = self._features.rows([c for c, _ in self._unlearned])
        for row, (_, outcome) in zip(rows, self._unlearned, strict=True):
            if row is not None:
                self._ranker.add(row, outcome)
        self._unlearned.clear()

    # --- proposing --------------------------------------------------------------------------------

    def _first(self, count: int) -> list[Proposal]:
        """Half seeds, half random, alternating, with some to spare for those that cannot be scheduled."""
        return self._mix([self._from_seeds(), self._from_random()], count + count // 2)

    def _proposals(self, limit: int) -> list[Proposal]:
        """A pool in proposer order, so that a model that knows nothing picks a mixture."""
        mutate, neighbours = self._from_mutation(), self._from_neighbours()
        others = [self._from_inner(), self._from_crossover(), neighbours, self._from_seeds(), self._from_random()]
        sources = [*others[:2], mutate, *others[2:4], mutate, *others[4:], mutate]
        kept = [p for p in self._leftovers if p.candidate in self._pool]
        return self._mix(sources, limit, known=kept) + kept

    def _mix(
        self, sources: Sequence[Iterator[Proposal]], limit: int, known: Sequence[Proposal] = ()
    ) -> list[Proposal]:
        """One of each in turn, none twice nor known, until there are `limit` or the sources dry up."""
        found: dict[Candidate, Proposal] = {}
        old = {p.candidate for p in known}
        live = list(sources)
        # Sources repeat themselves in small spaces; a long run without news ends the search for more.
        misses = 0
        while live and len(found) < limit and misses < 4 * limit:
            for source in tuple(live):
                proposal = next(source, None)
                if proposal is None:
                    live = [s for s in live if s is not source]
                elif proposal.candidate in found or proposal.candidate in old or proposal.candidate not in self._pool:
                    misses += 1
                elif len(found) < limit:
                    found[proposal.candidate] = proposal
        return list(found.values())

    def _from_seeds(self) -> Iterator[Proposal]:
        return (Proposal(c, "seed") for c in self._seeds)

    def _from_random(self) -> Iterator[Proposal]:
        while (candidate := self._pool.draw()) is not None:
            yield Proposal(candidate, "random")

    def _from_inner(self) -> Iterator[Proposal]:
        # One ask for all: those not picked stay open in the inner strategy, which then avoids them.
        yield from self._inner.ask(_INNER_ASKS)

    def _from_mutation(self) -> Iterator[Proposal]:
        while self._elites:
            changes = int(self._rng.integers(1, 4))
            yield Proposal(self._space.mutate(self._parent(), self._rng, changes), "mutate")

    def _from_crossover(self) -> Iterator[Proposal]:
        while len(self._elites) > 1:
            yield Proposal(self._space.crossover(self._parent(), self._parent(), self._rng), "crossover")

    def _from_neighbours(self) -> Iterator[Proposal]:
        for _, _, elite in self._elites[:3]:
            near = list(self._space.neighbours(elite))
            for i in self._rng.permutation(len(near)):
                yield Proposal(near[i], "neighbour")

    def _parent(self) -> Candidate:
        """One of the fastest, the faster the likelier."""
        return self._elites[math.floor(len(self._elites) * self._rng.random() ** 2)][2]

    # --- judging ----------------------------------------------------------------------------------

    def _schedulable(self, proposals: list[Proposal]) -> list[Proposal]:
        """Those that have a row; the others will never be asked for again."""
        good = []
        for proposal, row in zip(proposals, self._features.rows([p.candidate for p in proposals]), strict=True):
            if row is not None:
                good.append(proposal)
            else:
                self._pool.claim(proposal.candidate)
                self._inner.tell(proposal.candidate, Measurement(Status.INVALID, reason="cannot be scheduled"))
        return good

    def _pick(self, considered: list[Proposal], count: int) -> list[Proposal]:
        """The best by the model, not too much alike, and a few that it had no say in."""
        rows = [row for row in self._features.rows([p.candidate for p in considered]) if row is not None]
        order = np.argsort(-self._ranker.predict(np.stack(rows)), kind="stable")
        ranked = [considered[i] for i in order]
        share = _EXPLORE if self._stuck < _STUCK_AFTER else _EXPLORE_STUCK
        explore = min(round(share * count), len(ranked))
        picked = _spread(ranked, count - explore)
        rest = [p for p in ranked if p not in picked]
        unheard = [p for p in rest if p.proposer in ("random", "tpe")] or rest
        if explore and unheard:
            chosen = self._rng.choice(len(unheard), size=min(explore, len(unheard)), replace=False)
            picked += [unheard[i] for i in chosen]
        picked += [p for p in rest if p not in picked][: count - len(picked)]
        self._leftovers = [p for p in rest if p not in picked][: 2 * self._pool_size]
        return self._take(picked)

    def _take(self, picked: list[Proposal]) -> list[Proposal]:
        for proposal in picked:
            self._pool.claim(proposal.candidate)
        return picked


def _spread(ranked: Sequence[Proposal], count: int) -> list[Proposal]:
    """The first `count`, at most _SAME_SCHEDULE of each schedule as long as there are others."""
    used: dict[object, int] = {}
    first: list[Proposal] = []
    later: list[Proposal] = []
    for proposal in ranked:
        schedule = (proposal.candidate.sketch, proposal.candidate.decisions)
        used[schedule] = used.get(schedule, 0) + 1
        (first if used[schedule] <= _SAME_SCHEDULE else later).append(proposal)
    return list(itertools.islice(itertools.chain(first, later), count))
