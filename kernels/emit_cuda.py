"""Scheduled TensorIR -> CUDA source and launch plan -> cubin and what it uses.

`emit` needs neither a GPU nor a CUDA toolkit; `compile_cubin` needs nvcc, and a host C++ compiler for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.target import Target
from tvm.tirx.build import codegen_build, split_host_device_mods


class EmitFailed(Exception):
    """TVM cannot lower the program to CUDA, e.g. because a loop is not bound to threads."""


class MissingCompiler(Exception):
    """There is no nvcc here; the message says what to install."""


class CompileFailed(Exception):
    """nvcc refused the source; the message is its last lines."""


class CompileTimeout(CompileFailed):
    """nvcc was not done in time and was killed with everything it had started."""


@dataclass(frozen=True)
class Launch:
    """One kernel launch. `args` are positions in the list of arguments followed by workspaces."""

    kernel: str
    args: tuple[int, ...]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    dynamic_shared_bytes: int = 0


@dataclass(frozen=True)
class CudaProgram:
    """CUDA source and how to run it: the launches in order, on one stream.

    A launch's pointers are the function's `num_args` arguments in their order, then one device
    allocation for each of `workspaces` (bytes).
    """

    source: str
    launches: tuple[Launch, ...]
    num_args: int
    workspaces: tuple[int, ...] = ()

    def plan(self) -> dict[str, Any]:
        """All but the source, as JSON-able data."""
        launches = [asdict(launch) for launch in self.launches]
        return {"launches": launches, "num_args": self.num_args, "workspaces": list(self.workspaces)}


@dataclass(frozen=True)
class Usage:
    """What one kernel takes, as ptxas reports it. Registers a thread; bytes otherwise."""

    registers: int
    spill_bytes: int
    stack_bytes: int
    shared_bytes: int


@dataclass(frozen=True)
class Cubin:
    """A compiled program: the file, its SHA-256, and the usage of each kernel by name."""

    path: Path
    sha256: str
    kernels: Mapping[str, Usage]

    def resources(self) -> dict[str, int]:
        """The worst of each resource over the kernels; spills are added up."""
        used = list(self.kernels.values())
        return {
            "registers": max((u.registers for u in used), default=0),
            "spill_bytes": sum(u.spill_bytes for u in used),
            "stack_bytes": max((u.stack_bytes for u in used), default=0),
            "shared_bytes": max((u.shared_bytes for u in used), default=0),
        }


# --- TensorIR to source ---------------------------------------------------------------------------


def emit(module: tvm.IRModule, target: Target) -> CudaProgram:
    """Lower the scheduled function `main` for a CUDA target, as `tvm.compile` does (30 to 70 ms).

    Raises EmitFailed when TVM refuses the schedule.
    """
    num_args = len(module["main"].params)
    try:
        module = tirx.transform.BindTarget(target.with_host(Target("llvm")))(module)
        pipeline, _, finalize_device = tirx.get_default_tir_pipeline(target)
        host, devices = split_host_device_mods(pipeline(module))
        if len(devices) != 1:
            raise EmitFailed("no loop of the program is bound to threads")
        [(device_target, device)] = devices.items()
        source = str(codegen_build(finalize_device()(device), device_target).inspect_source())
    except (RuntimeError, ValueError) as error:
        raise EmitFailed((str(error).strip() or type(error).__name__).splitlines()[-1][:300]) from error
    plan = _Plan(host["main"], num_args)
    return CudaProgram(source, tuple(plan.launches), num_args, tuple(plan.workspaces))


class _Plan:
    """Reads launches, their arguments and the workspaces out of the host function."""

    def __init__(self, host: tirx.PrimFunc, num_args: int) -> None:
        self.launches: list[Launch] = []
        self.workspaces: list[int] = []
        self._num_args = num_args
        self._packed = host.params[1]
        self._slots: dict[Any, int] = {}
        for statement in _statements(host.body):
            self._read(statement)

    def _read(self, statement: Any) -> None:
        if isinstance(statement, tirx.Bind):
            self._alias(statement.var, statement.value)
        elif isinstance(statement, tirx.DeclBuffer):
            self._alias(statement.buffer, statement.data)
        elif isinstance(statement, tirx.AllocBuffer):
            elements = math.prod(int(extent) for extent in statement.buffer.shape)
            self._slots[statement.buffer] = self._num_args + len(self.workspaces)
            self.workspaces.append(elements * _itemsize(str(statement.buffer.dtype)))
        elif isinstance(statement, tirx.Evaluate) and _calls(statement.value, "call_ffi_kernel"):
            self.launches.append(self._launch(statement.value))

    def _alias(self, variable: Any, value: Any) -> None:
        """Remember which argument or workspace a variable stands for, if it stands for one."""
        if isinstance(variable.ty, tvm.ir.PrimType):
            return
        for part in _subexpressions(value):
            if isinstance(part, tirx.Var) and part in self._slots:
                self._slots[variable] = self._slots[part]
                return
            if _calls(part, "tvm_struct_get") and self._packed.same_as(part.args[0]):
                self._slots[variable] = int(part.args[1])
                return

    def _launch(self, call: Any) -> Launch:
        params = [str(p) for p in call.attrs.launch_params]
        pointers, sizes = call.args[1 : len(call.args) - len(params)], call.args[len(call.args) - len(params) :]
        extents = dict(zip(params, (int(size) for size in sizes), strict=True))
        dynamic = extents.pop("tirx.use_dyn_shared_memory", 0)
        grid, block = _three(extents, "blockIdx"), _three(extents, "threadIdx")
        if extents:
            raise EmitFailed(f"launch parameters without a rule: {', '.join(extents)}")
        return Launch(call.args[0].value, tuple(map(self._slot, pointers)), grid, block, dynamic)

    def _slot(self, pointer: Any) -> int:
        for part in _subexpressions(pointer):
            if isinstance(part, tirx.Var) and part in self._slots:
                return self._slots[part]
        raise EmitFailed(f"a launch argument that is no argument and no workspace: {pointer}")


def _three(extents: dict[str, int], name: str) -> tuple[int, int, int]:
    """Take the x, y and z extents of a thread hierarchy out of the launch parameters."""
    return extents.pop(f"{name}.x", 1), extents.pop(f"{name}.y", 1), extents.pop(f"{name}.z", 1)


def _statements(statement: Any) -> Iterator[Any]:
    """All statements of a host function, in order."""
    if isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            yield from _statements(part)
        return
    yield statement
    for name in ("body", "then_case", "else_case"):
        inner = getattr(statement, name, None)
        if inner is not None:
            yield from _statements(inner)


def _subexpressions(expr: Any) -> Iterator[Any]:
    yield expr
    for part in expr.args if isinstance(expr, tvm.ir.Call) else ():
        yield from _subexpressions(part)


def _calls(expr: Any, name: str) -> bool:
    return isinstance(expr, tvm.ir.Call) and str(getattr(expr.op, "name", "")).rpartition(".")[2] == name


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


# --- source to cubin --------------------------------------------------------------------------------

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def find_nvcc() -> str:
    """The compiler of CUDA_HOME, else the one on the PATH. Raises MissingCompiler."""
    home = os.environ.get("CUDA_HOME")
    candidate = str(Path(home) / "bin" / "nvcc") if home else ""
    found = shutil.which(candidate) if candidate else None
    found = found or shutil.which("nvcc")
    if found is None:
        raise MissingCompiler(
            "compiling CUDA kernels needs nvcc: install the CUDA toolkit and put its bin folder on the PATH, "
            "or set CUDA_HOME to the toolkit"
        )
    return found


def compile_cubin(source: str, arch: str, folder: Path, timeout_s: float = 60.0, options: Sequence[str] = ()) -> Cubin:
    """Compile CUDA source for one architecture (`sm_90a`) into `folder`; the file is named by its content.

    Raises MissingCompiler, CompileFailed or CompileTimeout, and ValueError for a malformed `arch`.
    """
    if not re.fullmatch(r"sm_\d{2,3}[af]?", arch):
        raise ValueError(f"not a CUDA architecture: {arch!r}")
    nvcc = find_nvcc()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nvcc-", dir=folder) as scratch:
        code, cubin = Path(scratch) / "kernel.cu", Path(scratch) / "kernel.cubin"
        code.write_text(source)
        command = [
            nvcc,
            "-cubin",
            f"-arch={arch}",
            "-std=c++17",
            "-Xptxas",
            "-v",
            *options,
            "-o",
            str(cubin),
            str(code),
        ]
        log = _run(command, scratch, timeout_s)
        content = cubin.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        path = folder / f"{digest[:16]}.cubin"
        os.replace(cubin, path)
    return Cubin(path, digest, parse_usage(log))


def parse_usage(log: str) -> dict[str, Usage]:
    """What `ptxas -v` says, by kernel. Spills count stores and loads."""
    kernels = {}
    for name, text in _sections(log):
        frame, registers, shared = _FRAME.search(text), _REGISTERS.search(text), _SHARED.search(text)
        if frame is None or registers is None:
            raise CompileFailed(f"ptxas says nothing about the usage of {name}")
        stack, stores, loads = map(int, frame.groups())
        kernels[name] = Usage(int(registers[1]), stores + loads, stack, int(shared[1]) if shared else 0)
    return kernels


def _sections(log: str) -> Iterator[tuple[str, str]]:
    pieces = _ENTRY.split(log)[1:]
    yield from zip(pieces[::2], pieces[1::2], strict=True)


def _run(command: Sequence[str], scratch: str, timeout_s: float) -> str:
    """What the command said. It stays in our process group, so that whoever kills us kills it too."""
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
        raise CompileTimeout(f"nvcc was not done after {timeout_s:.3g} s") from error
    finally:
        _kill_tree(process)
    if process.returncode != 0:
        lines = log.replace(scratch + os.sep, "").strip().splitlines()[-12:]
        raise CompileFailed("\n".join(lines)[-2000:] or f"nvcc ended with code {process.returncode} and said nothing")
    return str(log)


def _kill_tree(process: subprocess.Popen[str]) -> None:
    """End a process that still runs, with its descendants, and wait for it."""
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
