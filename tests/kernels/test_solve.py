"""Counting, numbering and drawing legal decisions, against brute force."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.space import solve
from kernels.space.data import FactorProduct, Knob, Limit
from kernels.space.solve import Solver, TooManyStates
from kernels.space.tiles import factorizations

EXTENTS = (1, 6, 8, 12, 16, 30)


@st.composite
def problems(draw: st.DrawFn) -> tuple[tuple[Knob, ...], tuple[Limit, ...]]:
    """Up to four knobs of three factors, and up to three limits on sums of products of their factors."""
    knobs = tuple(
        Knob("spatial", factorizations(draw(st.sampled_from(EXTENTS)), 3, 64), i)
        for i in range(draw(st.integers(1, 4)))
    )
    indices = st.lists(st.sampled_from((0, 1, 2, -1)), min_size=1, max_size=2, unique=True).map(tuple)
    product = st.builds(
        FactorProduct,
        st.dictionaries(st.integers(0, len(knobs) - 1), indices, min_size=1).map(lambda d: tuple(sorted(d.items()))),
        st.sampled_from((1, 4)),
    )
    limit = st.builds(
        Limit,
        st.just("some"),
        st.lists(product, min_size=1, max_size=2).map(tuple),
        st.one_of(st.none(), st.integers(1, 200)),
        st.integers(0, 8),
    )
    return knobs, draw(st.lists(limit, max_size=3).map(tuple))


def brute_force(knobs: tuple[Knob, ...], limits: tuple[Limit, ...]) -> set[tuple[int, ...]]:
    every = itertools.product(*(range(len(k.choices)) for k in knobs))
    return {
        point
        for point in every
        if all(x.satisfied([k.choices[i] for k, i in zip(knobs, point, strict=True)]) for x in limits)
    }


@settings(max_examples=60, deadline=None)
@given(problems())
def test_every_legal_point_has_one_number(problem: tuple[tuple[Knob, ...], tuple[Limit, ...]]) -> None:
    knobs, limits = problem
    size = np.prod([len(k.choices) for k in knobs])
    if size > 3000:
        return
    legal = brute_force(knobs, limits)
    solver = Solver(knobs, limits)
    assert solver.count() == solve.Count(len(legal))
    assert {solver.decisions(i) for i in range(len(legal))} == legal
    with pytest.raises(IndexError):
        solver.decisions(len(legal))
    drawn = solver.draw(np.random.default_rng(0))
    assert drawn in legal if legal else drawn is None


KNOBS = tuple(Knob("spatial", factorizations(n, 3, 64), i) for i, n in enumerate((16, 12)))
TILE = Limit("tile", (FactorProduct(((0, (-1,)), (1, (-1,)))),), most=8)


def test_draws_are_uniform() -> None:
    """Chi-square of 20 draws a point under its 0.999 quantile (normal approximation)."""
    solver = Solver(KNOBS, (TILE,))
    points, rng = solver.count().points, np.random.default_rng(1)
    seen = Counter(solver.draw(rng) for _ in range(20 * points))
    assert len(seen) > 0.99 * points
    chi = sum((seen[solver.decisions(i)] - 20) ** 2 / 20 for i in range(points))
    assert chi < points + 3.1 * (2 * points) ** 0.5


def test_the_violated_limit_is_named() -> None:
    solver = Solver(KNOBS, (TILE,))
    assert solver.violated([(4, 1, 4), (1, 1, 12)]) == "tile"
    assert solver.violated([(16, 1, 1), (1, 12, 1)]) == ""


def test_a_count_out_of_reach_is_an_estimate_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = Solver(KNOBS, (TILE,)).count()
    monkeypatch.setattr(solve, "MAX_STATES", 3)
    tied = Solver(KNOBS, (TILE,))
    estimate = tied.count()
    assert 0 < estimate.relative_error < 0.1
    assert abs(estimate.points - exact.points) < 4 * estimate.relative_error * exact.points
    with pytest.raises(TooManyStates):
        tied.decisions(0)
    drawn = tied.draw(np.random.default_rng(0))
    assert drawn is not None
    assert not tied.violated([k.choices[i] for k, i in zip(KNOBS, drawn, strict=True)])


def test_a_gpu_sized_space_is_counted_exactly() -> None:
    """Threads and two tiles in shared memory of a 1024^3 product: far more points than can be walked."""
    i, j = (Knob("spatial", factorizations(1024, 5, 64), n) for n in (0, 1))
    k = Knob("reduce", factorizations(1024, 3, 64), 2)
    threads = FactorProduct(((0, (2,)), (1, (2,))))
    tiles = tuple(FactorProduct(((n, (1, 2, 3, 4)), (2, (1, 2))), 4) for n in (0, 1))
    limits = (Limit("threads", (threads,), 1024, 32), Limit("shared memory", tiles, 48 << 10))
    solver = Solver((i, j, k), limits)
    count = solver.count()
    assert count.relative_error == 0
    rng = np.random.default_rng(0)
    share = np.mean([_plain_draw_is_legal(solver, (i, j, k), rng) for _ in range(4000)])
    size = len(i.choices) * len(j.choices) * len(k.choices)
    assert share == pytest.approx(count.points / size, abs=4 * (count.points / size / 4000) ** 0.5)
    for _ in range(50):
        drawn = solver.draw(rng)
        assert drawn is not None
        assert not solver.violated([knob.choices[n] for knob, n in zip((i, j, k), drawn, strict=True)])


def _plain_draw_is_legal(solver: Solver, knobs: tuple[Knob, ...], rng: np.random.Generator) -> bool:
    return solver.satisfied([knob.sample(rng) for knob in knobs])


# --- knobs ----------------------------------------------------------------------------------------


def test_neighbours_of_a_tile_move_one_prime_factor() -> None:
    knob = KNOBS[1]
    near = knob.neighbours((2, 6, 1))
    assert set(near) == {(1, 12, 1), (1, 6, 2), (4, 3, 1), (6, 2, 1), (2, 3, 2), (2, 2, 3)}
    for choice in knob.choices:
        assert all(choice in knob.neighbours(other) for other in knob.neighbours(choice)), "both ways"


def test_neighbours_of_a_choice_are_the_next_in_the_list() -> None:
    knob = Knob("location", (-1, 3, 7), 0)
    assert knob.neighbours(-1) == (3,)
    assert knob.neighbours(3) == (-1, 7)
    assert knob.default == -1
    assert knob.encode(7) == (7.0,)
    assert KNOBS[0].encode((4, 1, 4)) == (2.0, 0.0, 2.0)
