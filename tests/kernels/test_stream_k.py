"""Stream-K: steps divided evenly, the same bits every time, executed on the simulated GPU and by PoCL; what is broken
on purpose is seen; what is not shown to be a sum stays. experiments/gpu_passes runs hundreds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from kernels import examples
from kernels.access.indices import evaluate
from kernels.emit_gpu import emit
from kernels.opencl import emit_opencl
from kernels.passes import PassConfig
from kernels.passes.stream_k import ALL, LAST_WAVE, StreamK
from kernels.persistent import Refused, streamed
from kernels.persistent.launches import Launch, launches, opaque
from kernels.persistent.stream import _Stream
from kernels.persistent.sums import covered, tile_sum
from kernels.space import Candidate, TraceApplier, generate
from kernels.space.gpu_work import predict
from kernels.workload import from_prim_func
from tests.kernels import cuda_ground, opencl_ground
from tests.kernels.gpu_ground import Case
from tests.kernels.gpu_workloads import conv, gpu, matmul
from tests.kernels.persistent_programs import shorter
from tests.kernels.test_opencl_ground import ground as pocl  # noqa: F401 - a fixture

Emitter = Callable[..., Any]


def scheduled(function: Any, schedule: Callable[[Schedule], None] = examples.shared_product) -> Any:
    made = Schedule(function)
    schedule(made)
    return made.mod["main"]


def from_space(function: Any, target: Any, seed: int, sketch: int = 0) -> Any:
    """The program under a random candidate of a sketch."""
    made = from_prim_func(function, "program")
    space = generate(made, target, ["unroll"])
    candidate = space.sample_sketch(sketch, np.random.default_rng(seed))
    assert candidate is not None
    return TraceApplier(made, space, target).apply(candidate).mod["main"]


def case(function: Any, program: Any, setting: StreamK, target: Any, emitter: Emitter) -> Case:
    applied = PassConfig().replace(setting).applied(program, target)
    assert applied.refused == {}
    module = tvm.IRModule({"main": applied.function})
    return Case(from_prim_func(function, "program"), Candidate(-1, (), applied.passes), emitter(module, target))


@pytest.mark.parametrize(("divide", "blocks"), [(ALL, 3), (ALL, 1 + 4 * 4 - 2), (LAST_WAVE, 3)])
def test_sums_in_parts_are_right(divide: int, blocks: int, ground: cuda_ground.Ground) -> None:
    function = examples.square_product()
    made = case(function, scheduled(function), StreamK(divide, blocks), cuda_ground.TARGET, emit)
    first, second = made.program.plan.launches
    assert first.grid == (blocks, 1, 1)
    assert second.grid[0] == (4 if divide == ALL else 1)
    assert ground.wrong(made) == ""


PROGRAMS: dict[str, tuple[Callable[[], Any], int]] = {
    "product of primes": (lambda: matmul(31, 37, 29), 0),
    "batched product": (lambda: matmul(17, 24, 19, batch=3), 0),
    "conv2d of primes, with relu": (lambda: conv(5, 7, 13), 0),
    "product in half": (lambda: matmul(32, 48, 64, "float16"), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_candidates_are_right(name: str, ground: cuda_ground.Ground) -> None:
    make, sketch = PROGRAMS[name]
    for seed in range(12):
        program = from_space(make(), cuda_ground.TARGET, seed, sketch)
        if streamed(program, "sm_90a", True, 5)[0].same_as(program):
            continue
        made = case(make(), program, StreamK(ALL, 5), cuda_ground.TARGET, emit)
        assert ground.wrong(made) == ""
        return
    pytest.fail("no candidate was divided")


def test_steps_whose_copies_are_guarded_are_looked_at_element_by_element(ground: cuda_ground.Ground) -> None:
    """TVM does not show that they write what they read: their elements are no multiple of the threads."""
    made = from_prim_func(matmul(197, 32, 64), "program")
    space = generate(made, cuda_ground.TARGET, ["unroll"])
    candidate = Candidate(0, ((1, 1, 197, 1, 1), (1, 2, 4, 4, 1), (4, 16, 1), 2, 0))  # 16 x 32 elements, 788 threads
    program = TraceApplier(made, space, cuda_ground.TARGET).apply(candidate).mod["main"]
    assert not covered(program)
    assert ground.wrong(case(matmul(197, 32, 64), program, StreamK(ALL, 5), cuda_ground.TARGET, emit)) == ""


def test_the_same_bits_every_time_on_pocl(pocl: opencl_ground.Ground) -> None:  # noqa: F811
    function = examples.square_product()
    made = case(function, scheduled(function), StreamK(ALL, 7), opencl_ground.TARGET, emit_opencl)
    assert pocl.wrong(made) == ""
    assert len(pocl.bits(made)) == 1


@pytest.mark.parametrize("what", ["number", "step", "part"])
def test_what_is_left_out_is_seen(what: str, ground: cuda_ground.Ground) -> None:
    function = examples.square_product()
    made = case(function, scheduled(function), StreamK(ALL, 3), cuda_ground.TARGET, emit)
    broken = shorter(made.program.source, what)
    assert broken is not None
    assert ground.wrong(made, broken) != ""


def test_the_division_is_that_of_the_model() -> None:
    """The expressions of the program have the values of `waves.Division`."""
    function = scheduled(examples.square_product())
    [launch] = launches(opaque(function))
    assert isinstance(launch, Launch)
    for blocks in (1, 2, 3, 5, 7, 16):
        try:
            made = _Stream.of(launch, "sm_90a", True, blocks)
        except Refused:
            assert 16 % blocks == 0
            continue
        block = tirx.Var("block", launch.dtype)
        numbers = np.arange(blocks + 1)
        begins = np.broadcast_to(evaluate(made.begin(block), {block: numbers})[:, 0], (blocks + 1,))
        assert begins.tolist() == [made.division.begin(int(n)) for n in numbers]
        steps = np.arange(made.division.cut * made.division.steps)
        owners = np.broadcast_to(evaluate(made.owner(block), {block: steps})[:, 0], steps.shape)
        assert owners.tolist() == [made.division.owner(int(n)) for n in steps]


def test_less_is_idle_and_the_counters_say_so() -> None:
    function = scheduled(examples.square_product())
    applied = PassConfig().replace(StreamK(ALL)).applied(function, cuda_ground.TARGET)
    before = PassConfig().applied(function, cuda_ground.TARGET).counters(cuda_ground.TARGET)["stream_k"]
    after = applied.counters(cuda_ground.TARGET)["stream_k"]
    assert before == {"idle share": pytest.approx(1 - 4 / 132), "launches": 1}
    assert after["launches"] == 2
    assert after["idle share"] < 0.9


# --- when it is on ----------------------------------------------------------------------------------------


def test_it_is_on_in_initial_candidates_only_where_it_is_predicted_to_win() -> None:
    target = gpu("sm_90a")
    for function, some in ((matmul(1536, 1152, 4096), True), (matmul(4096, 4096, 1024), False)):
        space = generate(from_prim_func(function, "product"), target)
        initial = [c for c in space.initial_candidates() if space.sketches[c.sketch].gpu is not None]
        on = [c for c in initial if "stream_k" in c.passes.to_text()]
        assert bool(on) == some
        for candidate in on:
            model = space.sketches[candidate.sketch].gpu
            assert model is not None
            estimate = space.estimate(candidate)
            assert estimate is not None
            assert estimate.seconds < 0.95 * predict(model, candidate.decisions).seconds


# --- what stays -------------------------------------------------------------------------------------------


def reason(function: Any, schedule: Callable[[Schedule], None], blocks: int = 3) -> str:
    program = scheduled(function, schedule)
    same, became = streamed(program, "sm_90a", True, blocks)
    assert same.same_as(program)
    return became[-1].reason


def product_of(combine: Callable[..., Any]) -> Any:
    a, b = (te.placeholder((64, 64), name=name) for name in "ab")
    k = te.reduce_axis((0, 64), name="k")
    return te.create_prim_func([a, b, te.compute(a.shape, lambda i, j: combine(a[i, k] * b[k, j], axis=k), name="out")])


def test_what_is_no_sum_is_refused() -> None:
    assert reason(product_of(te.max), examples.shared_product) == "its sums do not begin with zeros"
    doubled = te.create_prim_func(
        [a := te.placeholder((8, 16), name="a"), te.compute(a.shape, lambda i, j: a[i, j] * 2.0, name="out")]
    )
    assert reason(doubled, examples.bound) == "its tiles are no sums of their own"
    assert "no tile would be cut" in reason(examples.square_product(), examples.shared_product, 4)


def test_pipelined_steps_are_refused() -> None:
    def pipelined(schedule: Schedule) -> None:
        examples.shared_product(schedule)
        step = schedule.get_loops(schedule.get_sblock("out_update"))[2]
        for key, value in (("stage", [0, 0, 1]), ("order", [0, 1, 2])):
            schedule.annotate(step, f"software_pipeline_{key}", value)

    assert reason(examples.square_product(), pipelined) == "its steps are pipelined"


def test_a_step_that_reads_what_the_one_before_left_is_refused() -> None:
    """Only half of what a step reads is copied in it: the rest is what an earlier step left."""
    text = scheduled(examples.square_product()).script()
    assert covered(tvm.script.from_source(text))
    halved = re.sub(
        r"^( *)(T\.reads\(a\[.*)$", r"\1T.where(threadIdx_x < 128)\n\1\2", text, count=1, flags=re.MULTILINE
    )
    halved = halved.replace("threadIdx_x < 128", re.findall(r"for (\w+) in T.thread_binding\(256", text)[1] + " < 128")
    function = tvm.script.from_source(halved)
    assert not covered(function)
    same, [became] = streamed(function, "sm_90a", True, 3)
    assert same.same_as(function)
    assert became.reason == "what a step of its reduction reads is not shown to be written in that step"


def test_a_tile_that_begins_with_something_else_is_refused() -> None:
    """A sum that begins with one: in parts, each would have it."""
    function = scheduled(examples.square_product())
    [launch] = launches(opaque(function))
    assert isinstance(launch, Launch)
    assert tile_sum(launch).steps == 4
    ones = tvm.script.from_source(function.script().replace("T.float32(0.0)", "T.float32(1.0)"))
    [launch] = launches(opaque(ones))
    assert isinstance(launch, Launch)
    with pytest.raises(Refused, match="do not begin with zeros"):
        tile_sum(launch)


def test_text_form() -> None:
    config = PassConfig().replace(StreamK(ALL, 3))
    assert config.to_text() == "stream_k{divide=2,blocks=3}"
    assert PassConfig.from_text(config.to_text()) == config
