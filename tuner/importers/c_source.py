"""C, LLVM IR, bitcode and MLIR files: what `kernels.raising` reads, C as LLVM IR."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.errors import MissingPackage, ModelError

LARGEST = 64 << 20
"""Bytes of a file that is read."""

_COMPILE_S = 60.0
_PLAIN = ("-O0", "-fno-sanitize=undefined", "-fno-vectorize", "-fno-slp-vectorize", "-fno-unroll-loops")
MLIR = ".mlir"
_C, _CPP = ".c", (".cpp", ".cc", ".cxx")
_BITCODE = (b"BC\xc0\xde", b"\xde\xc0\x17\x0b")


def compiler(suffix: str = _C) -> list[str]:
    """The command of a clang for files of C or C++: the system's, or that of the package ziglang. Raises
    MissingPackage."""
    clang = shutil.which("clang++" if suffix in _CPP else "clang")
    if clang is not None:
        return [clang]
    if importlib.util.find_spec("ziglang") is None:
        raise MissingPackage("ziglang", "compiling C (there is no clang on the PATH)", "llvm")
    return [sys.executable, "-m", "ziglang", "c++" if suffix in _CPP else "cc"]


def compiled(source: Path, output: Path, flags: Sequence[str]) -> None:
    """Run the C compiler. Raises ModelError with its first error."""
    command = [*compiler(source.suffix), *flags, str(source), "-o", str(output)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise ModelError(str(source), f"the compiler does not end within {_COMPILE_S:.0f} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error:" in line]
        raise ModelError(str(source), lines[0] if lines else f"the compiler fails (exit code {done.returncode})")


def compile_original(c: Mapping[str, Any], output: Path, flags: Sequence[str]) -> None:
    """Run the compiler on what the importer says of a raised function: its file, or IR in it. Raises ModelError."""
    if "ir" not in c:
        compiled(Path(c["path"]), output, flags)
        return
    with tempfile.TemporaryDirectory(prefix="tuner-ir-") as scratch:
        file = Path(scratch, "module.ll")
        file.write_text(c["ir"], encoding="utf-8")
        compiled(file, output, flags)


def ir_of(path: Path, level: str = "") -> str | bytes:
    """The IR of a file of C, C++ or LLVM IR: text, or bitcode; of a .mlir file its text. `level`: how C is optimised,
    for tests of what others send.

    Raises ModelError, or MissingPackage.
    """
    if path.suffix in (_C, *_CPP):
        _read(path)
        with tempfile.TemporaryDirectory(prefix="tuner-ir-") as scratch:
            output = Path(scratch, "module.ll")
            flags = _PLAIN if not level else (level, *_PLAIN[1:])
            compiled(path, output, ["-S", "-emit-llvm", "-g", "-w", *flags])
            return output.read_text("utf-8", "replace")
    content = _read(path)
    if content.startswith(_BITCODE):
        return content
    if path.suffix == ".bc":
        raise ModelError(str(path), "not LLVM bitcode", "clang -c -emit-llvm writes it")
    return content.decode("utf-8", "replace")


def _read(path: Path) -> bytes:
    if path.suffix not in (_C, *_CPP, ".ll", ".bc", MLIR):
        hint = "its name ends in .c, .cpp, .cc, .cxx, .ll, .bc or .mlir; of other languages give the LLVM IR"
        raise ModelError(str(path), "neither C, C++, LLVM IR nor MLIR", hint)
    try:
        if path.stat().st_size > LARGEST:
            raise ModelError(str(path), f"larger than {LARGEST >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(str(path), error.strerror or str(error)) from error
