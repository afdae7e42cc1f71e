"""CUDA source -> cubin, and the resources its kernels use as ptxas reports them. Needs a CUDA compiler, no GPU.

The compiler is nvcc, or NVRTC where there is no nvcc.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kernels import nvrtc
from kernels.gpus import gpu_of
from kernels.launch_plan import Launch, LaunchPlan
from kernels.occupancy import occupancy
from kernels.waves import idle_share


class MissingCompiler(Exception):
    """Neither nvcc nor NVRTC is installed; the message says what to install."""


class CompileFailed(Exception):
    """The compiler rejects the source or the architecture; the message has its errors, or its last lines."""


class CompileTimeout(CompileFailed):
    """nvcc did not finish in time and was killed with its children."""


@dataclass(frozen=True)
class KernelUsage:
    """Resource usage of one kernel as ptxas reports it: registers of a thread; bytes otherwise."""

    registers: int
    spill_bytes: int
    stack_bytes: int
    shared_bytes: int


@dataclass(frozen=True)
class Cubin:
    """A compiled program: the file, its SHA-256, the resource usage of each kernel by name, and its architecture."""

    path: Path
    sha256: str
    kernels: Mapping[str, KernelUsage]
    arch: str = ""

    def launch_usage(self, plan: LaunchPlan) -> list[dict[str, Any]]:
        """The resource usage of each launch as JSON-able data: kernel, registers, memory, occupancy and its limiter,
        and what part of the most capable GPU of its architecture is idle in the last wave.

        Without the last two where there are no rules for the architecture.
        """
        return [self._usage_of(launch) for launch in plan.launches]

    def _usage_of(self, launch: Launch) -> dict[str, Any]:
        usage = self.kernels[launch.kernel]
        shared = max(usage.shared_bytes, launch.static_shared_bytes) + launch.dynamic_shared_bytes
        resources: dict[str, Any] = {"kernel": launch.kernel, **asdict(usage), "shared_bytes": shared}
        with contextlib.suppress(ValueError):
            resources["occupancy"] = asdict(occupancy(self.arch, launch.threads, usage.registers, shared))
            resources["idle_share"] = idle_share(launch.blocks, gpu_of(self.arch).multiprocessors)
        return resources

    def resources(self) -> dict[str, int]:
        """The maximum of each resource over the kernels; spills are summed."""
        used = list(self.kernels.values())
        return {
            "registers": max((u.registers for u in used), default=0),
            "spill_bytes": sum(u.spill_bytes for u in used),
            "stack_bytes": max((u.stack_bytes for u in used), default=0),
            "shared_bytes": max((u.shared_bytes for u in used), default=0),
        }


_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def find_nvcc() -> str:
    """The compiler of CUDA_HOME, else the one on the PATH. Raises MissingCompiler."""
    home = os.environ.get("CUDA_HOME")
    candidate = str(Path(home) / "bin" / "nvcc") if home else ""
    nvcc = (shutil.which(candidate) if candidate else None) or shutil.which("nvcc")
    if nvcc is None:
        raise MissingCompiler(
            "compiling CUDA kernels needs nvcc: install the CUDA toolkit and put its bin folder on the PATH, "
            f"or set CUDA_HOME to the toolkit; or, instead of nvcc, pip install {nvrtc.PACKAGES}"
        )
    return nvcc


def compile_cubins(
    source: str, archs: Sequence[str], folder: Path, timeout_s: float = 60.0, options: Sequence[str] = (), jobs: int = 1
) -> dict[str, Cubin | CompileFailed]:
    """One source for several architectures, `jobs` at once; a failure for one does not stop the others.

    Raises MissingCompiler, and ValueError for a malformed architecture.
    """

    def one(arch: str) -> Cubin | CompileFailed:
        try:
            return compile_cubin(source, arch, folder, timeout_s, options)
        except CompileFailed as error:
            return error

    with ThreadPoolExecutor(max_workers=max(jobs, 1)) as pool:
        return dict(zip(archs, pool.map(one, archs), strict=True))


def compile_cubin(source: str, arch: str, folder: Path, timeout_s: float = 60.0, options: Sequence[str] = ()) -> Cubin:
    """Compile CUDA source for one architecture (`sm_90a`) into `folder`; the file is named by its content.

    `options` are the compiler's own (`--use_fast_math`, `-maxrregcount=64`). NVRTC runs in this process and ignores the
    timeout. Raises MissingCompiler, CompileFailed or CompileTimeout, and ValueError for a malformed `arch`.
    """
    if not re.fullmatch(r"sm_\d{2,3}[af]?", arch):
        raise ValueError(f"not a CUDA architecture: {arch!r}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nvcc-", dir=folder) as scratch:
        try:
            content, log = _through_nvcc(find_nvcc(), source, arch, Path(scratch), timeout_s, options)
        except MissingCompiler:
            if nvrtc.library() is None:
                raise
            content, log = _through_nvrtc(source, arch, options)
        digest = hashlib.sha256(content).hexdigest()
        path = folder / f"{digest[:16]}.cubin"
        complete = Path(scratch) / "complete.cubin"
        complete.write_bytes(content)
        os.replace(complete, path)
    return Cubin(path, digest, parse_usage(log), arch)


def _through_nvcc(
    nvcc: str, source: str, arch: str, scratch: Path, timeout_s: float, options: Sequence[str]
) -> tuple[bytes, str]:
    code, cubin = scratch / "kernel.cu", scratch / "kernel.cubin"
    code.write_text(source)
    command = [nvcc, "-cubin", f"-arch={arch}", "-std=c++17", "-Xptxas", "-v", *options, "-o", str(cubin), str(code)]
    log = _run(command, str(scratch), timeout_s)
    return cubin.read_bytes(), log


def _through_nvrtc(source: str, arch: str, options: Sequence[str]) -> tuple[bytes, str]:
    try:
        return nvrtc.compile_source(source, arch, options)
    except nvrtc.NvrtcFailed as error:
        raise CompileFailed(_errors_in(str(error))) from error


def parse_usage(log: str) -> dict[str, KernelUsage]:
    """Resource usage by kernel, from the log of `ptxas -v`. Spills count stores and loads."""
    kernels = {}
    for name, text in _sections(log):
        frame, registers, shared = _FRAME.search(text), _REGISTERS.search(text), _SHARED.search(text)
        if frame is None or registers is None:
            raise CompileFailed(f"ptxas reports no resource usage of {name}")
        stack, stores, loads = map(int, frame.groups())
        kernels[name] = KernelUsage(int(registers[1]), stores + loads, stack, int(shared[1]) if shared else 0)
    return kernels


def _sections(log: str) -> Iterator[tuple[str, str]]:
    pieces = _ENTRY.split(log)[1:]
    yield from zip(pieces[::2], pieces[1::2], strict=True)


def _run(command: Sequence[str], scratch: str, timeout_s: float) -> str:
    """Run a command and return its output. It stays in our process group, so that it is killed when we are."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": scratch},
        text=True,
        errors="replace",
    )
    try:
        log, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise CompileTimeout(f"nvcc did not finish within {timeout_s:.3g} s") from error
    finally:
        _kill_tree(process)
    if process.returncode != 0:
        errors = _errors_in(log.replace(scratch + os.sep, ""))
        raise CompileFailed(errors or f"nvcc ended with exit code {process.returncode} and no output")
    return str(log)


def _errors_in(log: str) -> str:
    """The errors in a compiler's output, which may be among hundreds of warnings; without any, its last lines."""
    lines = log.strip().splitlines()
    errors = [line for line in lines if re.search(r"\berror\b", line)]
    return "\n".join(errors[:12] or lines[-12:])[:2000]


def _kill_tree(process: subprocess.Popen[str]) -> None:
    """Kill a process that still runs, with its descendants, and wait for it."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGSTOP)  # so that it starts nothing more while we list its children
    for pid in [*_descendants(process.pid), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [d for child in children for d in (child, *_descendants(child))]
