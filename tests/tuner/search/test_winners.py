"""Winners of the nearest shapes, offered to the others."""

from __future__ import annotations

import pytest
from tvm.target import Target

from kernels.space import DesignSpace, generate
from tests.tuner.search.conftest import batch_matmul
from tuner.search.winners import Winners


@pytest.fixture(scope="module")
def others(target: Target) -> list[DesignSpace]:
    """Spaces of products, each further from 64 x 64 x 64 x 64 than the one before."""
    return [generate(batch_matmul(64, 64, 64, 64 * 2**n), target) for n in range(1, 7)]


def test_the_nearest_come_first_and_few_are_offered(space: DesignSpace, others: list[DesignSpace]) -> None:
    winners = Winners()
    for number, other in reversed(list(enumerate(others))):
        winners.note(str(number), other.initial_candidates()[number], 1e-3)
    offered = list(winners.task("mine").near(space))
    assert len(offered) == 4
    assert all(space.legal(c) and space.contains(c) for c in offered)
    assert offered[0].decisions[-1][-1] == others[0].initial_candidates()[0].decisions[-1][-1]  # type: ignore[index]


def test_a_task_is_not_offered_its_own(space: DesignSpace) -> None:
    winners = Winners()
    mine = winners.task("mine")
    mine.note(space.initial_candidates()[0], 1e-3)
    assert list(mine.near(space)) == []
    assert list(winners.task("another").near(space)) == [space.initial_candidates()[0]]


def test_only_the_fastest_of_a_task_is_offered_and_never_the_untuned_program(space: DesignSpace) -> None:
    winners = Winners()
    fast, slow = space.initial_candidates()[:2]
    for candidate, seconds in ((slow, 2e-3), (fast, 1e-3), (slow, 3e-3), (space.default(), 1e-9)):
        winners.note("another", candidate, seconds)
    assert list(winners.task("mine").near(space)) == [fast]
