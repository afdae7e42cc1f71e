"""The simulated driver and runtime as shared libraries, built once from `native/` and kept.

They are found by a hash of what they are made of, so that a change of a source makes new ones.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent / "native"
INCLUDE = HERE / "include"

DRIVER = "libcuda.so.1"
RUNTIME = "libcudart.so.13"

_TVM_RUNTIME = "libtvm_runtime_cuda.so"

_DRIVER_SOURCES = ("blocks.cc", "checks.cc", "driver.cc", "graphs.cc", "memory.cc", "modules.cc")
_BUILD_TIMEOUT_S = 300.0


class Unavailable(Exception):
    """The simulated GPU cannot be built here; the message says what is missing."""


def compiler() -> list[str]:
    """The C++ compiler of the host, as a command. Raises Unavailable."""
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        raise Unavailable("a C++ compiler (g++ or clang++)")
    return [found]


def headers() -> Path:
    """The folder with cuda.h and cuda_runtime_api.h: the toolkit's, or NVIDIA's wheels'. Raises Unavailable."""
    for folder in _header_folders():
        if (folder / "cuda.h").exists() and (folder / "cuda_runtime_api.h").exists():
            return folder
    raise Unavailable("CUDA's headers (cuda.h): install the toolkit, or pip install nvidia-cuda-runtime")


def _header_folders() -> list[Path]:
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), nvcc and str(Path(nvcc).resolve().parents[1]), "/usr/local/cuda"]
    folders = [Path(home) / "include" for home in homes if home]
    wheels = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages" / "nvidia"
    return [*folders, *sorted(wheels.glob("*/include"), reverse=True)]


def is_built() -> bool:
    """Whether the libraries of this version are there already. Raises Unavailable."""
    return (home() / _version() / "complete").exists()


@functools.cache
def folder() -> Path:
    """The folder of the libraries of this version, which are built first where they are not there. Raises
    Unavailable."""
    made = home() / _version()
    if (made / "complete").exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="simulated-cuda-", dir=made.parent) as scratch:
        _build(Path(scratch))
        (Path(scratch) / "complete").touch()
        made.mkdir(exist_ok=True)
        for file in sorted(Path(scratch).iterdir(), key=lambda path: path.name == "complete"):
            os.replace(file, made / file.name)
    return made


def preload() -> None:
    """Load the simulated driver into this process, so that PyCUDA takes it for the driver. Raises Unavailable.

    To be called before anything loads a driver: the first `libcuda.so.1` of a process is its only one.
    """
    _loaded(DRIVER)


def preload_runtime() -> None:
    """As `preload`, and the runtime, and TVM's part that needs both. Raises Unavailable."""
    _loaded(DRIVER)
    _loaded(RUNTIME)
    import tvm

    ctypes.CDLL(str(Path(tvm.__file__).parent / "lib" / _TVM_RUNTIME), mode=ctypes.RTLD_GLOBAL)


def reset() -> None:
    """Forget the error that a kernel broke the context with, which no GPU can."""
    _loaded(DRIVER).simt_reset()


@functools.cache
def _loaded(name: str) -> ctypes.CDLL:
    return ctypes.CDLL(str(folder() / name), mode=ctypes.RTLD_GLOBAL)


def home() -> Path:
    """Beside the packages of this environment where that can be written, else the user's cache."""
    beside = Path(sys.prefix) / "share" / "tuner"
    if os.access(sys.prefix, os.W_OK):
        return beside
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuner"


def _version() -> str:
    digest = hashlib.sha256(f"{compiler()} {headers()} {flags()}".encode())
    for path in (Path(__file__), *sorted(HERE.rglob("*"))):
        if path.is_file():
            digest.update(path.read_bytes())
    return f"simulated-cuda-{digest.hexdigest()[:16]}"


@functools.cache
def flags() -> tuple[str, ...]:
    """What kernels are compiled with for this CPU: instrumented, and with its instructions for halves where it has
    them."""
    machine = ("-mf16c", "-mfma", "-mavx2") if _has_halves() else ()
    return (
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-w",
        "-fsanitize=thread",
        "-fno-exceptions",
        "-fno-threadsafe-statics",
        *machine,
        *_quiet(),
    )


def _quiet() -> tuple[str, ...]:
    """Without calls at the entry of each function, and so that a library can be unloaded."""
    if "clang" in compiler()[0]:
        return ("-mllvm", "-tsan-instrument-func-entry-exit=0")
    return ("--param", "tsan-instrument-func-entry-exit=0", "-fno-gnu-unique")


def _has_halves() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return found is not None and {"f16c", "fma", "avx2"} <= set(found[1].split())


def _build(into: Path) -> None:
    stubs = into / "stubs.cc"
    declared = [headers() / name for name in ("cuda.h", "cudaProfiler.h")]
    stubs.write_text(_stubs("".join(p.read_text(encoding="utf-8", errors="replace") for p in declared if p.exists())))
    common = [*compiler(), "-shared", "-fPIC", "-O2", "-w", "-std=c++17", "-fno-exceptions", f"-I{headers()}"]
    sources = [str(HERE / name) for name in _DRIVER_SOURCES]
    _run([*common, "-o", str(into / DRIVER), *sources, str(stubs), f"-Wl,-soname,{DRIVER}", "-ldl"])
    _run([*common, "-o", str(into / RUNTIME), str(HERE / "runtime.cc"), str(into / DRIVER),
          f"-Wl,-soname,{RUNTIME}", f"-Wl,--version-script={HERE / 'runtime.map'}"])  # fmt: skip
    header = into / "cuda_on_host.h"
    header.write_text(f'#include "{INCLUDE / "cuda_on_host.h"}"\n')
    _run([*compiler(), *flags(), "-x", "c++-header", "-o", str(into / "cuda_on_host.h.gch"), str(header)])


def _stubs(declarations: str) -> str:
    """Every function of the driver's interface, weak and answering "not supported": PyCUDA links to all of them."""
    names = set(re.findall(r"CUresult\s+CUDAAPI\s+(cu\w+)\s*\(", declarations))
    names |= set(re.findall(r"#\s*define\s+cu\w+\s+(cu\w+_v\d)\b", declarations))
    functions = "".join(f"__attribute__((weak)) int {name}(void) {{ return 801; }}\n" for name in sorted(names))
    return f'extern "C" {{\n{functions}}}\n'


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S)
    if done.returncode:
        raise Unavailable(f"the simulated driver does not compile: {done.stderr.strip()[:400]}")
