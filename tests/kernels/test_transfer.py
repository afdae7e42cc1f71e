"""What was fast for one shape becomes a legal candidate of another's space, as like it as can be."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te

from kernels.passes import PASSES
from kernels.space import Candidate, DesignSpace, generate
from kernels.space.transfer import adapted, distance
from kernels.workload import from_prim_func
from tests.kernels.programs import llvm, softmax


@functools.cache
def product(rows: int, columns: int, depth: int, passes: tuple[str, ...] = tuple(PASSES)) -> DesignSpace:
    a, b = te.placeholder((rows, depth), name="a"), te.placeholder((depth, columns), name="b")
    k = te.reduce_axis((0, depth), name="k")
    c = te.compute((rows, columns), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    return generate(from_prim_func(te.create_prim_func([a, b, c]), "product"), llvm(), passes)


def drawn(space: DesignSpace, seed: int) -> Candidate:
    return space.sample(np.random.default_rng(seed))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_in_its_own_space_a_candidate_is_itself(seed: int) -> None:
    space = product(64, 96, 128)
    candidate = drawn(space, seed)
    assert distance(space, candidate) == 0
    assert adapted(space, candidate) == candidate


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_adapted_is_a_legal_point_with_the_same_sketch_and_passes(seed: int) -> None:
    there, here = product(64, 96, 128), product(128, 96, 192)
    candidate = drawn(there, seed)
    result = adapted(here, candidate)
    if result is not None:
        assert here.contains(result)
        assert here.legal(result)
        assert (result.sketch, result.passes) == (candidate.sketch, candidate.passes)


def test_most_candidates_can_be_adapted() -> None:
    there, here = product(64, 96, 128), product(128, 96, 192)
    assert sum(adapted(here, drawn(there, seed)) is not None for seed in range(100)) >= 80


def test_inner_factors_stay_where_they_divide() -> None:
    there, here = product(64, 96, 128), product(128, 192, 256)
    for initial in there.initial_candidates():
        result = adapted(here, initial)
        assert result is not None
        tiles = zip(initial.decisions, result.decisions, strict=True)
        assert all(a[1:] == b[1:] for a, b in tiles if isinstance(a, tuple) and isinstance(b, tuple))


def test_distance_counts_how_often_extents_double() -> None:
    initial = product(64, 96, 128).initial_candidates()[0]
    assert distance(product(128, 96, 128), initial) == pytest.approx(1.0)
    assert distance(product(32, 96, 512), initial) == pytest.approx(3.0)


def test_another_kind_of_program_has_no_counterpart() -> None:
    initial = product(64, 96, 128).initial_candidates()[0]
    other = generate(softmax(), llvm())
    assert all(distance(other, c) is None and adapted(other, c) is None for c in (initial, Candidate(-1)))


def test_passes_that_a_space_does_not_search_stay_at_their_default() -> None:
    there = product(64, 96, 128)
    few = product(64, 96, 128, ("cse",))
    candidate = next(c for seed in range(50) if (c := drawn(there, seed)).passes.to_text().count("{") > 2)
    result = adapted(few, candidate)
    assert result is not None
    assert set(result.passes.to_text().split()) <= {
        text for text in candidate.passes.to_text().split() if "cse" in text
    }


def test_the_extents_are_in_the_candidate() -> None:
    [tile] = {math.prod(d) for d in product(64, 96, 128).initial_candidates()[0].decisions if isinstance(d, tuple)} - {
        64,
        128,
    }
    assert tile == 96
