"""A reduction that is divided among thread blocks: right, the same bits each time, only where GPUs idle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kernels.access import analyze
from kernels.opencl import emit_opencl
from kernels.space import Candidate, DesignSpace, TraceApplier, generate
from kernels.space.gpu_work import predict
from kernels.space.split_k import RULE, part_counts
from kernels.waves import idle_share
from kernels.workload import Workload, from_prim_func
from tests.kernels.gpu_workloads import PROGRAMS, conv, matmul
from tests.kernels.opencl_ground import TARGET, Case, Ground
from tests.kernels.test_opencl_ground import ground  # noqa: F401 - a fixture


@pytest.mark.parametrize(
    ("results", "first", "depth", "expected"),
    [
        (32 * 32, 1024, 1024, (32, 8)),
        (32 * 32, 48, 48, ()),  # too few steps
        (32 * 32, 1021, 1021, ()),  # a prime
        (512 * 512, 4096, 4096, ()),  # enough results
        (32 * 32, 64, 64 * 9, (16, 4)),
        (0, 0, 0, ()),
    ],
)
def test_as_many_parts_as_fill_the_device(results: int, first: int, depth: int, expected: tuple[int, ...]) -> None:
    assert part_counts(results, first, depth, 68) == expected


def test_what_is_idle_in_the_last_wave() -> None:
    assert idle_share(132, 132) == 0.0
    assert idle_share(133, 132) == pytest.approx(1 - 133 / 264)
    assert idle_share(1, 132) == pytest.approx(131 / 132)
    assert idle_share(0, 132) == 1.0


def split(made: Workload) -> tuple[DesignSpace, list[Any]]:
    space = generate(made, TARGET, ["unroll"])
    return space, [sketch for sketch in space.sketches if sketch.rule == RULE]


@pytest.mark.parametrize("function", [conv(64, 8, 7), matmul(17, 1, 330)], ids=["conv2d", "by vector"])
def test_divided_reductions_are_right_and_give_the_same_bits(function: Any, ground: Ground) -> None:  # noqa: F811
    made = from_prim_func(function, "divided")
    space, sketches = split(made)
    assert sketches
    candidate = space.sample_sketch(sketches[0].number, np.random.default_rng(1))
    assert candidate is not None
    assert Candidate.from_text(candidate.to_text()) == candidate
    schedule = TraceApplier(made, DesignSpace.from_json(space.to_json()), TARGET).apply(candidate)
    launches = analyze(schedule.mod, TARGET)
    assert len(launches) >= 2
    parts = candidate.decisions[0]
    assert isinstance(parts, tuple)
    assert launches[0].grid % parts[0] == 0
    assert parts[0] > 1 == math.prod(parts[1:])
    case = Case(made, candidate, emit_opencl(schedule.mod, TARGET))
    assert ground.wrong(case) == ""
    assert len(ground.bits(case)) == 1


def test_the_model_expects_less_idle_time_and_pays_for_the_second_launch() -> None:
    made = from_prim_func(matmul(64, 64, 4096), "product")
    space, [sketch, *_] = split(made)
    plain = space.sketches[0]
    assert plain.gpu is not None
    assert sketch.gpu is not None
    assert plain.gpu.second_launch_bytes == 0
    assert sketch.gpu.second_launch_bytes > 32 * 64 * 64 * 4
    rng = np.random.default_rng(0)
    best = []
    for number, formulas in ((plain.number, plain.gpu), (sketch.number, sketch.gpu)):
        drawn = [space.sample_sketch(number, rng) for _ in range(40)]
        best.append(min(predict(formulas, c.decisions).seconds for c in drawn if c is not None))
    assert best[1] < best[0]


def test_programs_that_fill_the_device_and_reductions_without_reuse_are_not_divided() -> None:
    assert not split(from_prim_func(matmul(512, 512, 512), "large"))[1]
    assert not split(from_prim_func(PROGRAMS["sum"](), "sum"))[1]
