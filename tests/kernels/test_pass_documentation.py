"""The page of every pass: complete, its example run, its counters named, and what is refused is not applied."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels import examples, reference, shown
from kernels.dots import imported, used
from kernels.emit_gpu import emit
from kernels.passes import PASSES, PassConfig
from kernels.passes.base import Pass, Place, View
from kernels.passes.merged_shared import MergedShared
from kernels.passes.thread_share import ThreadShare
from kernels.passes.vector_math import VectorMath
from kernels.passes.vector_width import VectorWidth
from kernels.serial import serial
from kernels.workload import from_prim_func, seeded_inputs
from tests.kernels.dot_targets import HAS_DOTS, WITH_DOTS
from tests.kernels.programs import LLVM, llvm

each_pass = pytest.mark.parametrize("kind", PASSES.values(), ids=list(PASSES))


@each_pass
def test_a_pass_is_documented(kind: type[Pass]) -> None:
    page = kind.documentation
    assert set(page.options) == {f.name for f in fields(kind)}
    assert kind.line().endswith(".")
    assert page.requires
    assert all((page.loses, page.elsewhere, *page.options.values(), *page.counters.values()))
    assert kind.places(), "a pass acts somewhere"
    assert kind.name in page.example.after


@each_pass
def test_the_example_of_a_pass_shows_its_effect(kind: type[Pass]) -> None:
    example = kind.documentation.example
    before, after = (shown.shown(example, text) for text in (example.before, example.after))
    assert before != after
    assert 0 < len(after.splitlines()) < 40


@each_pass
def test_the_example_of_a_pass_computes_the_same_with_and_without_it(kind: type[Pass]) -> None:
    example = kind.documentation.example
    workload = from_prim_func(example.program(), kind.name)
    inputs = seeded_inputs(workload.inputs, 3)
    [expected] = reference.evaluate(workload.module()["main"], inputs)
    for text in (example.before, example.after):
        output = computed(example, text, inputs, expected.shape)
        right, _, _, reason = reference.compare(output, expected, "float32", 4096)
        assert right, f"{text}: {reason}"


def computed(example: Any, text: str, inputs: list[NDArray[Any]], shape: tuple[int, ...]) -> NDArray[Any]:
    """An example's output under a configuration, on the CPU: threads of a GPU one after the other."""
    config, module = PassConfig.from_text(text), shown.scheduled(example, text)
    applied = config.applied(module["main"], Target(shown.target_of(example)))
    on_gpu = example.view in (View.CUDA, View.COMMAND)
    if "wmma" in tvm.ir.save_json(module):
        pytest.skip("fragments are executed on the simulated GPU (test_mma.py)")
    if "tvm_storage_sync" in tvm.ir.save_json(applied.function):
        pytest.skip("barriers are executed on the simulated GPU (test_persist.py, test_stream_k.py)")
    if used(applied.function) and not HAS_DOTS:
        pytest.skip("this CPU has no dot-product instructions")
    module = tvm.IRModule({"main": imported(applied.function)})
    cpu = WITH_DOTS if used(applied.function) else LLVM
    target = llvm() if on_gpu else Target(applied.passes.target_options(dict(cpu)))
    module = serial(module) if on_gpu else module
    options = {} if on_gpu else applied.passes.context_options()
    with tvm.transform.PassContext(opt_level=3, config=options):
        library = tvm.compile(module, target)
    output = tvm.runtime.tensor(np.zeros(shape, np.float32))
    library(*map(tvm.runtime.tensor, inputs), output)
    array: NDArray[Any] = output.numpy()
    return array


@each_pass
def test_counters_are_named_and_the_example_changes_one(kind: type[Pass]) -> None:
    example, values = kind.documentation.example, []
    target = Target(shown.target_of(example))
    for text in (example.before, example.after):
        applied = PassConfig.from_text(text).applied(shown.scheduled(example, text)["main"], target)
        values.append(applied.counters(target).get(kind.name, {}))
        assert set(values[-1]) == set(kind.documentation.counters)
    assert not values[0] or values[0] != values[1]


def test_what_is_refused_is_told_and_not_applied() -> None:
    function = examples.products()
    config = PassConfig().replace(VectorMath(True)).replace(ThreadShare(1, 2))
    applied = config.applied(function, llvm())
    assert applied.function.same_as(function)
    assert applied.passes == PassConfig()
    assert applied.refused == {
        "vector_math{on=1}": "it calls no elementary function of float32 that has a polynomial",
        "threads{level=1,count=2}": "2 threads cannot have nearly equal parts of loop 1 of a parallel nest",
    }


def test_shared_memory_is_not_merged_where_a_statement_reads_one_buffer_and_writes_another() -> None:
    """TVM gives the two one place, although each thread reads what another one may have overwritten already."""
    example = MergedShared.documentation.example
    target = Target(shown.target_of(example))
    schedule = Schedule(tvm.IRModule({"main": chain_of_rows()}))
    i, j = schedule.get_loops(schedule.get_sblock("out"))
    schedule.bind(i, "blockIdx.x")
    schedule.bind(j, "threadIdx.x")
    for name in ("second", "first"):
        block = schedule.get_sblock(name)
        schedule.set_scope(block, 0, "shared")
        schedule.compute_at(block, i)
        schedule.bind(schedule.get_loops(block)[-1], "threadIdx.x")
    applied = PassConfig().replace(MergedShared(True)).applied(schedule.mod["main"], target)
    assert applied.refused == {
        "merged_shared{on=1}": "a statement reads first_shared and writes second_shared, both in shared memory"
    }
    faulty = emit(schedule.mod, target, 1, MergedShared(True).context_options())
    assert "[256]" in faulty.source, "TVM's fault has gone: the refusal may go, too"


def chain_of_rows() -> tirx.PrimFunc:
    a = te.placeholder((32, 64), name="a")
    first = te.compute(a.shape, lambda i, j: a[i, j] + 1.0, name="first")
    second = te.compute(a.shape, lambda i, j: first[i, 63 - j] * 2.0, name="second")
    return te.create_prim_func([a, te.compute(a.shape, lambda i, j: second[i, 63 - j] + 4.0, name="out")])


def test_the_width_of_x86_registers_is_refused_elsewhere() -> None:
    function = examples.products()
    arm = Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu"})
    assert VectorWidth(512).refusal(function, arm) == "aarch64 is no x86 CPU"
    assert VectorWidth(512).refusal(function, Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu"})) == ""
    assert PassConfig().replace(VectorWidth(512)).applied(function, arm).passes == PassConfig()


def test_a_pass_acts_where_its_hooks_are() -> None:
    places = {name: kind.places() for name, kind in PASSES.items()}
    assert places["vectorize"] == (Place.SCHEDULE, Place.LOWERING)
    assert places["threads"] == (Place.FUNCTION,)
    assert places["register_cap"] == (Place.SOURCE,)
