from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tvm.target import Target

from costmodel.base import ConstantModel
from costmodel.xgb import XgbRanker
from kernels.features import SCHEMA, FeatureExtractor
from kernels.space import Candidate, DesignSpace, InvalidCandidate, TraceApplier
from kernels.workload import Workload
from tests.contracts.strategy import EncodingFeaturizer, drive, timed
from tuner.protocols import Proposal, Strategy
from tuner.records import Measurement, Status
from tuner.search.guided import GuidedStrategy
from tuner.search.random import RandomStrategy
from tuner.search.ranker import FeatureCache, Ranker, TaskRanker
from tuner.search.winners import Winners


class Unschedulable(EncodingFeaturizer):
    """A featurizer that can schedule only even-numbered sketches."""

    def vectors(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        pairs = zip(candidates, super().vectors(candidates), strict=True)
        return [vector if c.sketch % 2 == 0 else None for c, vector in pairs]


class Remembering(RandomStrategy):
    """Random search that keeps what it was told."""

    def __init__(self, space: DesignSpace, seed: int) -> None:
        super().__init__(space, seed)
        self.told: list[tuple[Candidate, Measurement]] = []

    def tell(self, candidate: Candidate, measurement: Measurement) -> None:
        super().tell(candidate, measurement)
        self.told.append((candidate, measurement))


def guided(space: DesignSpace, ranker: TaskRanker, seed: int = 1) -> GuidedStrategy:
    return assembled(space, FeatureCache(EncodingFeaturizer(space)), ranker, RandomStrategy(space, seed), seed)


def assembled(
    space: DesignSpace, features: FeatureCache, ranker: TaskRanker, inner: Strategy, seed: int = 1, considered: int = 64
) -> GuidedStrategy:
    screen = Ranker(XgbRanker("encoding/1")).task("")
    return GuidedStrategy(space, features, ranker, screen, inner, seed, considered)


def test_first_batch_is_half_initial_candidates(space: DesignSpace) -> None:
    proposals = guided(space, Ranker(ConstantModel()).task("a")).ask(16)
    assert [p.proposer for p in proposals] == ["initial", "random"] * 8
    assert proposals[0].candidate == space.initial_candidates()[0]


def test_what_won_elsewhere_is_tried_early_and_own_winners_are_told(space: DesignSpace) -> None:
    winners = Winners()
    won = space.initial_candidates()[-1]
    winners.note("another", won, 1e-3)
    features, ranker = FeatureCache(EncodingFeaturizer(space)), Ranker(ConstantModel()).task("mine")
    screen = Ranker(ConstantModel()).task("")
    strategy = GuidedStrategy(
        space, features, ranker, screen, RandomStrategy(space, 1), 1, winners=winners.task("mine")
    )  # fmt: skip
    proposals = strategy.ask(4)
    assert (won, "transfer") in [(p.candidate, p.proposer) for p in proposals]
    strategy.tell(proposals[0].candidate, Measurement(Status.OK, samples_s=(1e-6,)))
    assert winners.others("another") == [proposals[0].candidate]


def test_every_outcome_reaches_the_ranker_and_the_inner_strategy(space: DesignSpace) -> None:
    ranker = Ranker(ConstantModel()).task("a")
    inner = Remembering(space, 1)
    strategy = assembled(space, FeatureCache(EncodingFeaturizer(space)), ranker, inner, seed=1)
    proposals = drive(strategy, space, batches=5)
    assert {p.candidate for p in proposals} == {c for c, _ in inner.told}
    suspects = sum(m.status is Status.SUSPECT for _, m in inner.told)
    assert suspects == 0
    assert len(ranker) == len(proposals) == 40


def test_a_doubtful_time_teaches_nothing(space: DesignSpace) -> None:
    ranker = Ranker(ConstantModel()).task("a")
    strategy = guided(space, ranker)
    [proposal] = strategy.ask(1)
    strategy.tell(proposal.candidate, Measurement(Status.SUSPECT))
    assert len(ranker) == 0


def test_what_cannot_be_scheduled_is_not_proposed_and_told_as_invalid(space: DesignSpace) -> None:
    inner = Remembering(space, 1)
    ranker = Ranker(ConstantModel()).task("a")
    strategy = assembled(space, FeatureCache(Unschedulable(space)), ranker, inner, seed=1)
    proposals = drive(strategy, space, batches=5)
    assert len(proposals) >= 30  # a first batch may come out short
    assert all(p.candidate.sketch % 2 == 0 for p in proposals)
    invalid = [c for c, m in inner.told if m.reason == "cannot be scheduled"]
    assert invalid
    assert all(c.sketch % 2 for c in invalid)


def test_nothing_schedulable_ends(small_space: DesignSpace) -> None:
    class Never(EncodingFeaturizer):
        def vectors(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
            return [None] * len(candidates)

    ranker = Ranker(ConstantModel()).task("a")
    inner = RandomStrategy(small_space, 1)
    strategy = assembled(small_space, FeatureCache(Never(small_space)), ranker, inner, seed=1)
    assert strategy.ask(8) == []


def test_known_records_start_the_search(space: DesignSpace) -> None:
    """Told 32 earlier outcomes, the first batch is already the model's, and none of it is known."""
    ranker = Ranker(XgbRanker("encoding/1")).task("a")
    strategy = guided(space, ranker)
    rng = np.random.default_rng(0)
    known = [space.sample(rng) for _ in range(32)]
    for candidate in known:
        strategy.tell(candidate, timed(space, candidate))
    proposals = strategy.ask(16)
    assert len(ranker) == 32
    assert {"mutate", "neighbour"} <= {p.proposer for p in proposals}
    assert not {p.candidate for p in proposals} & set(known)


def test_whoever_proposed_the_fastest_proposes_more(space: DesignSpace) -> None:
    """The same outcomes, of which the four fastest count as from one proposer or another."""
    shares = {}
    for favourite in ("crossover", "neighbour"):
        strategy = guided(space, Ranker(XgbRanker("encoding/1")).task("a"))
        for i, proposal in enumerate(strategy.ask(16)):
            if i < 4:
                strategy._proposers.note(Proposal(proposal.candidate, favourite))  # noqa: SLF001 - the first batch has none
            strategy.tell(proposal.candidate, Measurement(Status.OK, samples_s=((1.0 + i) * 1e-3,)))
        proposals = strategy._proposers.mixture(40, ())  # noqa: SLF001 - which of them are picked is the model's choice
        shares[favourite] = Counter(p.proposer for p in proposals)
    assert shares["neighbour"]["neighbour"] > 1.5 * shares["crossover"]["neighbour"] > 0
    assert shares["crossover"]["crossover"] > 1.5 * shares["neighbour"]["crossover"] > 0


def test_the_last_batches_are_near_the_fastest(space: DesignSpace) -> None:
    strategy = guided(space, Ranker(XgbRanker("encoding/1")).task("a"))
    drive(strategy, space, batches=4)
    near = {c for elite in strategy._elites.fastest(3) for c in space.neighbours(elite)}  # noqa: SLF001 - not stated
    proposals = strategy.ask(16, refine=True)
    assert len(proposals) == 16
    assert {p.proposer for p in proposals} == {"neighbour"}
    assert {p.candidate for p in proposals} <= near
    assert {p.proposer for p in strategy.ask(16)} != {"neighbour"}


def test_what_will_hardly_run_is_hardly_picked(space: DesignSpace) -> None:
    """The sketch that most of a batch is of while nothing is known, is then predicted to fail."""

    class Doubts(ConstantModel):
        def __init__(self, sketch: int) -> None:
            self._column = 1 + sketch

        def validity(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.where(rows[:, self._column] == 1, np.float32(0.01), np.float32(0.99))

    def sketches(model: ConstantModel) -> Counter[int]:
        strategy = guided(space, Ranker(model).task("a"))
        drive(strategy, space, batches=4)
        return Counter(p.candidate.sketch for _ in range(4) for p in strategy.ask(16))

    [(favourite, count)] = sketches(ConstantModel()).most_common(1)
    assert sketches(Doubts(favourite))[favourite] < 0.5 * count


def test_a_batch_is_not_one_schedule_with_many_passes(space: DesignSpace) -> None:
    strategy = guided(space, Ranker(XgbRanker("encoding/1")).task("a"))
    drive(strategy, space, batches=4)
    batch = [(p.candidate.sketch, p.candidate.decisions) for p in strategy.ask(16)]
    assert max(batch.count(s) for s in batch) <= 4  # two by rank, and explorers may draw it too


class ScheduleFeaturizer:
    """TVM's features of the scheduled program, in this process."""

    def __init__(self, workload: Workload, space: DesignSpace, target: Target) -> None:
        self._applier = TraceApplier(workload, space, target)
        self._extractor = FeatureExtractor(workload, self._applier)

    def vectors(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        return [self._vector(c) for c in candidates]

    def _vector(self, candidate: Candidate) -> NDArray[np.float32] | None:
        try:
            return self._extractor.vector(candidate, self._applier.apply(candidate))
        except InvalidCandidate:
            return None


def test_with_the_features_of_scheduled_programs(workload: Workload, space: DesignSpace, target: Target) -> None:
    features = FeatureCache(ScheduleFeaturizer(workload, space, target))
    ranker = Ranker(XgbRanker(SCHEMA)).task(workload.key)
    strategy = assembled(space, features, ranker, RandomStrategy(space, 1), seed=1, considered=24)
    strategy.tell(space.default(), Measurement(Status.OK, samples_s=(0.5,)))
    first = drive(strategy, space, batches=3)
    assert len({p.candidate for p in first}) == 24
    assert len(ranker) == 24 + 1
