"""GPU spaces: draws satisfy the limits, formulas agree with what TVM lowers, tensor cores of every dtype compile."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import tvm

from kernels import cubin, emit_gpu
from kernels.features import COLUMNS, ENCODING, FEATURE_LENGTH, FeatureExtractor
from kernels.passes import PassConfig
from kernels.space import Candidate, DesignSpace, InvalidCandidate, TraceApplier, generate
from kernels.space.gpu_work import predict
from kernels.workload import Workload, from_prim_func
from tests.kernels.gpu_workloads import conv, depthwise, gpu, matmul, softmax


def made(func: object, name: str = "w") -> Workload:
    return from_prim_func(func, name)


def drawn(space: DesignSpace, count: int, seed: int = 1) -> list[Candidate]:
    """The same number of candidates of each sketch."""
    rng = np.random.default_rng(seed)
    samples = [space.sample_sketch(s.number, rng) for _ in range(count) for s in space.sketches]
    assert None not in samples
    return [c for c in samples if c is not None]


BIG = {"float32": made(matmul(1024, 1024, 1024)), "float16": made(matmul(1024, 1024, 1024, "float16"))}


@pytest.mark.parametrize("dtype", BIG)
def test_nine_of_ten_candidates_pass_and_are_proposed_fast(dtype: str) -> None:
    """TVM's own rules draw 4 to 11 % legal candidates of these two products."""
    space = generate(BIG[dtype], gpu())
    assert any(s.gpu and s.gpu.tensor_cores for s in space.sketches) == (dtype == "float16")
    rng = np.random.default_rng(1)
    space.sample(rng)  # predicts a few hundred candidates, once
    started = time.process_time()
    candidates = [space.sample(rng) for _ in range(30)]
    assert (time.process_time() - started) / 30 < 0.005
    assert all(space.legal(c) for c in candidates)
    applier = TraceApplier(BIG[dtype], space, gpu())
    passed = 0
    for candidate in candidates:
        try:
            applier.apply(candidate)
            passed += 1
        except InvalidCandidate:
            pass
    assert passed >= 27, f"{passed} of 30 pass VerifyGPUCode"


def test_mutations_stay_within_the_limits() -> None:
    space = generate(BIG["float16"], gpu())
    rng = np.random.default_rng(2)
    for candidate in drawn(space, 3):
        assert space.legal(space.mutate(candidate, rng))
        assert all(space.legal(n) for n in space.neighbours(candidate))


@pytest.mark.parametrize(
    "func",
    [matmul(31, 37, 29), conv(8, 16, 9, stride=2), conv(8, 12, 9, groups=4), depthwise(12, 11, 2),
     matmul(64, 48, 64, "float16"), matmul(32, 32, 32, "float16", batch=2)],
    ids=["primes", "strided conv", "grouped conv", "depthwise conv", "tensor cores", "batched"],
)  # fmt: skip
def test_threads_and_shared_memory_are_those_of_the_lowered_kernel(func: object) -> None:
    workload = made(func)
    space = generate(workload, gpu())
    applier = TraceApplier(workload, space, gpu())
    compared = exact = 0
    for candidate in drawn(space, 1):
        model = space.sketches[candidate.sketch].gpu
        try:
            plan = emit_gpu.emit(applier.apply(candidate).mod, gpu()).plan
        except (InvalidCandidate, emit_gpu.EmitFailed):
            continue
        assert model is not None
        divided = model.second_launch_bytes > 0  # its parts are added by a later launch
        launch = [launch for launch in plan.launches if launch.shared_bytes or not divided][-1]
        assert launch.threads == model.threads(candidate.decisions)
        compared += 1
        exact += launch.shared_bytes == model.shared_bytes(model.tiles(candidate.decisions))
    assert compared >= len(space.sketches) - 1
    assert exact >= compared - 1, f"{exact} of {compared}: TVM aligns a few merged allocations further"


def test_a_space_survives_json() -> None:
    for workload in (BIG["float16"], made(softmax(13, 47))):
        space = generate(workload, gpu())
        assert DesignSpace.from_json(json.loads(json.dumps(space.to_json()))) == space


def test_tensor_cores_are_offered_where_the_hardware_has_them() -> None:
    def offered(arch: str, dtype: str, out: str = "float32", tf32: bool = False) -> bool:
        space = generate(made(matmul(64, 64, 64, dtype, out)), gpu(arch), tf32=tf32)
        return any(s.gpu is not None and s.gpu.tensor_cores for s in space.sketches)

    assert offered("sm_70", "float16")
    assert not offered("sm_70", "int8", "int32")
    assert offered("sm_75", "int8", "int32")
    assert not offered("sm_75", "bfloat16")
    assert offered("sm_80", "bfloat16")
    assert not offered("sm_80", "float32")
    assert offered("sm_80", "float32", tf32=True)


