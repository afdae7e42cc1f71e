"""Many proposers, two predictors: candidates from simple rules, screened by encoding, ranked by their program."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
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
from tuner.search.proposers import Proposers
from tuner.search.ranker import MIN_OUTCOMES, FeatureCache, TaskRanker
from tuner.search.surrogate import DEFAULT, PriorMean, Settings, Surrogate
from tuner.search.winners import TaskWinners

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace

CONSIDERED = 32
"""New candidates considered for a batch. A feature vector takes some 15 ms, so this is a quarter of a second on two
workers."""

SCREENED = 8
"""Candidates proposed for each that gets a feature vector: encodings take 0.03 ms. Where all points are known, so many
get a feature vector for each that is asked for."""

_EXPLORE = 0.125
"""The share of a batch that no predictor chooses: only so are their errors found."""

_EXPLORE_STUCK = 0.375
_STUCK_AFTER = 2
"""The same after so many batches without a new best: the neighbourhood of the fastest is used up."""

_EXPLORATION_WEIGHT = 0.5
"""Deviations by which the ranker's uncertainty counts in a candidate's favour."""

_EXPLORERS = ("random", "tpe")
"""Proposers that look beyond the neighbourhood of what is fast already."""

_SAME_SCHEDULE = 2
"""How many candidates of one batch may differ only in their passes."""

_REFERENCE = 64
"""Random points that tell the scale of each column of the encoding."""

_ROUNDS = 16
"""Rounds of proposals in which nothing can be scheduled before the space counts as used up."""


class GuidedStrategy:
    """Initial candidates and random draws first; then the best of what many rules propose, by two predictors.

    Proposed are mutations and crossovers of the fastest, neighbours of the best, initial candidates not tried yet,
    winners of tasks of nearly the same shape, random draws, and a few candidates of the `inner` strategy, which is told
    every outcome. The surrogate and the `screen` learn from this task's encodings alone and choose `considered` of
    them, which get a feature vector. The surrogate and the `ranker`, which knows programs and other tasks, choose the
    batch; each counts by how well it predicted the outcomes so far, and a candidate that will hardly run scores less.
    When the search is about to end, only neighbours of the fastest are proposed, and exploration ends. What was not
    picked is considered again with the next batch: its feature vector is known. In a space whose legal points can be
    listed, the surrogate chooses among all of them, and no rules propose.
    """

    def __init__(
        self,
        space: DesignSpace,
        features: FeatureCache,
        ranker: TaskRanker,
        screen: TaskRanker,
        inner: Strategy,
        seed: int,
        considered: int = CONSIDERED,
        settings: Settings = DEFAULT,
        prior_mean: PriorMean | None = None,
        winners: TaskWinners | None = None,
    ) -> None:
        self._space = space
        self._features = features
        self._ranker = ranker
        self._screen = screen
        self._inner = inner
        self._considered = considered
        self._pool = CandidatePool(space, seed)
        self._rng = self._pool.rng
        listed = space.points()
        self._points = None if listed is None else Points(space, listed)
        reference = (
            self._points.encodings
            if self._points
            else space.encodings([space.sample(self._rng) for _ in range(_REFERENCE)])
        )
        self._settings = settings
        self._prior_mean = prior_mean
        self._winners = winners
        self._surrogate = Surrogate(reference, self._rng, settings, prior_mean)
        self._active = np.zeros(0, dtype=np.int64)
        self._ensemble = EnsembleWeights(2)
        self._predicted: dict[Candidate, tuple[float, float]] = {}
        self._elites = Elites()
        self._proposers = Proposers(space, self._pool, self._elites, inner, winners, self._likely)
        self._best_at_ask: Candidate | None = None
        self._stuck = 0
        self._unranked: list[tuple[Candidate, CandidateOutcome]] = []
        self._leftovers: list[Proposal] = []
        self._gain: dict[Candidate, float] = {}
        self._mean: dict[Candidate, float] = {}

    def ask(self, count: int, refine: bool = False) -> list[Proposal]:
        if count <= 0:
            return []
        self._teach_ranker()
        best = self._elites.best
        self._stuck = self._stuck + 1 if best == self._best_at_ask else 0
        self._best_at_ask = best
        for _ in range(_ROUNDS):
            informed = self._informed
            # some more than asked for at first: not all can be scheduled
            proposals = self._promising(count, refine) if informed else self._proposers.first(count + count // 2)
            proposals = self._schedulable(proposals)
            if proposals:
                return self._pick(proposals, count, refine) if informed else self._take(proposals[:count])
            if self._pool.draw() is None:
                break
        return []

    @property
    def _informed(self) -> bool:
        """Whether enough is known to predict. Where every point can be predicted, a few outcomes are enough."""
        enough = len(self._surrogate) >= self._settings.first if self._points else len(self._ranker) >= MIN_OUTCOMES
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
        self._teach(candidate, outcome)
        predicted = self._predicted.pop(candidate, None)
        if predicted is not None and seconds is not None:
            self._ensemble.observe(predicted, seconds)
        self._unranked.append((candidate, outcome))
        if candidate in self._features:
            self._teach_ranker()

    def _teach(self, candidate: Candidate, outcome: CandidateOutcome) -> None:
        """Teach an outcome to the predictors that need only the encoding."""
        encoding = self._space.encode(candidate)
        self._surrogate.add(encoding, outcome)
        if self._points is None:
            self._screen.add(encoding, outcome)

    def _teach_ranker(self) -> None:
        """Teach waiting outcomes to the ranker; missing feature vectors are computed together, which is parallel."""
        vectors = self._features.vectors([c for c, _ in self._unranked])
        for vector, (_, outcome) in zip(vectors, self._unranked, strict=True):
            if vector is not None:
                self._ranker.add(vector, outcome)
        self._unranked.clear()

    # --- proposing --------------------------------------------------------------------------------

    def _likely(self) -> list[Candidate]:
        """Draws from all points for the first trials, those that the prior mean expects to be faster likelier."""
        if self._points is None or self._prior_mean is None or not self._points.open.any():
            return []
        prior_mean = self._prior_mean(self._points.encodings)
        weight = np.exp(-self._settings.inverse_temperature * prior_mean) * self._points.open
        drawn = self._rng.choice(len(weight), self._settings.first, p=weight / weight.sum())
        return [self._points.candidates[i] for i in drawn]

    def _promising(self, count: int, refine: bool) -> list[Proposal]:
        """What the surrogate and the screen choose, some that they do not, and what was left over before."""
        if self._points is not None:
            return self._promising_points(self._points, min(SCREENED * count, max(self._considered, count)))
        leftovers = [] if refine else [p for p in self._leftovers if p.candidate in self._pool]
        limit = SCREENED * self._considered
        proposals = self._proposers.neighbours(limit, leftovers) if refine else []
        if len(proposals) < count:
            proposals = self._proposers.mixture(limit, leftovers)
        if not proposals:
            return leftovers
        spared = {i for i, p in enumerate(proposals) if p.proposer in _EXPLORERS}
        spared = set(sorted(spared)[: self._considered // 8])
        encodings = self._space.encodings([p.candidate for p in proposals + leftovers])
        self._surrogate.look_at(encodings)
        self._predict(proposals + leftovers)
        gain = np.array([self._gain[p.candidate] for p in proposals])
        score = ranks(gain) + ranks(self._screen.predict(encodings[: len(proposals)]).score.astype(np.float64))
        best = sorted(set(range(len(proposals))) - spared, key=lambda i: -score[i])
        chosen = best[: self._considered - len(spared)] + sorted(spared)
        return [proposals[i] for i in chosen] + leftovers

    def _promising_points(self, points: Points, count: int) -> list[Proposal]:
        if self._surrogate.due or not points.open[self._active].any():
            self._active = points.active(self._elites.fastest(PARENTS), self._rng)
            self._surrogate.look_at(points.encodings[self._active])
        chosen = self._surrogate.pick(count, points.open[self._active])
        proposals = [Proposal(points.candidates[self._active[i]], "model") for i in chosen]
        self._predict(proposals, chosen)
        return proposals

    def _predict(self, proposals: Sequence[Proposal], numbers: Sequence[int] | None = None) -> None:
        """Note the surrogate's predictions of proposals: the points it looks at, or those `numbers` of them."""
        gain, mean = self._surrogate.predict()
        chosen = range(len(proposals)) if numbers is None else numbers
        pairs = list(zip(proposals, chosen, strict=True))
        self._gain = {p.candidate: float(gain[i]) for p, i in pairs}
        self._mean = {p.candidate: float(mean[i]) for p, i in pairs}

    # --- choosing ---------------------------------------------------------------------------------

    def _schedulable(self, proposals: list[Proposal]) -> list[Proposal]:
        """Those that have a feature vector; the others count as failed and are not proposed again."""
        schedulable = []
        vectors = self._features.vectors([p.candidate for p in proposals])
        for proposal, vector in zip(proposals, vectors, strict=True):
            if vector is not None:
                schedulable.append(proposal)
            else:
                self._claim(proposal.candidate)
                self._teach(proposal.candidate, FAILURE)
                self._inner.tell(proposal.candidate, Measurement(Status.INVALID, reason="cannot be scheduled"))
        return schedulable

    def _pick(self, proposals: list[Proposal], count: int, refine: bool) -> list[Proposal]:
        """The best by both predictors, not too much alike, and a few that they do not choose."""
        candidates = [p.candidate for p in proposals]
        vectors = [vector for vector in self._features.vectors(candidates) if vector is not None]
        prediction = self._ranker.predict(np.stack(vectors))
        gain = np.array([self._gain.get(c, 0.0) for c in candidates])
        optimistic = prediction.score + _EXPLORATION_WEIGHT * prediction.deviation
        scores = self._ensemble.combined([gain, optimistic]) * prediction.valid
        ranked = [proposals[i] for i in np.argsort(-scores, kind="stable")]
        share = 0.0 if refine else _EXPLORE if self._stuck < _STUCK_AFTER else _EXPLORE_STUCK
        explore = min(round(share * count), len(ranked))
        picked = _spread(ranked, count - explore)
        rest = [p for p in ranked if p not in picked]
        explorers = [p for p in rest if p.proposer in _EXPLORERS] or rest
        if explore and explorers:
            chosen = self._rng.choice(len(explorers), size=min(explore, len(explorers)), replace=False)
            picked += [explorers[i] for i in chosen]
        picked += [p for p in rest if p not in picked][: count - len(picked)]
        self._leftovers = [p for p in rest if p not in picked][: 2 * self._considered]
        predicted = {c: (-self._mean.get(c, 0.0), float(s)) for c, s in zip(candidates, prediction.score, strict=True)}
        self._predicted.update({p.candidate: predicted[p.candidate] for p in picked})
        return self._take(picked)

    def _take(self, picked: list[Proposal]) -> list[Proposal]:
        for proposal in picked:
            self._claim(proposal.candidate)
            self._proposers.note(proposal)
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
