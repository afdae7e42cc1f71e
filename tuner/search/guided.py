"""Many proposers, two judges: candidates from simple rules, screened by their encoding, ranked by their program."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from costmodel.dataset import FAILURE, CandidateOutcome
from costmodel.metrics import ranks
from tuner.protocols import Proposal, Strategy
from tuner.records import Measurement, Status
from tuner.search.base import CandidatePool, belongs, teaches, time_or_bound
from tuner.search.elites import Elites, schedule
from tuner.search.ensemble import EnsembleWeights
from tuner.search.enumerated import PARENTS, Points
from tuner.search.ranker import MIN_ROWS, FeatureCache, TaskRanker
from tuner.search.surrogate import DEFAULT, PriorMean, Settings, Surrogate
from tuner.search.winners import TaskWinners

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace

POOL_SIZE = 32
"""New candidates considered for a batch. A row takes some 15 ms, so this is a quarter of a second on two workers."""

SCREENED = 8
"""Candidates proposed for each that is given a row: encodings take 0.03 ms. Where all points are known, so many are
given a row for each that is asked for."""

_INNER_ASKS = 4
_EXPLORE = 0.125
"""The share of a batch that the model has no say in: what it is wrong about is found only so."""

_EXPLORE_STUCK = 0.375
_STUCK_AFTER = 2
"""The same after so many batches without a new best: the neighbourhood of the fastest is used up."""

_EXPLORATION_WEIGHT = 0.5
"""Deviations by which the ranker's doubts count in a candidate's favour."""

_EXPLORERS = ("random", "tpe")
"""Proposers that look beyond the neighbourhood of what is fast already."""

_HEARD = 4
"""So many of the fastest say who proposes more: one or two of them are one turn more, three or four two."""

_MUTATIONS = 2
"""Turns that mutation has beyond the others'."""

_SAME_SCHEDULE = 2
"""How many candidates of one batch may differ in nothing but their passes."""

_REFERENCE = 64
"""Random points that tell the scale of each column of the encoding."""

_ROUNDS = 16
"""Pools in a row of which nothing can be scheduled before the space counts as used up."""


