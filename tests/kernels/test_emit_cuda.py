"""CUDA kernels are emitted, compiled and accounted for without a GPU."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from pathlib import Path

import pytest
import tvm
from tvm import te, topi
from tvm.s_tir import dlight
from tvm.target import Target

from kernels import emit_cuda
from kernels.emit_cuda import CompileFailed, CompileTimeout, EmitFailed, Launch, MissingCompiler, Usage


def cuda(arch: str) -> Target:
    return Target(
        {"kind": "cuda", "arch": arch, "max_threads_per_block": 1024, "max_shared_memory_per_block": 49152,
         "max_num_threads": 1024, "thread_warp_size": 32}
    )  # fmt: skip


def bound_matmul(n: int = 64, scope: str = "shared") -> tvm.IRModule:
    """A matmul by hand: 16x16 blocks of threads, both operands staged in shared memory."""
    a, b = te.placeholder((n, n), name="a"), te.placeholder((n, n), name="b")
    func = te.create_prim_func([a, b, topi.nn.matmul(a, b)]).with_attr("global_symbol", "main")
    schedule = tvm.s_tir.Schedule(func)
    block = schedule.get_sblock("T_matmul_NN")
    i, j, k = schedule.get_loops(block)
    (io, ii), (jo, ji) = schedule.split(i, [None, 16]), schedule.split(j, [None, 16])
    ko, ki = schedule.split(k, [None, 16])
    schedule.reorder(io, jo, ii, ji, ko, ki)
    for loop, thread in ((io, "blockIdx.y"), (jo, "blockIdx.x"), (ii, "threadIdx.y"), (ji, "threadIdx.x")):
        schedule.bind(loop, thread)
    for operand in (0, 1):
        copy = schedule.cache_read(block, operand, scope)
        schedule.compute_at(copy, ko)
        fused = schedule.fuse(*schedule.get_loops(copy)[-2:])
        _, y, x = schedule.split(fused, [None, 16, 16])
        schedule.bind(y, "threadIdx.y")
        schedule.bind(x, "threadIdx.x")
    schedule.decompose_reduction(block, ko)
    return schedule.mod


def softmax_of_matmul() -> tvm.IRModule:
    a, b = te.placeholder((96, 64), name="p"), te.placeholder((64, 80), name="p")
    module = tvm.IRModule({"main": te.create_prim_func([a, b, topi.nn.softmax(topi.nn.matmul(a, b))])})
    with cuda("sm_80"):
        return dlight.ApplyDefaultSchedule(dlight.gpu.Matmul(), dlight.gpu.Reduction(), dlight.gpu.Fallback())(module)


@pytest.fixture
def nvcc() -> str:
    try:
        return emit_cuda.find_nvcc()
    except MissingCompiler as error:
        pytest.skip(str(error))


def signature(source: str, kernel: str) -> list[str]:
    """The names of the buffers that a kernel takes, in order."""
    [parameters] = re.findall(rf"{kernel}\(([^)]*)\) {{", source)
    return re.findall(r"(\w+)_ptr", parameters)


def test_one_kernel_and_its_launch() -> None:
    program = emit_cuda.emit(bound_matmul(), cuda("sm_90a"))
    [launch] = program.launches
    assert launch == Launch("main_kernel", launch.args, (4, 4, 1), (16, 16, 1))
    assert [("a", "b", "T_matmul_NN")[slot] for slot in launch.args] == signature(program.source, launch.kernel)
    assert (program.num_args, program.workspaces) == (3, ())


def test_the_source_is_what_tvm_compiles() -> None:
    module, target = softmax_of_matmul(), cuda("sm_80")
    assert emit_cuda.emit(module, target).source == tvm.compile(module, target).mod.imports[0].inspect_source()


def test_several_kernels_share_workspaces() -> None:
    program = emit_cuda.emit(softmax_of_matmul(), cuda("sm_80"))
    assert len(program.launches) > 1
    assert 96 * 80 * 4 in program.workspaces, "the product is kept between the kernels"
    assert {0, 1} <= set(program.launches[0].args), "the first kernel reads the inputs"
    assert 2 in program.launches[-1].args, "the last kernel writes the output"
    slots = {slot for launch in program.launches for slot in launch.args}
    assert slots == set(range(program.num_args + len(program.workspaces))), "everything allocated is used"
    for launch in program.launches:
        assert len(signature(program.source, launch.kernel)) == len(launch.args)
    assert json.loads(json.dumps(program.plan()))["workspaces"] == list(program.workspaces)


def test_dynamic_shared_memory_is_part_of_the_launch() -> None:
    [launch] = emit_cuda.emit(bound_matmul(scope="shared.dyn"), cuda("sm_80")).launches
    assert launch.dynamic_shared_bytes == 2 * 16 * 16 * 4


def test_a_schedule_without_threads_is_refused() -> None:
    a = te.placeholder((64,), name="a")
    module = tvm.IRModule({"main": te.create_prim_func([a, topi.tanh(a)])})
    with pytest.raises(EmitFailed):
        emit_cuda.emit(module, cuda("sm_80"))


@pytest.mark.parametrize("arch", ["sm_90a", "sm_80"])
def test_a_cubin_and_what_it_uses(arch: str, nvcc: str, tmp_path: Path) -> None:
    program = emit_cuda.emit(bound_matmul(), cuda(arch))
    cubin = emit_cuda.compile_cubin(program.source, arch, tmp_path / "new")
    assert cubin.path.read_bytes()[:4] == b"\x7fELF"
    assert list(cubin.kernels) == [launch.kernel for launch in program.launches]
    usage = cubin.kernels["main_kernel"]
    assert usage.registers > 0
    assert usage.shared_bytes >= 2 * 16 * 16 * 4
    assert cubin.resources()["registers"] == usage.registers
    assert sorted(p.name for p in cubin.path.parent.iterdir()) == [cubin.path.name], "no scratch is left"


def test_a_refused_source_is_a_failure_with_the_last_lines(nvcc: str, tmp_path: Path) -> None:
    with pytest.raises(CompileFailed, match='identifier "missing" is undefined') as caught:
        emit_cuda.compile_cubin('extern "C" __global__ void k(int* x) { *x = missing; }', "sm_80", tmp_path)
    assert str(tmp_path) not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_spills_are_counted(nvcc: str, tmp_path: Path) -> None:
    source = """
    extern "C" __global__ void __launch_bounds__(1024, 2) k(float* x, int n) {
      float a[64];
      #pragma unroll
      for (int i = 0; i < 64; ++i) a[i] = x[i * 1024 + threadIdx.x];
      for (int r = 0; r < n; ++r) {
        float t = x[r];
        #pragma unroll
        for (int i = 0; i < 64; ++i) a[i] = a[i] * t + a[(i + 5) % 64];
      }
      #pragma unroll
      for (int i = 0; i < 64; ++i) x[i * 1024 + threadIdx.x] = a[i];
    }
    """
    cubin = emit_cuda.compile_cubin(source, "sm_80", tmp_path)
    assert cubin.kernels["k"].spill_bytes > 0
    assert cubin.kernels["k"].registers <= 32
    assert cubin.resources()["spill_bytes"] == cubin.kernels["k"].spill_bytes


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_late_compiler_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler is a shell script here that starts a child and hangs: real processes, no GPU toolkit."""
    script(tmp_path / "bin" / "nvcc", f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/child\nwait\n")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(CompileTimeout, match=r"0\.5 s"):
        emit_cuda.compile_cubin("", "sm_80", tmp_path / "out", timeout_s=0.5)
    assert time.monotonic() - started < 10
    child = int((tmp_path / "child").read_text())
    with pytest.raises(ProcessLookupError):
        for _ in range(50):  # the killed grandchild is reaped by whoever adopts it, not at once
            if _state(child) == "Z":
                raise ProcessLookupError
            os.kill(child, 0)
            time.sleep(0.02)
    assert list((tmp_path / "out").iterdir()) == []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        raise ProcessLookupError from None


def test_no_compiler_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(MissingCompiler, match="install the CUDA toolkit"):
        emit_cuda.compile_cubin("", "sm_80", tmp_path)


def test_cuda_home_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = script(tmp_path / "home" / "bin" / "nvcc", "#!/bin/sh\n")
    other = script(tmp_path / "path" / "nvcc", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert emit_cuda.find_nvcc() == str(ours)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "nowhere"))
    assert emit_cuda.find_nvcc() == str(other)


@pytest.mark.parametrize("arch", ["sm_", "90", "sm_80 -run", "compute_80", "sm_80;", ""])
def test_a_malformed_architecture_is_refused(arch: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="architecture"):
        emit_cuda.compile_cubin("", arch, tmp_path)


LOG = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'main_kernel_1' for 'sm_90a'
ptxas info    : Function properties for main_kernel_1
    416 bytes stack frame, 412 bytes spill stores, 420 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 416 bytes cumulative stack size
ptxas info    : Compiling entry function 'main_kernel' for 'sm_90a'
ptxas info    : Function properties for main_kernel
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 4096 bytes smem
"""


def test_usage_is_read_kernel_by_kernel() -> None:
    assert emit_cuda.parse_usage(LOG) == {
        "main_kernel_1": Usage(registers=255, spill_bytes=832, stack_bytes=416, shared_bytes=0),
        "main_kernel": Usage(registers=32, spill_bytes=0, stack_bytes=0, shared_bytes=4096),
    }


def test_a_log_without_usage_is_a_failure() -> None:
    with pytest.raises(CompileFailed, match="main_kernel"):
        emit_cuda.parse_usage("ptxas info : Compiling entry function 'main_kernel' for 'sm_90a'\n")
