"""TVM's search proposes points of our space, and each is the program that TVM means by it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import tvm
from tvm import te
from tvm.target import Target

from kernels.space import InvalidCandidate, TraceApplier, generate
from kernels.space.evolution import Evolution
from kernels.workload import Workload, from_prim_func

CPU = Target({"kind": "llvm", "num-cores": 2, "mcpu": "x86-64-v3"})
GPU = Target({"kind": "cuda", "arch": "sm_90a", "max_threads_per_block": 1024, "max_shared_memory_per_block": 49152,
              "max_num_threads": 1024, "thread_warp_size": 32})  # fmt: skip


def text(module: tvm.IRModule, target: Target) -> str:
    """The program. On a GPU TVM has depths of unrolling that our pass has not, and the nearest is taken."""
    if target is CPU:
        return str(module.script())
    return re.sub(r'("pragma_auto_unroll_max_step": )\d+', r"\1some", module.script())


def product() -> Workload:
    a, b = (te.placeholder((128, 128), name=n) for n in "ab")
    k = te.reduce_axis((0, 128), name="k")
    c = te.compute((128, 128), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    d = te.compute((128, 128), lambda i, j: te.max(c[i, j], 0.0), name="d")
    return from_prim_func(te.create_prim_func([a, b, d]), "product")


def softmax() -> Workload:
    from tvm import topi

    a = te.placeholder((64, 128), name="a")
    return from_prim_func(te.create_prim_func([a, topi.nn.softmax(a)]), "softmax")


@pytest.mark.parametrize(("make", "target"), [(product, CPU), (softmax, CPU), (product, GPU)])
def test_a_point_is_the_program_that_tvm_means(make: Callable[[], Workload], target: Target) -> None:
    workload = make()
    space = generate(workload, target)
    evolution, applier = Evolution(workload, space, target, 1, 64, 24), TraceApplier(workload, space, target)
    same = 0
    for _ in range(2):
        proposed = evolution.propose()
        assert proposed
        for number, candidate in proposed.items():
            if candidate is None:
                continue
            assert space.legal(candidate)
            try:
                schedule = applier.apply(candidate)
            except InvalidCandidate:  # it does the same over and over, which TVM does not mind
                continue
            assert text(schedule.mod, target) == text(evolution.program(number), target)
            same += 1
        evolution.learn({number: 1e-3 * (number + 1) for number in proposed})
    assert same >= 16


def test_what_it_learns_moves_what_it_proposes() -> None:
    workload = product()
    space = generate(workload, CPU)

    def second_round(told: float | None) -> list[object]:
        evolution = Evolution(workload, space, CPU, 1, 64, 24)
        first = evolution.propose()
        assert first
        evolution.learn({number: 1e-3 * (number + 1) if told else None for number in first})
        return list((evolution.propose() or {}).values())

    assert second_round(1.0) == second_round(1.0)
    assert second_round(1.0) != second_round(None)


def test_a_space_without_its_sketches_is_over_at_once() -> None:
    other = generate(softmax(), CPU)
    assert Evolution(product(), other, CPU, 1, 64, 24).propose() is None
