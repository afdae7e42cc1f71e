"""Candidates and spaces are plain data that reproduces programs exactly; every move stays legal and inside."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.s_tir.analysis import estimate_tir_flops

from kernels.passes import PASSES, PassConfig
from kernels.space import (
    ENCODING_LENGTH,
    Candidate,
    Decision,
    DesignSpace,
    InvalidCandidate,
    Sketch,
    TraceApplier,
    generate,
)
from tests.kernels.programs import llvm, small_conv, softmax

ROOT = Path(__file__).parents[2]

WORKLOAD = small_conv()


@functools.cache
def space() -> DesignSpace:
    return generate(WORKLOAD, llvm())


@functools.cache
def applier() -> TraceApplier:
    return TraceApplier(WORKLOAD, space(), llvm())


def lowered(candidate: Candidate) -> str:
    return str(applier().apply(candidate).mod["main"].script(show_meta=True))


seeds = st.integers(0, 2**32 - 1)


@st.composite
def points(draw: st.DrawFn) -> tuple[int, tuple[int, ...]]:
    """A sketch and one index a coordinate, legal or not."""
    sketch = draw(st.integers(0, len(space().sketches) - 1))
    return sketch, tuple(draw(st.integers(0, n - 1)) for n in space().sizes(sketch))


def tiled() -> Sketch:
    return next(s for s in space().sketches if s.levels[0] >= 4)


# --- text -----------------------------------------------------------------------------------------


@given(points())
def test_a_candidate_is_one_line_of_text(point: tuple[int, tuple[int, ...]]) -> None:
    candidate = space().from_indices(*point)
    text = candidate.to_text()
    assert "\n" not in text
    assert Candidate.from_text(text) == candidate
    assert hash(Candidate.from_text(text)) == hash(candidate)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[0]", '[0,[],""', '[0,5,""]', '["x",[],""]', '[0,[],"unroll"]', "[0,[],3]", '[0,[null],""]'],
)
def test_what_is_no_candidate_is_rejected(text: str) -> None:
    with pytest.raises(ValueError):
        Candidate.from_text(text)


def test_the_default_candidate() -> None:
    default = space().default()
    assert default.is_default
    assert space().contains(default)
    assert space().legal(default)
    assert Candidate.from_text(default.to_text()) == default
    assert applier().apply(default).mod["main"].script() == WORKLOAD.module()["main"].script()


# --- structure ----------------------------------------------------------------------------------------


def test_the_space_is_json() -> None:
    restored = DesignSpace.from_json(json.loads(json.dumps(space().to_json())))
    assert restored == space()
    candidate = space().sample(np.random.default_rng(0))
    assert restored.to_indices(candidate) == space().to_indices(candidate)


@given(points())
def test_indices_and_candidates_are_inverse(point: tuple[int, tuple[int, ...]]) -> None:
    candidate = space().from_indices(*point)
    assert candidate.sketch == point[0]
    assert space().to_indices(candidate) == point[1]
    assert space().contains(candidate)


def test_tiles_multiply_up_to_their_loop() -> None:
    for _, knob in tiled().tiles:
        products = {int(np.prod(choice)) for choice in knob.choices}
        assert len(products) == 1
        assert len(set(knob.choices)) == len(knob.choices)
    extents = sorted(int(np.prod(knob.choices[0])) for _, knob in tiled().tiles)
    assert extents == sorted([1, 16, 10, 10, 8, 3, 3])


def test_a_space_without_tiles_is_still_a_space() -> None:
    workload = softmax()
    flat = generate(workload, llvm())
    flat_applier = TraceApplier(workload, flat, llvm())
    rng = np.random.default_rng(0)
    applied = 0
    for _ in range(20):
        candidate = flat.sample(rng)
        assert flat.contains(candidate)
        with contextlib.suppress(InvalidCandidate):  # some compute the same over and over
            flat_applier.apply(candidate)
            applied += 1
    assert applied > 2


# --- moves ----------------------------------------------------------------------------------------------


def inside(candidate: Candidate) -> bool:
    return space().contains(candidate) and space().legal(candidate)


@given(seeds)
def test_random_candidates_are_legal_and_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = space().sample(rng), space().sample(rng)
    mutant = space().mutate(first, rng, changes=1 + seed % 3)
    child = space().crossover(first, second, rng)
    assert all(map(inside, (first, second, mutant, child)))
    assert mutant.sketch == first.sketch == child.sketch
    assert space().sample(np.random.default_rng(seed)) == first, "the seed decides"
    if first.sketch == second.sketch and child != first:
        pairs = zip(*map(space().to_indices, (child, first, second)), strict=True)
        assert all(c in (a, b) for c, a, b in pairs)


@settings(max_examples=20)
@given(seeds)
def test_neighbours_are_one_step_away(seed: int) -> None:
    candidate = space().sample(np.random.default_rng(seed))
    here = space().to_indices(candidate)
    knobs = space().sketches[candidate.sketch].knobs
    neighbours = list(space().neighbours(candidate))
    assert len(set(neighbours)) == len(neighbours) > 0
    for neighbour in neighbours:
        assert inside(neighbour)
        there = space().to_indices(neighbour)
        [moved] = [i for i, (a, b) in enumerate(zip(here, there, strict=True)) if a != b]
        if moved < len(knobs):
            assert neighbour.decisions[moved] in knobs[moved].neighbours(candidate.decisions[moved])
        else:
            assert abs(there[moved] - here[moved]) == 1


def test_the_default_moves_into_the_space() -> None:
    default, rng = space().default(), np.random.default_rng(0)
    assert list(space().neighbours(default)) == []
    assert inside(space().mutate(default, rng))
    assert inside(space().crossover(default, space().sample(rng), rng))


def test_initial_candidates_are_legal_inside_distinct_and_apply() -> None:
    initial = space().initial_candidates(limit=12)
    assert 0 < len(initial) <= 12
    assert len(set(initial)) == len(initial)
    for candidate in initial:
        assert inside(candidate)
        applier().apply(candidate)
    assert space().initial_candidates(limit=3) == initial[:3]


@given(points())
def test_the_encoding_is_finite_and_tells_candidates_apart(point: tuple[int, tuple[int, ...]]) -> None:
    candidate = space().from_indices(*point)
    encoding = space().encode(candidate)
    assert encoding.shape == (ENCODING_LENGTH,)
    assert encoding.dtype == np.float32
    assert np.isfinite(encoding).all()
    unrolled = Candidate(candidate.sketch, candidate.decisions, PassConfig.from_text("unroll{depth=64}"))
    rolled = Candidate(candidate.sketch, candidate.decisions, PassConfig.from_text("unroll{depth=0}"))
    assert not np.array_equal(space().encode(unrolled), space().encode(rolled))


# --- with TVM -----------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(seeds)
def test_a_candidate_is_applied_exactly_from_its_text(seed: int) -> None:
    candidate = space().sample(np.random.default_rng(seed))
    first = lowered(candidate)
    assert lowered(Candidate.from_text(candidate.to_text())) == first
    assert str(TraceApplier(WORKLOAD, space(), llvm()).apply(candidate).mod["main"].script(show_meta=True)) == first


def test_other_decisions_give_another_program() -> None:
    sketch = tiled()
    position, knob = next((i, k) for i, k in sketch.tiles if len(k.choices) > 8)
    base = space().from_indices(sketch.number, [0] * len(space().sizes(sketch.number)))
    scripts = set()
    for choice in knob.choices[:4]:
        decisions = (*base.decisions[:position], choice, *base.decisions[position + 1 :])
        scripts.add(lowered(Candidate(sketch.number, decisions)))
    assert len(scripts) == 4


NOT_TILES: list[Decision] = [(3, 3, 3, 3), (1,), (0, 0, 0, 0), (-1, 1, 1, -1), 7, ()]
"""For a loop of one step in four factors. TVM takes the first silently, and a division by zero ends the process."""


def reject(candidate: Candidate) -> None:
    assert not space().contains(candidate)
    with pytest.raises(InvalidCandidate):
        applier().apply(candidate)


@pytest.mark.parametrize("decision", NOT_TILES, ids=str)
def test_a_decision_that_is_no_choice_is_invalid(decision: Decision) -> None:
    sketch = tiled()
    position, _ = sketch.tiles[0]
    valid = space().from_indices(sketch.number, [0] * len(space().sizes(sketch.number))).decisions
    reject(Candidate(sketch.number, (*valid[:position], decision, *valid[position + 1 :])))


def test_computing_the_same_over_and_over_is_invalid() -> None:
    """A stage inside of another's loops: some candidates of a softmax do a row's work for each of its elements."""
    work = softmax()
    rows = generate(work, llvm())
    made = TraceApplier(work, rows, llvm())
    rng = np.random.default_rng(0)
    reasons, good = [], 0
    for _ in range(40):
        try:
            schedule = made.apply(rows.sample(rng))
        except InvalidCandidate as error:
            reasons.append(str(error))
        else:
            good += 1
            assert estimate_tir_flops(schedule.mod) <= 8 * estimate_tir_flops(made.module)
    assert good > 4
    assert any("times the arithmetic" in reason for reason in reasons)


def test_too_few_or_many_decisions_or_no_such_sketch_is_invalid() -> None:
    sketch = tiled()
    valid = space().from_indices(sketch.number, [0] * len(space().sizes(sketch.number))).decisions
    reject(Candidate(sketch.number, valid[:-1]))
    reject(Candidate(sketch.number, (*valid, 0)))
    for number in (len(space().sketches), -1, -2):
        reject(Candidate(number, valid))


SCRIPT = """
import hashlib, json
from kernels.space import generate
from tests.kernels.programs import llvm, small_conv
workload = small_conv()
space = json.dumps(generate(workload, llvm()).to_json(), sort_keys=True)
print(workload.key, hashlib.sha256(space.encode()).hexdigest())
"""


@pytest.mark.slow
def test_a_fresh_process_makes_the_same_space() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours = json.dumps(space().to_json(), sort_keys=True)
    assert done.stdout.split() == [WORKLOAD.key, hashlib.sha256(ours.encode()).hexdigest()]


def test_only_the_named_passes_are_coordinates() -> None:
    full, sketch = space(), tiled()
    narrow = DesignSpace(full.target_kind, full.sketches, ("unroll", "cse"), full.vector_lanes)
    assert len(narrow.sizes(sketch.number)) == len(sketch.knobs) + 2
    assert len(full.sizes(sketch.number)) == len(sketch.knobs) + len(full.pass_names)
    for seed in range(20):
        candidate = narrow.sample(np.random.default_rng(seed), vary_passes=1.0)
        names = {s.name for s in candidate.passes.settings if s != PASSES[s.name]()}
        assert names <= {"unroll", "cse"}
