"""CUDA candidates compute what numpy computes, checked without a GPU: their schedules run serially on the CPU.

Over 80 candidates of every kind of workload, with tensor cores and without. The long form is
experiments/cuda_numerics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tvm

from kernels.reference import compare, evaluate, reduction_length, working_dtype
from kernels.serial import run_serial, serial
from kernels.space import Candidate, DesignSpace, InvalidCandidate, TraceApplier, generate
from kernels.workload import Workload, seeded_inputs
from tests.kernels.gpu_workloads import PROGRAMS, gpu, workload

CHECKED: dict[str, int] = {}


def candidates(
    space: DesignSpace, applier: TraceApplier, count: int, seed: int = 5
) -> dict[str, tuple[Candidate, tvm.IRModule]]:
    """Legal random candidates by name, from each sketch in turn."""
    rng = np.random.default_rng(seed)
    programs: dict[str, tuple[Candidate, tvm.IRModule]] = {}
    for attempt in range(3 * count):
        sketch = space.sketches[attempt % len(space.sketches)]
        candidate = space.sample_sketch(sketch.number, rng)
        assert candidate is not None
        try:
            schedule = applier.apply(candidate, described=True)
        except InvalidCandidate:
            continue
        programs[f"candidate_{len(programs)}"] = candidate, serial(schedule.mod)
        if len(programs) == count:
            break
    return programs


def wrong_ones(made: Workload, programs: Mapping[str, tvm.IRModule]) -> dict[str, str]:
    """Which programs compute wrong outputs, and how."""
    func = made.module()["main"]
    inputs = seeded_inputs(made.inputs, 3)
    expected = evaluate(func, inputs, made.num_outputs)
    wrong = {}
    for name, outputs in run_serial(programs, inputs, made.outputs).items():
        for actual, wanted in zip(outputs, expected, strict=True):
            right, _, _, reason = compare(actual, wanted, working_dtype(func), reduction_length(func))
            if not right:
                wrong[name] = reason
    return wrong


@pytest.mark.parametrize("name", PROGRAMS)
def test_candidates_are_right(name: str) -> None:
    made = workload(name)
    space = generate(made, gpu(), tf32=name.startswith("matmul"))
    count = 4 if "conv" in name else 6  # convolutions take longest to schedule
    programs = candidates(space, TraceApplier(made, space, gpu()), count)
    CHECKED[name] = len(programs)
    wrong = wrong_ones(made, {key: program for key, (_, program) in programs.items()})
    assert not wrong, [(programs[key][0].to_text(), reason) for key, reason in wrong.items()]


def test_enough_was_checked() -> None:
    if len(CHECKED) < len(PROGRAMS):
        pytest.skip("only a part of the workloads was asked for")
    assert min(CHECKED.values()) >= 4, CHECKED
    assert sum(CHECKED.values()) >= 80, CHECKED


def test_a_copy_that_misses_an_element_is_seen() -> None:
    """The check can fail: every loop over a tile's columns on its way into shared memory stops one step early."""
    made = workload("matmul of primes")
    space = generate(made, gpu())
    programs = candidates(space, TraceApplier(made, space, gpu()), 3)
    assert len(wrong_ones(made, {key: shortened(program) for key, (_, program) in programs.items()})) == 3


def shortened(module: tvm.IRModule) -> tvm.IRModule:
    """The program with the guard of every copy tightened by one element."""
    graph: Any = json.loads(tvm.ir.save_json(module))
    nodes = graph["nodes"]
    guards = [
        n for n in nodes if n["type"] == "s_tir.SBlockRealize" and nodes[n["data"]["predicate"]]["type"] == "prim.LT"
    ]
    assert guards
    for guard in guards:
        bound = nodes[nodes[guard["data"]["predicate"]]["data"]["b"]]
        nodes.append({"type": "int", "data": nodes[bound["data"]["value"]]["data"] - 1})
        bound["data"]["value"] = len(nodes) - 1
    return tvm.ir.load_json(json.dumps(graph))
