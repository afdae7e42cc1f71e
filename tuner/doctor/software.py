"""Python, the packages, the linker, and TVM tested from end to end."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
from typing import Any

from tuner import environment
from tuner.config import RunConfig, TargetConfig
from tuner.devices import resolve as targets
from tuner.devices.finding import Finding, Findings, State
from tuner.errors import InfrastructureError, UserError

_PROBE_TIMEOUT_S = 180.0

_SET_UP_AGAIN = "see memory, limits and temp folder (its path may be too long); else set up anew: make clean setup"


def python() -> Findings:
    """The version of Python, and the system."""
    name = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    fits = (3, 11) <= sys.version_info[:2] < (3, 13) and platform.system() == "Linux"
    yield Finding(
        "python", State.OK if fits else State.BROKEN, name, "" if fits else "use Python 3.11 or 3.12 on Linux"
    )


def versions() -> Findings:
    """The versions that must fit each other exactly. Raises InfrastructureError when they do not."""
    environment.check_versions()
    yield Finding("versions", State.OK, ", ".join(f"{name} {pin}" for name, pin in environment.PINNED.items()))


_REQUIRED = ("numpy", "xgboost", "optuna", "sqlalchemy", "yaml", "psutil", "jinja2", "matplotlib", "pandas", "cmaes")
_OPTIONAL = (
    ("onnx", "ONNX models", "onnx"),
    ("onnxruntime", "the baseline onnxruntime", "onnx"),
    ("openvino", "the baseline openvino", "openvino"),
    ("ncnn", "the baseline ncnn", "ncnn"),
    ("MNN", "the baseline mnn", "mnn"),
    ("torch", "PyTorch models, and the baselines of PyTorch", "torch"),
    ("transformers", "models of Hugging Face", "torch"),
)


def packages(config: RunConfig) -> Findings:
    """Missing packages; an optional one counts as broken when the model needs it."""
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


def linker() -> Findings:
    """What links kernels. Raises InfrastructureError when there is no linker."""
    from tuner.devices.cpu.codegen import linker

    yield Finding("linker", State.OK, linker()[0])


def compiler() -> Findings:
    """What compiles and links whole models."""
    program = _compiler()
    if program is None:
        yield Finding("compiler", State.BROKEN, "no C++ compiler: no model can be linked", "install g++ or clang++")
    else:
        yield Finding("compiler", State.OK, program)


def _compiler() -> str | None:
    """The compiler that TVM takes (tvm.support.cc.get_cc), without the import of TVM."""
    configured = os.environ.get("CXX") or os.environ.get("CC")
    return next(filter(None, map(shutil.which, [configured] if configured else _COMPILERS)), None)


class Probe:
    """A child's service: does with TVM what a run does, from end to end."""

    def op_kernel(self) -> dict[str, Any]:
        """Compile, link, load and run a kernel on this CPU.

        Returns the version of LLVM, its name of this CPU, and what it expects of one of that name and this one lacks.
        """
        import numpy as np
        import tvm
        import tvm.script
        from tvm.target import Target, codegen

        cpu = json.loads(targets.resolve(TargetConfig("llvm")).text)

        program = tvm.script.from_source(
            '@T.prim_func(s_tir=True)\ndef main(x: T.Buffer((64,), "float32"), y: T.Buffer((64,), "float32")):\n'
            "    for i in range(64):\n        y[i] = x[i] * T.float32(2)\n"
        )
        with tempfile.TemporaryDirectory(prefix="tuner-doctor-") as folder:
            path = os.path.join(folder, "probe.so")
            tvm.compile(program, target=Target(cpu)).export_library(path)
            x, y = np.arange(64, dtype=np.float32), tvm.runtime.tensor(np.zeros(64, np.float32))
            tvm.runtime.load_module(path)["main"](tvm.runtime.tensor(x), y)
        if not np.array_equal(y.numpy(), 2 * x):
            raise RuntimeError("a compiled kernel computes wrong numbers")
        return {"version": codegen.llvm_version_major(), "cpu": cpu["mcpu"], "masked": cpu.get("mattr", [])}


def tvm(config: RunConfig) -> Findings:
    """Whether TVM works, and whether the configured target is here."""
    from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

    try:
        environment.check_versions()
    except InfrastructureError:
        yield Finding("tvm", State.BROKEN, "not tested with these versions", "install the pair first")
        return
    if _compiler() is None:
        yield Finding("tvm", State.BROKEN, "not tested without a compiler", "install the compiler first")
        return
    try:
        with Child("tuner.doctor.software:Probe") as child:
            probed = child.call("kernel", _PROBE_TIMEOUT_S)
            words = f"compiles, links and runs a kernel with LLVM {probed['version']} for {probed['cpu']}"
            yield Finding("tvm", State.OK, words)
    except ChildError as error:
        yield Finding("tvm", State.BROKEN, " ".join(str(error).split())[:400], _SET_UP_AGAIN)
        return
    except (ChildDied, ChildTimeout, OSError, EOFError) as error:
        words = " ".join(str(error).split())[:400] or type(error).__name__
        yield Finding("tvm", State.BROKEN, f"the child that tests it failed: {words}", _SET_UP_AGAIN)
        return
    try:  # here, now that TVM works: some kinds of devices are asked for in children of their own
        target = targets.resolve(config.target)
    except UserError as error:
        advice = " ".join(error.hint.split()) or "change `target` in the run file"
        yield Finding("target", State.BROKEN, error.message, advice)
        return
    features = ", ".join(target.features) or "no features"
    words = f"{target.kind}, {target.device}, {target.threads} thread(s): {features}"
    yield Finding("target", State.OK, words)
    if probed["masked"]:
        lacking = f"LLVM expects of {probed['cpu']} what this machine lacks or hides: {' '.join(probed['masked'])}"
        yield Finding("target", State.NOTE, lacking, "nothing: they are not used")