@pytest.mark.parametrize(
    ("dtype", "out", "fragment"),
    [
        ("float16", "float32", "16, 16, 16, half"),
        ("bfloat16", "float32", "16, 16, 16, __nv_bfloat16"),
        ("int8", "int32", "16, 16, 16, signed char"),
        ("float32", "float32", "16, 16, 8, nvcuda::wmma::precision::tf32"),
    ],
)
def test_tensor_cores_of_every_dtype_are_emitted_and_ours_compile(
    dtype: str, out: str, fragment: str, tmp_path: Path
) -> None:
    workload = made(matmul(64, 64, 64, dtype, out))
    space = generate(workload, gpu(), tf32=True)
    applier = TraceApplier(workload, space, gpu())
    tensor = [s for s in space.sketches if s.gpu and s.gpu.tensor_cores]
    assert {max(x.copies for x in s.gpu.staged) > 1 for s in tensor if s.gpu} == {False, True}, "pipelined and not"
    rng = np.random.default_rng(0)
    for sketch in (tensor[0], tensor[-1]):
        candidate = space.sample_sketch(sketch.number, rng)
        assert candidate is not None
        program = emit_gpu.emit(applier.apply(candidate).mod, gpu())
        assert f"matrix_a, {fragment}" in program.source
        assert (dtype == "float32") == ("__float_to_tf32" in program.source)
    if dtype in ("float16", "int8"):
        return  # TVM's own fragments; nvcc takes two seconds for each
    try:
        compiled = cubin.compile_cubin(program.source, "sm_90a", tmp_path)
    except cubin.MissingCompiler as error:
        pytest.skip(str(error))
    [usage] = compiled.launch_usage(program.plan)
    assert usage["registers"] > 0
    assert usage["occupancy"]["blocks"] > 0


def test_pass_options_reach_the_source_and_the_compiler(tmp_path: Path) -> None:
    """Asynchronous copies in the source, and a register cap that ptxas keeps."""
    workload = made(matmul(256, 256, 256))
    space = generate(workload, gpu())
    pipelined = next(s for s in space.sketches if s.gpu and max(x.copies for x in s.gpu.staged) > 1)
    formulas = pipelined.gpu
    assert formulas is not None
    best = min(
        (c for c in drawn(space, 20) if c.sketch == pipelined.number and formulas.threads(c.decisions) in (128, 256)),
        key=lambda c: predict(formulas, c.decisions).seconds,
    )
    passes = PassConfig.from_text("async_copy{on=0} register_cap{registers=64} ptxas_opt{level=2} cuda_math{fast=1}")
    module = TraceApplier(workload, space, gpu()).apply(Candidate(best.sketch, best.decisions, passes)).mod
    with tvm.transform.PassContext(config=passes.context_options()):
        program = emit_gpu.emit(module, gpu())
    copies = r"cp\.async\.c[ag]\."
    assert not re.search(copies, program.source)
    assert re.search(copies, emit_gpu.emit(module, gpu()).source), "asynchronous is the default of pipelined sketches"
    try:
        compiled = cubin.compile_cubin(
            passes.on_source(program.source), "sm_90a", tmp_path, options=passes.compiler_options()
        )
    except cubin.MissingCompiler as error:
        pytest.skip(str(error))
    assert compiled.resources()["registers"] <= 64


def test_initial_candidates_are_the_fastest_by_prediction_and_features_have_the_prediction() -> None:
    space = generate(BIG["float16"], gpu())
    initial = space.initial_candidates()
    predicted = [predict(s.gpu, c.decisions).seconds for c in initial if (s := space.sketches[c.sketch]).gpu]
    assert predicted == sorted(predicted)
    usual = [predict(s.gpu, c.decisions).seconds for c in drawn(space, 10) if (s := space.sketches[c.sketch]).gpu]
    assert predicted[0] < 0.5 * float(np.median(usual))
    applier = TraceApplier(BIG["float16"], space, gpu())
    vector = FeatureExtractor(BIG["float16"], applier).vector(initial[0], applier.apply(initial[0]))
    assert vector.shape == (FEATURE_LENGTH,)
    assert vector[ENCODING] == pytest.approx(space.encode(initial[0]))
    assert vector[COLUMNS.index("roofline.seconds")] == pytest.approx(np.log2(predicted[0]), rel=1e-5)
    assert np.isfinite(vector).all()


@pytest.mark.parametrize(("dtype", "out"), [("float16", "float32"), ("bfloat16", "float32"), ("int8", "int32")])
def test_rows_that_no_tile_divides_are_padded_for_tensor_cores(dtype: str, out: str) -> None:
    for extents in ((197, 197, 64), (197, 64, 197)):
        space = generate(made(matmul(*extents, dtype, out)), gpu())
        assert [s for s in space.sketches if s.gpu is not None and s.gpu.tensor_cores]
