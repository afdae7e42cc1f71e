"""Every pass: its text round-trips, each of its variants builds and is right, and it does what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels import reference
from kernels.passes import PASSES, PassConfig
from kernels.passes.base import Pass
from kernels.passes.vector_math import VectorMath
from kernels.space import Candidate, DesignSpace, TraceApplier, generate
from kernels.workload import seeded_inputs
from tests.kernels.programs import LLVM, llvm, small_conv, softmax

LAST = ("vector_math", "fuse", "bounds", "borders", "lanes", "tensorize")
"""Passes whose default comes last."""

VARIANTS = [variant for kind in PASSES.values() for variant in kind.variants("llvm")]

configurations = st.builds(
    lambda settings: PassConfig(tuple(settings)),
    st.tuples(*(st.sampled_from(kind.variants("llvm")) for kind in PASSES.values())),
)


# --- text -----------------------------------------------------------------------------------------


@given(configurations)
def test_a_configuration_is_one_line_of_text(config: PassConfig) -> None:
    text = config.to_text()
    assert "\n" not in text
    assert PassConfig.from_text(text) == config


@pytest.mark.parametrize("setting", VARIANTS, ids=Pass.to_text)
def test_a_setting_is_text(setting: Pass) -> None:
    config = PassConfig().replace(setting)
    assert PassConfig.from_text(setting.to_text()) == config
    assert (config.to_text() == "") == (config == PassConfig())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("unrol{depth=64}", "unknown pass 'unrol'"),
        ("unroll{deep=64}", "no option 'deep'"),
        ("unroll{depth=many}", "many"),
        ("unroll{depth=}", "invalid literal"),
        ("unroll{depth=64", "not a pass configuration"),
        ("unroll{depth=64} and more", "not a pass configuration"),
        ("unroll", "not a pass configuration"),
    ],
)
def test_what_is_no_configuration_is_rejected(text: str, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        PassConfig.from_text(text)


# --- variants ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llvm", "cuda"])
@pytest.mark.parametrize("name", PASSES)
def test_the_default_is_a_variant_and_mostly_the_first_and_none_comes_twice(name: str, kind: str) -> None:
    variants = PASSES[name].variants(kind)
    assert (
        PASSES[name]()
        == variants[
            len(variants) - 1 if name in ("vector_math", "fuse", "bounds", "borders", "lanes", "tensorize") else 0
        ]
    )
    assert len(set(variants)) == len(variants)
    assert all(v.name == name for v in variants)
    assert len({v.number() for v in variants}) == len(variants), "the cost model can tell them apart"


Tuned = tuple[DesignSpace, TraceApplier, list[NDArray[Any]], NDArray[Any]]


@pytest.fixture(scope="module")
def tuned() -> Tuned:
    workload, target = small_conv(), llvm()
    space = generate(workload, target)
    inputs = seeded_inputs(workload.inputs, 1)
    [expected] = reference.evaluate(workload.module()["main"], inputs)
    return space, TraceApplier(workload, space, target), inputs, expected


def build(applier: TraceApplier, candidate: Candidate) -> tvm.runtime.Executable:
    """As the builder does: the schedule, then the lowering and target options of the passes."""
    module = applier.apply(candidate).mod
    target = Target(candidate.passes.target_options(json.loads(json.dumps(LLVM))))
    with target, tvm.transform.PassContext(opt_level=3, config=candidate.passes.context_options()):
        return tvm.compile(module, target)


@pytest.mark.parametrize("setting", VARIANTS, ids=Pass.to_text)
def test_every_variant_builds_and_is_right(setting: Pass, tuned: Tuned) -> None:
    space, applier, inputs, expected = tuned
    [initial] = space.initial_candidates(limit=1)
    library = build(applier, Candidate(initial.sketch, initial.decisions, PassConfig().replace(setting)))
    output = tvm.runtime.empty(expected.shape, "float32")
    library(*map(tvm.runtime.tensor, inputs), output)
    right, _, _, reason = reference.compare(output.numpy(), expected, "float32", 72)
    assert right, reason


def test_random_candidates_are_right(tuned: Tuned) -> None:
    space, applier, inputs, expected = tuned
    rng = np.random.default_rng(5)
    for _ in range(4):
        candidate = space.sample(rng, vary_passes=0.8)
        output = tvm.runtime.empty(expected.shape, "float32")
        build(applier, candidate)(*map(tvm.runtime.tensor, inputs), output)
        right, _, _, reason = reference.compare(output.numpy(), expected, "float32", 72)
        assert right, f"{candidate.to_text()}: {reason}"


# --- effects ------------------------------------------------------------------------------------------


def script(tuned: Tuned, text: str) -> str:
    space, applier, _, _ = tuned
    [initial] = space.initial_candidates(limit=1)
    schedule = applier.apply(Candidate(initial.sketch, initial.decisions, PassConfig.from_text(text)))
    return str(schedule.mod["main"].script())


@pytest.mark.parametrize("text", ["unroll{depth=0}", "unroll{depth=16}", "vectorize{extent=0}", "noalias{on=0}"])
def test_a_pass_on_the_schedule_changes_the_program(text: str, tuned: Tuned) -> None:
    assert script(tuned, text) != script(tuned, "")


def test_options_reach_the_lowering_and_the_target() -> None:
    text = "cse{on=0} storage_rewrite{on=0} llvm_opt{level=2} vector_width{bits=512} fast_math{on=1}"
    config = PassConfig.from_text(text)
    assert config.context_options() == {"tirx.disable_cse_tir": True, "tirx.disable_storage_rewrite": True}
    target = config.target_options({**LLVM, "mattr": ["+avx2"]})
    assert target == {**LLVM, "mattr": ["+avx2", "-prefer-256-bit"], "opt-level": 2, "fast-math": True}
    assert PassConfig().context_options() == {}
    assert PassConfig().target_options(LLVM) == LLVM


def test_every_lowering_option_is_known_to_tvm() -> None:
    known = set(tvm.transform.PassContext.list_configs())
    used = {key for setting in VARIANTS for key in setting.context_options()}
    assert used
    assert used <= known


# --- vector math ------------------------------------------------------------------------------------


EXACT: dict[str, tuple[Callable[[NDArray[Any]], NDArray[Any]], float]] = {
    "exp": (np.exp, 2),
    "log": (np.log, 2),
    "sigmoid": (special.expit, 4),
    "tanh": (np.tanh, 5),
    "erf": (special.erf, 8),
    "pow 2": (np.square, 2),
    "pow 3": (lambda x: x * x * x, 2),
    "pow 4": (lambda x: x * x * x * x, 2),
}
"""The functions in float64, and how many units in the last place of float32 ours may be off."""


def element_wise(name: str = "exp", dtype: str = "float32", rows: int = 4096) -> tvm.IRModule:
    """One of the functions above of each element, in vectors of 16."""
    word, _, exponent = name.partition(" ")
    apply = (lambda x: te.power(x, tirx.const(float(exponent), dtype))) if exponent else getattr(te, word)
    a = te.placeholder((rows, 16), name="a", dtype=dtype)
    function = te.create_prim_func([a, te.compute(a.shape, lambda i, j: apply(a[i, j]), name="out")])
    schedule = Schedule(tvm.IRModule({"main": function}))
    schedule.vectorize(schedule.get_loops(schedule.get_sblock("out"))[1])
    return schedule.mod


@pytest.mark.parametrize("name", EXACT)
def test_polynomials_are_right_to_a_few_units_in_the_last_place(name: str) -> None:
    edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 88.72283, 88.72284, -87.33655, -103.97208, -103.98, 1e30, -1e30, 1e-30]
    drawn = np.random.default_rng(0).uniform(-104, 89, 15_000)
    near = np.random.default_rng(1).normal(0, 1.5, 15_000)
    whole = np.arange(0, 2**32, 2**32 // 30_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    values = np.concatenate([np.array([*edges, *np.linspace(-104, -87, 5000), *drawn, *near], np.float32), whole])
    values = np.resize(values, 4096 * 16)
    function = VectorMath(on=True).on_function(element_wise(name)["main"])
    out = tvm.runtime.tensor(np.zeros((4096, 16), np.float32))
    tvm.compile(tvm.IRModule({"main": function}), target=llvm())["main"](
        tvm.runtime.tensor(values.reshape(-1, 16)), out
    )
    computed = out.numpy().ravel()
    in_double, units = EXACT[name]
    with np.errstate(all="ignore"):
        exact = in_double(values.astype(np.float64))
        rounded = exact.astype(np.float32)
    normal = np.isfinite(rounded) & (np.abs(rounded) >= np.finfo(np.float32).tiny)
    error = np.abs(computed[normal] - exact[normal]) / np.spacing(np.abs(rounded[normal]))
    assert error.max() <= units, values[normal][error.argmax()]
    if name in ("sigmoid", "tanh"):
        assert np.nanmax(np.abs(computed)) <= 1
    np.testing.assert_allclose(computed[~normal], rounded[~normal], rtol=0, atol=float(np.finfo(np.float32).tiny))


@pytest.mark.parametrize(
    ("name", "call"),
    [("exp", "expf"), ("log", "logf"), ("tanh", "expf"), ("sigmoid", "expf"), ("pow 3", "powf")],
)
def test_vector_math_makes_vectors_of_calls(name: str, call: str) -> None:
    module = element_wise(name)
    target = Target({**LLVM, "mcpu": "x86-64-v4"})
    calls = tvm.compile(module, target=target).mod.inspect_source("asm")
    function = VectorMath(on=True).on_function(module["main"])
    vectors = tvm.compile(tvm.IRModule({"main": function}), target=target).mod.inspect_source("asm")
    assert call in calls
    assert call not in vectors
    assert re.search(r"vmulps\s.*[yz]mm", vectors)


def test_vector_math_is_searched_where_there_is_such_a_function_in_float32() -> None:
    assert VectorMath.concerns(element_wise())
    assert not VectorMath.concerns(element_wise(dtype="float64"))
    assert VectorMath.concerns(element_wise("pow 3"))
    assert not VectorMath.concerns(element_wise("pow 2.5"))
    assert not VectorMath.concerns(small_conv().module())
    assert "vector_math" in generate(softmax(), llvm()).pass_names
    assert "vector_math" not in generate(small_conv(), llvm()).pass_names
    assert len(VectorMath.variants("cuda")) == 1
    assert all("vector_math{on=1}" in c.to_text() for c in generate(softmax(), llvm()).initial_candidates())
