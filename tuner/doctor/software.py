"""Python, the packages, the linker, and TVM tried from end to end."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from typing import Any

from tuner import environment
from tuner.config import RunConfig, TargetConfig
from tuner.devices import resolve as targets
from tuner.devices.finding import Finding, Look, State
from tuner.errors import InfrastructureError, TargetError

_PROBE_TIMEOUT_S = 180.0

_ANEW = "see memory, limits and temp folder (its path may be too long); else set up anew: make clean setup"


def python() -> Look:
    name = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    fits = (3, 11) <= sys.version_info[:2] < (3, 13) and platform.system() == "Linux"
    yield Finding(
        "python", State.OK if fits else State.BROKEN, name, "" if fits else "use Python 3.11 or 3.12 on Linux"
    )


def versions() -> Look:
    environment.check_versions()
    yield Finding("versions", State.OK, ", ".join(f"{name} {pin}" for name, pin in environment.PINNED.items()))


_REQUIRED = ("numpy", "xgboost", "optuna", "sqlalchemy", "yaml", "psutil", "jinja2", "matplotlib", "pandas", "cmaes")
_OPTIONAL = (
    ("onnx", "ONNX models", "onnx"),
    ("onnxruntime", "the baseline onnxruntime", "onnx"),
    ("torch", "PyTorch models, and the baselines of PyTorch", "torch"),
    ("transformers", "models of Hugging Face", "torch"),
)


def packages(config: RunConfig) -> Look:
    missing = [name for name in _REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding("packages", State.BROKEN, f"missing: {', '.join(missing)}", "install them: pip install -e .")
    needed = {config.model.source.partition(":")[0]}
    for module, purpose, extra in _OPTIONAL:
        if importlib.util.find_spec(module) is None:
            state = State.BROKEN if module in needed else State.NOTE
            yield Finding("packages", state, f"no {module}: no {purpose}", f"pip install -e '.[{extra}]'")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version("kernels")
        yield Finding(
            "packages", State.WARNING, f"the package kernels {version} has the import name of a part of this program",
            "pip uninstall kernels",
        )  # fmt: skip
    if not missing:
        yield Finding("packages", State.OK, f"{len(_REQUIRED)} required packages are there")


_COMPILERS = ("g++", "gcc", "clang++", "clang", "c++", "cc")
"""Those that tvm.support.cc.get_cc looks for, where neither CXX nor CC names one."""


def linker() -> Look:
    from tuner.devices.builder import linker

    yield Finding("linker", State.OK, linker()[0])
    named = os.environ.get("CXX") or os.environ.get("CC")
    if not any(map(shutil.which, [named] if named else _COMPILERS)):
        yield Finding("linker", State.BROKEN, "no C++ compiler: no model can be linked", "install g++ or clang++")


class Probe:
    """A child's service: TVM does from end to end what a run needs of it."""

    def op_try(self) -> dict[str, str]:
        """A kernel is compiled for this CPU, linked, loaded and run. Returns what LLVM says of itself."""
        import numpy as np
        import tvm
        import tvm.script
        from tvm.target import codegen

        program = tvm.script.from_source(
            '@T.prim_func(s_tir=True)\ndef main(x: T.Buffer((64,), "float32"), y: T.Buffer((64,), "float32")):\n'
            "    for i in range(64):\n        y[i] = x[i] * T.float32(2)\n"
        )
        with tempfile.TemporaryDirectory(prefix="tuner-doctor-") as folder:
            path = os.path.join(folder, "probe.so")
            tvm.compile(program, target=tvm.target.Target.from_device("cpu")).export_library(path)
            x, y = np.arange(64, dtype=np.float32), tvm.runtime.tensor(np.zeros(64, np.float32))
            tvm.runtime.load_module(path)["main"](tvm.runtime.tensor(x), y)
        if not np.array_equal(y.numpy(), 2 * x):
            raise RuntimeError("a compiled kernel computes wrong numbers")
        return {"llvm": str(codegen.llvm_version_major()), "cpu": str(codegen.llvm_get_system_cpu())}

    def op_target(self, spec: Any, threads: int | None) -> dict[str, Any]:
        """The target in words, and what LLVM expects of a CPU of this name and this one lacks. Raises TargetError."""
        from tvm.target import codegen

        found = targets.resolve(TargetConfig(spec, threads))
        words = f"{found.kind}, {found.device}, {found.threads} thread(s): {', '.join(found.features) or 'no features'}"
        cpu = {"kind": "llvm", "mcpu": str(codegen.llvm_get_system_cpu())}
        return {"words": words, "masked": targets.masked_features(cpu)}


def tvm(config: RunConfig) -> Look:
    from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

    try:
        environment.check_versions()
    except InfrastructureError:
        yield Finding("tvm", State.BROKEN, "not tried with these versions", "install the pair first")
        return
    try:
        with Child("tuner.doctor.software:Probe") as child:
            said = child.call("try", _PROBE_TIMEOUT_S)
            words = f"compiles, links and runs a kernel with LLVM {said['llvm']} for {said['cpu']}"
            yield Finding("tvm", State.OK, words)
            target = child.call("target", _PROBE_TIMEOUT_S, spec=config.target.spec, threads=config.target.threads)
    except ChildError as error:
        wrong = error.kind == TargetError.__name__
        part, advice = ("target", "change `target` in the run file") if wrong else ("tvm", _ANEW)
        yield Finding(part, State.BROKEN, " ".join(str(error).split())[:400], advice)
        return
    except (ChildDied, ChildTimeout, OSError, EOFError) as error:
        words = " ".join(str(error).split())[:400] or type(error).__name__
        yield Finding("tvm", State.BROKEN, f"the child that tries it failed: {words}", _ANEW)
        return
    yield Finding("target", State.OK, target["words"])
    if target["masked"]:
        lacking = f"LLVM expects of {said['cpu']} what this machine lacks or hides: {' '.join(target['masked'])}"
        yield Finding("target", State.NOTE, lacking, "nothing: they are not used")
