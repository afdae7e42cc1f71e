"""CUDA source -> a shared library that the simulated driver loads as a cubin."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kernels.cubin import CompileFailed, CompileTimeout, Cubin, KernelUsage
from tuner.devices.cuda.simulated import native
from tuner.devices.cuda.simulated.source import Untranslatable, kernels, translated

_TIMEOUT_S = 600.0
"""For a compiler that hangs; the parent enforces the run file's build timeout."""


def compile_simulated(
    source: str, arch: str, into: Path, seconds: Mapping[str, float], timeout_s: float = _TIMEOUT_S
) -> Cubin:
    """Compile CUDA source into `into`; the file is named by its content.

    `seconds` a launch of each kernel takes by an estimate. Registers are not known: they are 0. Raises CompileFailed,
    CompileTimeout, and `native.Unavailable` where nothing compiles here.
    """
    try:
        text = translated(source, seconds, {})
    except Untranslatable as error:
        raise CompileFailed(str(error)) from error
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="simulated-", dir=into) as scratch:
        code, library = Path(scratch) / "kernel.cc", Path(scratch) / "kernel.so"
        code.write_text(text)
        _run(
            [*native.compiler(), *native.flags(), "-shared", "-nodefaultlibs", "-I", str(native.folder()),
             "-I", str(native.INCLUDE / "empty"), "-include", "cuda_on_host.h", "-o", str(library), str(code),
             "-lm", "-lc"],
            scratch, timeout_s,
        )  # fmt: skip
        content = library.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        path = into / f"{digest[:16]}.cubin"
        os.replace(library, path)
    usage = {kernel.name: KernelUsage(0, 0, 0, 0) for kernel in kernels(source)}
    return Cubin(path, digest, usage, arch)


def _run(command: list[str], scratch: str, timeout_s: float) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout_s,
            env={**os.environ, "TMPDIR": scratch},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CompileTimeout(f"the host compiler did not finish within {timeout_s:g} s") from error
    if done.returncode:
        lines = done.stderr.replace(f"{scratch}/", "").splitlines()
        errors = [line for line in lines if "error" in line] or lines
        raise CompileFailed("\n".join(errors[:5])[:1000] or f"the host compiler returns {done.returncode}")
