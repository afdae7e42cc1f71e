"""What the strategy makes of a child that proposes what it likes, or dies of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kernels.space import Candidate, DesignSpace
from tuner.process.worker import ChildDied, ChildError, ChildTimeout
from tuner.protocols import Task
from tuner.records import Measurement, Status
from tuner.search import metaschedule
from tuner.search.metaschedule import MetaScheduleStrategy

Round = Sequence[tuple[int, str | None]] | Exception | None


class Scripted:
    """In place of the child: takes what each round returns from a script, and notes what it was told."""

    script: list[Round]
    told: list[dict[int, float | None]]
    started = 0

    def __init__(self, *settings: Any, **limits: Any) -> None:
        Scripted.started += 1

    def call(self, op: str, timeout_s: float, outcomes: Sequence[tuple[int, float | None]]) -> Any:
        self.told.append(dict(outcomes))
        outcome = self.script.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def kill(self) -> None:
        pass

    close = kill


Make = Callable[..., MetaScheduleStrategy]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, space: DesignSpace, task: Task) -> Make:
    def make(*script: Round) -> MetaScheduleStrategy:
        monkeypatch.setattr(metaschedule, "Child", Scripted)
        Scripted.script, Scripted.told, Scripted.started = list(script), [], 0
        return MetaScheduleStrategy(space, task, 1)

    return make


@pytest.fixture(scope="module")
def legal(space: DesignSpace) -> list[Candidate]:
    sampled = space.sample_sketch(0, _rng())
    assert sampled is not None
    return [sampled, *space.neighbours(sampled)][:6]


def _rng() -> Any:
    import numpy as np

    return np.random.default_rng(1)


def ok(seconds: float) -> Measurement:
    return Measurement(Status.OK, samples_s=(seconds,))


def asked(strategy: MetaScheduleStrategy, count: int) -> list[tuple[Candidate, str]]:
    return [(p.candidate, p.proposer) for p in strategy.ask(count)]


def test_outcomes_are_told_before_the_next_round(scripted: Make, legal: list[Candidate]) -> None:
    a, b, c = legal[:3]
    strategy = scripted([(0, a.to_text()), (1, b.to_text())], [(2, c.to_text())], [], [], [])
    assert asked(strategy, 2) == [(a, "metaschedule"), (b, "metaschedule")]
    strategy.tell(b, ok(0.2))
    assert asked(strategy, 1) == [(c, "metaschedule")]
    assert Scripted.told == [{}, {1: 0.2}]
    strategy.tell(c, Measurement(Status.BUILD_FAILED, reason="on purpose"))
    strategy.tell(a, Measurement(Status.CENSORED, censored_at_s=0.5))
    strategy.ask(1)
    assert Scripted.told[2] == {0: 0.5, 2: None}


def test_what_is_no_point_of_the_space_has_failed(scripted: Make, space: DesignSpace, legal: list[Candidate]) -> None:
    import numpy as np

    points = (space.from_indices(0, i) for i in np.ndindex(*space.sizes(0)))
    illegal = next(c for c in points if not space.legal(c))
    strategy = scripted([(0, None), (1, illegal.to_text())], [(2, legal[0].to_text())])
    assert asked(strategy, 1) == [(legal[0], "metaschedule")]
    assert Scripted.told == [{}, {0: None, 1: None}]


def test_what_is_known_is_told_and_not_asked_for(scripted: Make, legal: list[Candidate]) -> None:
    a, b = legal[:2]
    strategy = scripted([(0, a.to_text()), (1, a.to_text()), (2, b.to_text())], [], [], [])
    strategy.tell(a, ok(0.1))
    assert asked(strategy, 1) == [(b, "metaschedule")]
    strategy.ask(1)
    assert Scripted.told == [{}, {0: 0.1}, {}, {}]


def test_a_doubtful_outcome_is_not_passed_on(scripted: Make, legal: list[Candidate]) -> None:
    strategy = scripted([(0, legal[0].to_text())], [(1, legal[1].to_text())])
    strategy.ask(1)
    strategy.tell(legal[0], Measurement(Status.SUSPECT, reason="on purpose"))
    strategy.ask(1)
    assert Scripted.told == [{}, {}]


@pytest.mark.parametrize("end", [None, ChildTimeout("late"), ChildError("InternalError", "on purpose")])
def test_where_tvm_ends_the_rest_is_drawn_at_random(end: Round, scripted: Make, legal: list[Candidate]) -> None:
    strategy = scripted([(0, legal[0].to_text())], end)
    assert [proposer for _, proposer in asked(strategy, 3)] == ["metaschedule", "random", "random"]
    assert [proposer for _, proposer in asked(strategy, 2)] == ["random", "random"]
    assert Scripted.started == 1


def test_rounds_without_a_new_point_end_it(scripted: Make) -> None:
    strategy = scripted([], [(0, None)], [])
    assert [proposer for _, proposer in asked(strategy, 1)] == ["random"]
    assert Scripted.told == [{}, {}, {0: None}]


def test_a_child_that_died_is_replaced_once(scripted: Make, legal: list[Candidate]) -> None:
    a, b, c = legal[:3]
    died = ChildDied("killed by SIGSEGV")
    strategy = scripted([(0, a.to_text()), (1, b.to_text())], died, [(0, b.to_text()), (1, c.to_text())], died)
    strategy.ask(2)
    strategy.tell(a, ok(0.1))
    strategy.tell(b, ok(0.2))
    assert asked(strategy, 1) == [(c, "metaschedule")]
    assert [proposer for _, proposer in asked(strategy, 1)] == ["random"]
    assert Scripted.started == 2
    assert Scripted.told == [{}, {0: 0.1, 1: 0.2}, {}, {0: 0.2}]
