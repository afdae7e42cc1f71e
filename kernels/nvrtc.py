"""CUDA source -> cubin through NVRTC, for hosts without nvcc. The shared library is called through ctypes.

pip installs it and the headers: `nvidia-cuda-nvrtc`, `-runtime`, `-cccl` and, for tensor cores, `-crt`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import site
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGES = "nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cuda-crt"

_SUCCESS = 0


class NvrtcFailed(Exception):
    """NVRTC rejects the source; the message is its log."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """NVRTC from this Python's packages, else from the system; None where there is none."""
    for folder in _packages():
        for path in sorted(folder.glob("lib/libnvrtc.so.*")):
            if "builtins" not in path.name:
                return ctypes.CDLL(str(path))
    name = ctypes.util.find_library("nvrtc")
    return ctypes.CDLL(name) if name else None


def _packages() -> Iterator[Path]:
    """Where pip puts NVIDIA's libraries: nvidia/cu13, and nvidia/<library> before CUDA 13."""
    for base in dict.fromkeys([*site.getsitepackages(), *sys.path]):
        yield from sorted(Path(base or ".").glob("nvidia/*/"))


def include_folders() -> list[Path]:
    """The folders of CUDA headers that pip installed."""
    headers = [folder / "include" for folder in _packages()]
    return [path for folder in headers for path in (folder, folder / "cccl") if path.is_dir()]


def compile_source(source: str, arch: str, options: Sequence[str] = ()) -> tuple[bytes, str]:
    """The cubin and the log, with the resource usage from ptxas. Raises NvrtcFailed."""
    nvrtc = _loaded()
    program = ctypes.c_void_p()
    _check(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    try:
        flags = [f"--gpu-architecture={arch}", "--std=c++17", "--ptxas-options=-v", "--disable-warnings", *options]
        flags += [f"--include-path={folder}" for folder in include_folders()]
        encoded = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        code = nvrtc.nvrtcCompileProgram(program, len(flags), encoded)
        log = _text(nvrtc, program, "ProgramLog")
        if code != _SUCCESS:
            raise NvrtcFailed(log.strip() or _reason(nvrtc, code))
        size = ctypes.c_size_t()
        _check(nvrtc, nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
        cubin = ctypes.create_string_buffer(size.value)
        _check(nvrtc, nvrtc.nvrtcGetCUBIN(program, cubin))
        return cubin.raw, log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _loaded() -> ctypes.CDLL:
    nvrtc = library()
    if nvrtc is None:
        raise NvrtcFailed(f"NVRTC is not installed: pip install {PACKAGES}")
    return nvrtc


def _text(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, buffer))
    return buffer.value.decode(errors="replace")


def _check(nvrtc: ctypes.CDLL, code: int) -> None:
    if code != _SUCCESS:
        raise NvrtcFailed(_reason(nvrtc, code))


def _reason(nvrtc: ctypes.CDLL, code: int) -> str:
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
    return str(nvrtc.nvrtcGetErrorString(code).decode())
