"""Our own sketches: they fit what they are for, nothing else, and what they make is right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import te, topi

from kernels.reference import Expectation, evaluate, reduction_length, working_dtype
from kernels.space import Replayer, generate
from kernels.workload import Workload, from_prim_func, seeded_inputs
from tests.kernels.programs import llvm, small_conv, softmax


def product(batch: tuple[int, ...] = (), relu: bool = False) -> Workload:
    a, b = te.placeholder((*batch, 12, 20), name="a"), te.placeholder((*batch, 20, 32), name="b")
    k = te.reduce_axis((0, 20), "k")
    out = te.compute(
        (*batch, 12, 32), lambda *i: te.sum(a[(*i[:-1], k)] * b[(*i[:-2], k, i[-1])], axis=k), name="matmul"
    )
    return from_prim_func(te.create_prim_func([a, b, topi.nn.relu(out) if relu else out]), "matmul")


def transposed() -> Workload:
    """B stands with its reduction innermost: no panel to copy."""
    a, b = te.placeholder((12, 20), name="a"), te.placeholder((32, 20), name="b")
    k = te.reduce_axis((0, 20), "k")
    return from_prim_func(
        te.create_prim_func([a, b, te.compute((12, 32), lambda i, j: te.sum(a[i, k] * b[j, k], axis=k))]), "matmul"
    )


def element_wise() -> Workload:
    a = te.placeholder((6, 48), name="a")
    return from_prim_func(te.create_prim_func([a, topi.exp(a)]), "exp")


FITTING = [
    (product, {"packed"}),
    (lambda: product((3,)), {"packed"}),
    (lambda: product(relu=True), {"packed"}),
    (softmax, set()),
    (small_conv, set()),
    (element_wise, set()),
]


@pytest.mark.parametrize(("make", "rules"), FITTING)
def test_a_recipe_fits_what_it_is_for(make: Callable[[], Workload], rules: set[str]) -> None:
    space = generate(make(), llvm())
    assert {s.rule for s in space.sketches} - {"tvm"} == rules


def test_what_reduces_along_both_operands_is_no_packed_product() -> None:
    assert not {s.rule for s in generate(transposed(), llvm()).sketches} & {"packed"}


@pytest.mark.parametrize(("make", "rules"), FITTING[:3])
def test_what_a_recipe_makes_is_right(make: Callable[[], Workload], rules: set[str]) -> None:
    """A seed and two random points of each of our sketches, against numpy in double precision."""
    workload = make()
    space = generate(workload, llvm())
    replayer = Replayer(workload, space, llvm())
    rng = np.random.default_rng(0)
    wanted = {s.number for s in space.sketches if s.rule in rules}
    drawn = [space.sample(rng, vary_passes=0.0) for _ in range(60)]
    inputs = seeded_inputs(workload.inputs, 0)
    function = workload.module()["main"]
    [expected] = evaluate(function, inputs, 1)
    expectation = Expectation(expected, working_dtype(function), reduction_length(function))
    for number in wanted:
        seeds = [c for c in space.seeds(1000) if c.sketch == number]
        assert seeds, "a sketch of our own has first guesses"
        for candidate in [seeds[0], *[c for c in drawn if c.sketch == number][:2]]:
            library = tvm.compile(replayer.apply(candidate).mod, target=llvm())
            arrays = [tvm.runtime.tensor(a) for a in inputs]
            out = tvm.runtime.tensor(np.full(workload.outputs[0].shape, np.nan, dtype=np.float32))
            library["main"](*arrays, out)
            ok, _, _, reason = expectation.judge(out.numpy())
            assert ok, f"{candidate.to_text()}: {reason}"
