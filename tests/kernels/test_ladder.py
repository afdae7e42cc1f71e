"""The ladder of a candidate: from the unscheduled program to the candidate, every rung right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te, topi
from tvm.target import Target

from kernels import reference
from kernels.ladder import ladder
from kernels.passes import PassConfig
from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate
from kernels.workload import from_prim_func, seeded_inputs
from tests.kernels.programs import llvm, small_conv


def test_every_rung_computes_the_same_and_the_last_is_the_winner() -> None:
    data = te.placeholder((4, 32), name="data")
    workload = from_prim_func(te.create_prim_func([data, topi.nn.softmax(data)]), "softmax")
    space = generate(workload, llvm())
    passes = PassConfig.from_text("unroll{depth=16} vector_math{on=1}")
    by_rows = next(c for c in space.initial_candidates() if space.sketches[c.sketch].rule == "rows")
    winner = dataclasses.replace(by_rows, passes=passes)
    own, rungs = ladder(workload, space, winner, llvm())
    assert [own.contains(rung.candidate) for rung in rungs] == [True] * len(rungs)
    assert rungs[0].title == "unscheduled"
    assert [rung.title for rung in rungs[-2:]] == ["unroll{depth=16}", "vector_math{on=1}"]
    assert len({rung.candidate for rung in rungs}) == len(rungs) > 4
    scheduled = TraceApplier(workload, space, llvm()).apply(winner).mod["main"]
    function = passes.applied(scheduled, llvm()).function
    assert tvm_ffi.structural_equal(rungs[-1].applied.function.body, function.body)
    inputs = seeded_inputs(workload.inputs, 1)
    [expected] = reference.evaluate(workload.module()["main"], inputs)
    for rung in rungs:
        output = tvm.runtime.tensor(np.full(expected.shape, np.nan, np.float32))
        library = tvm.compile(tvm.IRModule({"main": rung.applied.function}), llvm())
        library(*map(tvm.runtime.tensor, inputs), output)
        right, _, _, reason = reference.compare(output.numpy(), expected, "float32", 72)
        assert right, f"{rung.title}: {reason}"


def test_a_refused_pass_says_so_on_its_rung() -> None:
    space = generate(small_conv(), llvm())
    winner = dataclasses.replace(space.initial_candidates()[0], passes=PassConfig.from_text("vector_math{on=1}"))
    _, rungs = ladder(small_conv(), space, winner, llvm())
    assert list(rungs[-1].applied.refused) == ["vector_math{on=1}"]


def test_the_untuned_program_is_a_ladder_of_one_rung() -> None:
    space = generate(small_conv(), llvm())
    own, rungs = ladder(small_conv(), space, space.default(), llvm())
    assert own.sketches == ()
    assert [rung.title for rung in rungs] == ["unscheduled"]


def test_what_is_no_point_of_the_space_is_refused() -> None:
    space = generate(small_conv(), llvm())
    strange = Candidate(0, tuple((1, 7) for _ in space.sketches[0].knobs))
    with pytest.raises(InvalidCandidate):
        ladder(small_conv(), space, strange, llvm())


def test_the_winner_of_a_gpu_keeps_its_estimate() -> None:
    """Its last rung is the whole candidate: what is built of it is timed by the same formulas on a simulated GPU."""
    target = Target({"kind": "cuda", "arch": "sm_90a", "max_threads_per_block": 1024, "max_num_threads": 1024,
                     "max_shared_memory_per_block": 49152, "thread_warp_size": 32})  # fmt: skip
    space = generate(small_conv(), target)
    winner = next(c for c in space.initial_candidates() if space.estimate(c) is not None)
    own, rungs = ladder(small_conv(), space, winner, target)
    estimates = [own.estimate(rung.candidate) for rung in rungs]
    assert estimates[-1] == space.estimate(winner)
    assert estimates[0] is None