class GuidedStrategy:
    """Seeds and random draws first; then the best of a pool of mutations, crossovers and others, by the model.

    Proposed are mutations and crossovers of the fastest, neighbours of the best, seeds not tried yet, what won in tasks
    of nearly the same shape, random draws, and a few candidates of the `inner` strategy, which is told every outcome.
    The surrogate and the `screen`, which learn from this task's encodings alone, let `pool_size` of them through to get
    their row; the surrogate and the `ranker`, which knows their programs and other tasks, pick the batch, each with a
    say according to how well it foretold the outcomes so far, and less is thought of what will hardly run. When the
    search is about to end, neighbours of the fastest alone are proposed and picked. What was not picked is judged again
    with the next pool: its row is known. In a space whose legal points can be listed, the surrogate chooses among all
    of them and nobody needs to propose any.
    """

    def __init__(
        self,
        space: DesignSpace,
        features: FeatureCache,
        ranker: TaskRanker,
        screen: TaskRanker,
        inner: Strategy,
        seed: int,
        pool_size: int = POOL_SIZE,
        settings: Settings = DEFAULT,
        prior_mean: PriorMean | None = None,
        winners: TaskWinners | None = None,
    ) -> None:
        self._space = space
        self._features = features
        self._ranker = ranker
        self._screen = screen
        self._inner = inner
        self._pool_size = pool_size
        self._pool = CandidatePool(space, seed)
        self._rng = self._pool.rng
        listed = space.points()
        self._points = None if listed is None else Points(space, listed)
        reference = (
            self._points.rows if self._points else space.encodings([space.sample(self._rng) for _ in range(_REFERENCE)])
        )
        self._settings = settings
        self._prior_mean = prior_mean
        self._winners = winners
        self._surrogate = Surrogate(reference, self._rng, settings, prior_mean)
        self._active = np.zeros(0, dtype=np.int64)
        self._weights = EnsembleWeights(2)
        self._said: dict[Candidate, tuple[float, float]] = {}
        seeds = space.initial_candidates()
        # every third first: candidates next to each other in the list are alike
        self._seeds = [c for start in range(3) for c in seeds[start::3]]
        self._elites = Elites()
        self._best_at_ask: Candidate | None = None
        self._stuck = 0
        self._unlearned: list[tuple[Candidate, CandidateOutcome]] = []
        self._leftovers: list[Proposal] = []
        self._proposer: dict[Candidate, str] = {}
        self._gain: dict[Candidate, float] = {}
        self._mean: dict[Candidate, float] = {}

    def ask(self, count: int, refine: bool = False) -> list[Proposal]:
        if count <= 0:
            return []
        self._learn_late()
        best = self._elites.best
        self._stuck = self._stuck + 1 if best == self._best_at_ask else 0
        self._best_at_ask = best
        for _ in range(_ROUNDS):
            knows = self._knows
            considered = self._schedulable(self._promising(count, refine) if knows else self._first(count))
            if considered:
                return self._pick(considered, count, refine) if knows else self._take(considered[:count])
            if self._pool.draw() is None:
                break
        return []

    @property
    def _knows(self) -> bool:
        """Whether there is something to judge by. Where every point can be judged, a few outcomes are enough."""
        enough = len(self._surrogate) >= self._settings.first if self._points else len(self._ranker) >= MIN_ROWS
        return enough and self._surrogate.useful

    def tell(self, candidate: Candidate, measurement: Measurement) -> None:
        self._claim(candidate)
        self._inner.tell(candidate, measurement)
        if not teaches(measurement):
            return
        known = belongs(self._space, candidate)
        if measurement.ok and known:
            self._elites.consider(measurement.median_s, candidate)
            if self._winners is not None:
                self._winners.note(candidate, measurement.median_s)
        seconds = time_or_bound(measurement)
        if seconds is None:
            outcome = FAILURE
        else:
            outcome = CandidateOutcome(seconds=seconds) if measurement.ok else CandidateOutcome(slower_than=seconds)
        if not known and not candidate.is_default:
            return
        self._learn(candidate, outcome)
        said = self._said.pop(candidate, None)
        if said is not None and seconds is not None:
            self._weights.hear(said, seconds)
        self._unlearned.append((candidate, outcome))
        if candidate in self._features:
            self._learn_late()

    def _learn(self, candidate: Candidate, outcome: CandidateOutcome) -> None:
        """Teach those that need no more than the encoding."""
        row = self._space.encode(candidate)
        self._surrogate.add(row, outcome)
        if self._points is None:
            self._screen.add(row, outcome)

    def _learn_late(self) -> None:
        """Pass outcomes on to the ranker; rows not known yet are computed together, which is in parallel."""
        rows = self._features.rows([c for c, _ in self._unlearned])
        for row, (_, outcome) in zip(rows, self._unlearned, strict=True):
            if row is not None:
                self._ranker.add(row, outcome)
        self._unlearned.clear()

    # --- proposing --------------------------------------------------------------------------------

    def _first(self, count: int) -> list[Proposal]:
        """Seeds, random draws and winners of other tasks in turn, with some to spare for what cannot be scheduled."""
        return self._mix([self._from_seeds(), self._from_random(), self._from_winners()], count + count // 2)

    def _promising(self, count: int, refine: bool) -> list[Proposal]:
        """What the surrogate lets through, some it has no say in, and what was left over from earlier pools."""
        if self._points is not None:
            return self._promising_points(self._points, min(SCREENED * count, max(self._pool_size, count)))
        kept = [] if refine else [p for p in self._leftovers if p.candidate in self._pool]
        near = self._mix([self._from_neighbours()], SCREENED * self._pool_size, kept) if refine else []
        proposals = near if len(near) >= count else self._proposals(SCREENED * self._pool_size, kept)
        if not proposals:
            return kept
        spared = {i for i, p in enumerate(proposals) if p.proposer in _EXPLORERS}
        spared = set(sorted(spared)[: self._pool_size // 8])
        rows = self._space.encodings([p.candidate for p in proposals + kept])
        self._surrogate.look_at(rows)
        self._judge(proposals + kept)
        gain = np.array([self._gain[p.candidate] for p in proposals])
        score = ranks(gain) + ranks(self._screen.judge(rows[: len(proposals)]).score.astype(np.float64))
        best = sorted(set(range(len(proposals))) - spared, key=lambda i: -score[i])
        chosen = best[: self._pool_size - len(spared)] + sorted(spared)
        return [proposals[i] for i in chosen] + kept

    def _promising_points(self, points: Points, count: int) -> list[Proposal]:
        if self._surrogate.due or not points.open[self._active].any():
            self._active = points.active(self._elites.fastest(PARENTS), self._rng)
            self._surrogate.look_at(points.rows[self._active])
        chosen = self._surrogate.pick(count, points.open[self._active])
        proposals = [Proposal(points.candidates[self._active[i]], "model") for i in chosen]
        self._judge(proposals, chosen)
        return proposals

    def _judge(self, proposals: Sequence[Proposal], numbers: Sequence[int] | None = None) -> None:
        """Keep what the surrogate thinks of proposals, which are the points (or those numbers of them) it looks at."""
        gain, mean = self._surrogate.judge()
        chosen = range(len(proposals)) if numbers is None else numbers
        pairs = list(zip(proposals, chosen, strict=True))
        self._gain = {p.candidate: float(gain[i]) for p, i in pairs}
        self._mean = {p.candidate: float(mean[i]) for p, i in pairs}

    def _proposals(self, limit: int, known: Sequence[Proposal]) -> list[Proposal]:
        """In turn, so that a model that knows nothing picks a mixture. Whoever proposed the fastest has more turns."""
        sources = {
            "tpe": self._from_inner(), "crossover": self._from_crossover(), "mutate": self._from_mutation(),
            "neighbour": self._from_neighbours(), "seed": self._from_seeds(), "transfer": self._from_winners(),
            "random": self._from_random(),
        }  # fmt: skip
        won = Counter(self._proposer[c] for c in self._elites.fastest(_HEARD) if c in self._proposer)
        turns = {name: 1 + (won[name] + 1) // 2 + (_MUTATIONS if name == "mutate" else 0) for name in sources}
        rounds = [[name for name in sources if turns[name] > number] for number in range(max(turns.values()))]
        return self._mix([sources[name] for names in rounds for name in names], limit, known)

    def _mix(self, sources: Sequence[Iterator[Proposal]], limit: int, known: Sequence[Proposal] = ()) -> list[Proposal]:
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

    def _from_winners(self) -> Iterator[Proposal]:
        return (Proposal(c, "transfer") for c in (self._winners.near(self._space) if self._winners else ()))

    def _from_random(self) -> Iterator[Proposal]:
        if self._points is not None and self._prior_mean is not None and self._points.open.any():
            weight = (
                np.exp(-self._settings.inverse_temperature * self._prior_mean(self._points.rows)) * self._points.open
            )
            likely = self._rng.choice(len(weight), self._settings.first, p=weight / weight.sum())
            yield from (Proposal(self._points.candidates[i], "random") for i in likely)
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

    # --- judging ----------------------------------------------------------------------------------

    def _schedulable(self, proposals: list[Proposal]) -> list[Proposal]:
        """Those that have a row; the others will never be asked for again."""
        good = []
        for proposal, row in zip(proposals, self._features.rows([p.candidate for p in proposals]), strict=True):
            if row is not None:
                good.append(proposal)
            else:
                self._claim(proposal.candidate)
                self._learn(proposal.candidate, FAILURE)
                self._inner.tell(proposal.candidate, Measurement(Status.INVALID, reason="cannot be scheduled"))
        return good

    def _pick(self, considered: list[Proposal], count: int, refine: bool) -> list[Proposal]:
        """The best by both judges, not too much alike, and a few that they had no say in."""
        candidates = [p.candidate for p in considered]
        rows = [row for row in self._features.rows(candidates) if row is not None]
        ranked_by = self._ranker.judge(np.stack(rows))
        gain = np.array([self._gain.get(c, 0.0) for c in candidates])
        scores = (
            self._weights.combined([gain, ranked_by.score + _EXPLORATION_WEIGHT * ranked_by.deviation])
            * ranked_by.valid
        )
        ranked = [considered[i] for i in np.argsort(-scores, kind="stable")]
        share = 0.0 if refine else _EXPLORE if self._stuck < _STUCK_AFTER else _EXPLORE_STUCK
        explore = min(round(share * count), len(ranked))
        picked = _spread(ranked, count - explore)
        rest = [p for p in ranked if p not in picked]
        explorers = [p for p in rest if p.proposer in _EXPLORERS] or rest
        if explore and explorers:
            chosen = self._rng.choice(len(explorers), size=min(explore, len(explorers)), replace=False)
            picked += [explorers[i] for i in chosen]
        picked += [p for p in rest if p not in picked][: count - len(picked)]
        self._leftovers = [p for p in rest if p not in picked][: 2 * self._pool_size]
        foretold = {c: (-self._mean.get(c, 0.0), float(r)) for c, r in zip(candidates, ranked_by.score, strict=True)}
        self._said.update({p.candidate: foretold[p.candidate] for p in picked})
        return self._take(picked)

    def _take(self, picked: list[Proposal]) -> list[Proposal]:
        for proposal in picked:
            self._claim(proposal.candidate)
            self._proposer[proposal.candidate] = proposal.proposer
        return picked

    def _claim(self, candidate: Candidate) -> None:
        self._pool.claim(candidate)
        if self._points is not None:
            self._points.close(candidate)


def _spread(ranked: Sequence[Proposal], count: int) -> list[Proposal]:
    """The first `count`, at most _SAME_SCHEDULE of each schedule as long as there are others."""
    used: dict[object, int] = {}
    first: list[Proposal] = []
    later: list[Proposal] = []
    for proposal in ranked:
        same = schedule(proposal.candidate)
        used[same] = used.get(same, 0) + 1
        (first if used[same] <= _SAME_SCHEDULE else later).append(proposal)
    return list(itertools.islice(itertools.chain(first, later), count))
