"""A grid is every point in order where there are few, and a scattered walk where there are many."""

from __future__ import annotations

import math

from kernels.space import DesignSpace
from tests.contracts.strategy import timed
from tuner.search.grid import GridStrategy


def test_a_small_space_is_tried_in_order(small_space: DesignSpace) -> None:
    points = small_space.points()
    assert points
    asked = GridStrategy(small_space, 1).ask(len(points) + 1)
    assert [p.candidate for p in asked] == points
    assert {p.proposer for p in asked} == {"grid"}
    assert GridStrategy(small_space, 2).ask(8) == asked[:8], "whatever the seed"


def test_what_was_known_is_left_out(small_space: DesignSpace) -> None:
    points = small_space.points()
    assert points
    strategy = GridStrategy(small_space, 1)
    strategy.tell(points[1], timed(small_space, points[1]))
    assert [p.candidate for p in strategy.ask(2)] == [points[0], points[2]]


def test_a_large_space_says_so_and_is_seen_all_over(space: DesignSpace) -> None:
    assert space.points() is None
    asked = GridStrategy(space, 1).ask(64)
    assert {p.proposer for p in asked} == {"scattered"}
    large = {s.number for s in space.sketches if math.prod(space.sizes(s.number)) > space.size() / 16}
    assert {p.candidate.sketch for p in asked} >= large
