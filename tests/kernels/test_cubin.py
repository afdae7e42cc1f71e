"""CUDA source is compiled, and its resource usage read, without a GPU."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from kernels import cubin, emit_gpu, nvrtc
from kernels.cubin import CompileFailed, CompileTimeout, Cubin, KernelUsage, MissingCompiler
from tests.kernels.cuda_programs import bound_matmul, cuda


@pytest.fixture
def nvcc() -> str:
    try:
        return cubin.find_nvcc()
    except MissingCompiler as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("arch", ["sm_90a", "sm_80"])
def test_a_cubin_and_what_it_uses(arch: str, nvcc: str, tmp_path: Path) -> None:
    program = emit_gpu.emit(bound_matmul(), cuda(arch))
    made = cubin.compile_cubin(program.source, arch, tmp_path / "new")
    assert made.path.read_bytes()[:4] == b"\x7fELF"
    assert list(made.kernels) == [launch.kernel for launch in program.plan.launches]
    usage = made.kernels["main_kernel"]
    assert usage.registers > 0
    assert usage.shared_bytes >= 2 * 16 * 16 * 4
    assert made.resources()["registers"] == usage.registers
    assert sorted(p.name for p in made.path.parent.iterdir()) == [made.path.name], "no scratch is left"


def test_a_rejected_source_is_a_failure_with_the_errors(nvcc: str, tmp_path: Path) -> None:
    with pytest.raises(CompileFailed, match='identifier "missing" is undefined') as caught:
        cubin.compile_cubin('extern "C" __global__ void k(int* x) { *x = missing; }', "sm_80", tmp_path)
    assert str(tmp_path) not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_first_error_is_found_among_warnings(nvcc: str, tmp_path: Path) -> None:
    unused = "".join(f"int v{number} = {number};" for number in range(40))
    with pytest.raises(CompileFailed) as caught:
        cubin.compile_cubin(f'extern "C" __global__ void k(int a/b) {{ {unused} }}', "sm_80", tmp_path)
    assert "expected a" in str(caught.value).splitlines()[0]


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
    made = cubin.compile_cubin(source, "sm_80", tmp_path)
    assert made.kernels["k"].spill_bytes > 0
    assert made.kernels["k"].registers <= 32
    assert made.resources()["spill_bytes"] == made.kernels["k"].spill_bytes


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
        cubin.compile_cubin("", "sm_80", tmp_path / "out", timeout_s=0.5)
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
    monkeypatch.setattr(nvrtc, "library", lambda: None)
    with pytest.raises(MissingCompiler, match="install the CUDA toolkit"):
        cubin.compile_cubin("", "sm_80", tmp_path)


def test_cuda_home_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = script(tmp_path / "home" / "bin" / "nvcc", "#!/bin/sh\n")
    other = script(tmp_path / "path" / "nvcc", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert cubin.find_nvcc() == str(ours)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "nowhere"))
    assert cubin.find_nvcc() == str(other)


@pytest.mark.parametrize("arch", ["sm_", "90", "sm_80 -run", "compute_80", "sm_80;", ""])
def test_a_malformed_architecture_is_rejected(arch: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="architecture"):
        cubin.compile_cubin("", arch, tmp_path)


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
    assert cubin.parse_usage(LOG) == {
        "main_kernel_1": KernelUsage(registers=255, spill_bytes=832, stack_bytes=416, shared_bytes=0),
        "main_kernel": KernelUsage(registers=32, spill_bytes=0, stack_bytes=0, shared_bytes=4096),
    }


def test_a_log_without_usage_is_a_failure() -> None:
    with pytest.raises(CompileFailed, match="main_kernel"):
        cubin.parse_usage("ptxas info : Compiling entry function 'main_kernel' for 'sm_90a'\n")


ARCHITECTURES = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a")


def test_several_architectures_at_once(nvcc: str, tmp_path: Path) -> None:
    """Those that the toolkit does not know (sm_70 since CUDA 13) fail by themselves, with their name."""
    program = emit_gpu.emit(bound_matmul(), cuda("sm_70"))
    made = cubin.compile_cubins(program.source, ARCHITECTURES, tmp_path, jobs=2)
    assert list(made) == list(ARCHITECTURES)
    good = {arch: m for arch, m in made.items() if isinstance(m, Cubin)}
    assert len(good) >= 4
    assert len({m.sha256 for m in good.values()}) == len(good), "each architecture has code of its own"
    assert all(m.kernels["main_kernel"].registers > 0 for m in good.values())
    for arch, failed in made.items():
        assert isinstance(failed, Cubin) or arch in str(failed)


def test_nvrtc_where_there_is_no_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if nvrtc.library() is None:
        pytest.skip("no NVRTC")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    program = emit_gpu.emit(bound_matmul(), cuda("sm_80"))
    made = cubin.compile_cubin(program.source, "sm_80", tmp_path / "out")
    assert made.path.read_bytes()[:4] == b"\x7fELF"
    assert made.kernels["main_kernel"].registers > 0
    with pytest.raises(CompileFailed, match='identifier "missing" is undefined'):
        cubin.compile_cubin('extern "C" __global__ void k(int* x) { *x = missing; }', "sm_80", tmp_path)
