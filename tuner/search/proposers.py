"""Simple rules that propose candidates, and how many turns each rule has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from tuner.protocols import Proposal, Strategy
from tuner.search.base import CandidatePool
from tuner.search.elites import Elites
from tuner.search.winners import TaskWinners

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace

_INNER_ASKS = 4

_REWARDED = 4
"""A rule that proposed some of so many fastest gets more turns: one more for one or two of them, two for three or
four."""

_MUTATIONS = 2
"""Turns that mutation has beyond the others'."""


class Proposers:
    """Proposes candidates of one space that are still in the pool.

    The rules are mutations and crossovers of the elites, neighbours of the best, the space's initial candidates, the
    winners of other tasks, candidates of the `inner` strategy, and random draws; `likely` gives the first of those.
    """

    def __init__(
        self,
        space: DesignSpace,
        pool: CandidatePool,
        elites: Elites,
        inner: Strategy,
        winners: TaskWinners | None,
        likely: Callable[[], Sequence[Candidate]],
    ) -> None:
        self._space = space
        self._pool = pool
        self._rng = pool.rng
        self._elites = elites
        self._inner = inner
        self._winners = winners
        self._likely = likely
        initial = space.initial_candidates()
        # every third first: candidates next to each other in the list are alike
        self._initial = [c for start in range(3) for c in initial[start::3]]
        self._proposer: dict[Candidate, str] = {}

    def note(self, proposal: Proposal) -> None:
        """Remember whose candidate was picked: rules whose candidates are among the fastest get more turns."""
        self._proposer[proposal.candidate] = proposal.proposer

    def first(self, limit: int) -> list[Proposal]:
        """What is tried before anything is known: initial candidates, random draws and winners, alternately."""
        return self._mix([self._from_initial(), self._from_random(), self._from_winners()], limit)

    def neighbours(self, limit: int, known: Sequence[Proposal]) -> list[Proposal]:
        """Neighbours of the fastest, except those of `known`."""
        return self._mix([self._from_neighbours()], limit, known)

    def mixture(self, limit: int, known: Sequence[Proposal]) -> list[Proposal]:
        """Candidates of all rules alternately, except those of `known`: an untrained model then picks a mixture."""
        sources = {
            "tpe": self._from_inner(), "crossover": self._from_crossover(), "mutate": self._from_mutation(),
            "neighbour": self._from_neighbours(), "initial": self._from_initial(), "transfer": self._from_winners(),
            "random": self._from_random(),
        }  # fmt: skip
        won = Counter(self._proposer[c] for c in self._elites.fastest(_REWARDED) if c in self._proposer)
        turns = {name: 1 + (won[name] + 1) // 2 + (_MUTATIONS if name == "mutate" else 0) for name in sources}
        rounds = [[name for name in sources if turns[name] > number] for number in range(max(turns.values()))]
        return self._mix([sources[name] for names in rounds for name in names], limit, known)

    def _mix(self, sources: Sequence[Iterator[Proposal]], limit: int, known: Sequence[Proposal] = ()) -> list[Proposal]:
        """One of each source at a time, none twice nor `known`, until there are `limit` or the sources end."""
        mixed: dict[Candidate, Proposal] = {}
        old = {p.candidate for p in known}
        live = list(sources)
        # Sources repeat themselves in small spaces; a long run without news ends the search for more.
        misses = 0
        while live and len(mixed) < limit and misses < 4 * limit:
            for source in tuple(live):
                proposal = next(source, None)
                if proposal is None:
                    live = [s for s in live if s is not source]
                elif proposal.candidate in mixed or proposal.candidate in old or proposal.candidate not in self._pool:
                    misses += 1
                elif len(mixed) < limit:
                    mixed[proposal.candidate] = proposal
        return list(mixed.values())

    def _from_initial(self) -> Iterator[Proposal]:
        return (Proposal(c, "initial") for c in self._initial)

    def _from_winners(self) -> Iterator[Proposal]:
        return (Proposal(c, "transfer") for c in (self._winners.near(self._space) if self._winners else ()))

    def _from_random(self) -> Iterator[Proposal]:
        yield from (Proposal(c, "random") for c in self._likely())
        while (candidate := self._pool.draw()) is not None:
            yield Proposal(candidate, "random")

    def _from_inner(self) -> Iterator[Proposal]:
        # One ask for all: those not picked stay open in the inner strategy, which then avoids them.
        yield from self._inner.ask(_INNER_ASKS)

    def _from_mutation(self) -> Iterator[Proposal]:
        while self._elites:
            changes = int(self._rng.integers(1, 4))
            yield Proposal(self._space.mutate(self._elites.parent(self._rng), self._rng, changes), "mutate")

    def _from_crossover(self) -> Iterator[Proposal]:
        while len(self._elites) > 1:
            mother, father = self._elites.parent(self._rng), self._elites.parent(self._rng)
            yield Proposal(self._space.crossover(mother, father, self._rng), "crossover")

    def _from_neighbours(self) -> Iterator[Proposal]:
        for elite in self._elites.fastest(3):
            near = list(self._space.neighbours(elite))
            for i in self._rng.permutation(len(near)):
                yield Proposal(near[i], "neighbour")
