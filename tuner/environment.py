"""The machine and the installation a run is made on: CPU, memory, packages, versions, commit.

Imports nothing heavy: versions come from package metadata, the machine's facts from files of Linux.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuner.errors import InfrastructureError
from tuner.records import PROTOCOL_VERSION

PINNED = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}
"""The pair that was tested. With a newer ffi, TVM's own schedule rules crash the process."""

PACKAGES = (
    *PINNED, "torch", "transformers", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "ncnn", "pnnx", "mnn",
    "xgboost", "xgboost-cpu", "optuna", "numpy", "scipy", "pandas", "matplotlib", "sqlalchemy", "pyyaml", "pycuda",
)  # fmt: skip

_CHANGING = frozenset({"time_utc", "memory_available_bytes", "load_average", "git_revision"})
"""Facts of `capture()` that differ between runs on the same machine and installation."""


def capture() -> dict[str, Any]:
    """The facts about the machine and the installation that belong to a result, and its load now; JSON-able.

    A fact that cannot be read here is None. Memory is in bytes. Holds no host name, user or path.
    """
    return {
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores_usable": usable_threads(),
        "cores_total": os.cpu_count(),
        "governor": governor(),
        "smt": smt(),
        "memory_bytes": _memory("MemTotal"),
        "memory_available_bytes": _memory("MemAvailable"),
        "load_average": list(os.getloadavg()),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git_revision": _git_revision(),
        "protocol_version": PROTOCOL_VERSION,
    }


def stable_facts(captured: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of `capture()` that are the same in every run on this machine and installation.

    Memory is in whole GiB: what Linux keeps for itself differs a little from boot to boot. The commit is not among
    them; a record has a field of its own for it. `stable_facts(stable_facts(x)) == stable_facts(x)`.
    """
    facts = {name: value for name, value in captured.items() if name not in _CHANGING}
    if "memory_bytes" in facts:
        memory = facts.pop("memory_bytes")
        facts["memory_gib"] = None if memory is None else round(memory / 2**30)
    return facts


def environment_id(captured: Mapping[str, Any]) -> str:
    """16 hexadecimal digits over the stable facts of what `capture()` or `stable_facts()` returned."""
    facts = json.dumps(stable_facts(captured), sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def check_versions() -> None:
    """Raises InfrastructureError, saying what to install, unless TVM and its ffi are the pinned pair."""
    wrong = [f"{name} is {_version(name) or 'not installed'}" for name, pin in PINNED.items() if _version(name) != pin]
    if wrong:
        pins = " ".join(f"'{name}=={pin}'" for name, pin in PINNED.items())
        installed = " and ".join(wrong)
        raise InfrastructureError(f"only one pair of TVM versions works here, but {installed}", f"pip install {pins}")


def scope_key(target: str, threads: int, mode: str) -> str:
    """A short hash over everything that must match for a stored measurement to be used again.

    That is: the target's canonical text, the threads, hot or cold, the CPU, the TVM versions and the
    version of the timing protocol.
    """
    parts = [target, threads, mode, cpu_model(), {name: _version(name) for name in PINNED}, PROTOCOL_VERSION]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def gpu_scope_key(kind: str, target: str, device: str, mode: str) -> str:
    """As `scope_key`, of kernels on a GPU: with the kind and the name of the GPU instead of the CPU and the threads."""
    parts = [kind, target, device, mode, {name: _version(name) for name in PINNED}, PROTOCOL_VERSION]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


_APART = "apart-"


def apart(scope: str) -> str:
    """A scope of a device that only stands for another one: nothing is learned from its records elsewhere."""
    return f"{_APART}{scope}"


def stands_apart(scope: str) -> bool:
    """Whether a scope is one that `apart` made."""
    return scope.startswith(_APART)


def usable_threads() -> int:
    """How many cores this process may use: its affinity, and the CPU quota of its control group."""
    allowed = len(os.sched_getaffinity(0))
    quota, _, period = (_first_line("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        allowed = min(allowed, math.ceil(int(quota) / int(period)))
    return max(1, allowed)


def cpu_model() -> str:
    """The CPU's name, e.g. `AMD EPYC 9654 96-Core Processor`; never empty."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """The instruction sets that the kernel says this CPU has, in Linux's spelling; empty when unknown."""
    return frozenset((_cpuinfo("flags") or _cpuinfo("Features")).split())


def virtual() -> bool:
    """Whether this may be a virtual machine, whose CPUs a host can move between cores. False only where it is known."""
    return "hypervisor" in cpu_flags() or platform.machine() not in ("x86_64", "AMD64")


def governor() -> str | None:
    """How the first CPU's clock is set, e.g. `performance`; None where Linux does not say."""
    return _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def smt() -> bool | None:
    """Whether two threads share a core; None where Linux does not say."""
    return {"1": True, "0": False}.get(_first_line("/sys/devices/system/cpu/smt/active") or "")


def frequency_mhz() -> float | None:
    """The clock of the first CPU that this process may use, now; a virtual machine may state a nominal one."""
    cpu = min(os.sched_getaffinity(0))
    khz = _first_line(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq")
    if khz is not None and khz.isdigit():
        return int(khz) / 1000.0
    try:
        with open("/proc/cpuinfo", "rb") as file:
            start = file.read(4096).decode(errors="replace")  # one CPU: reading hundreds takes long
    except OSError:
        return None
    for line in start.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "cpu MHz":
            return float(value)
    return None


def _cpuinfo(field: str) -> str:
    """The first `field` of /proc/cpuinfo, or "" when there is none."""
    for line in _lines("/proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _memory(field: str) -> int | None:
    for line in _lines("/proc/meminfo"):
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None


def _first_line(path: str) -> str | None:
    return next(iter(_lines(path)), None)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []  # not on this machine


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The commit of the working tree this program runs from, `+changes` when it is not clean."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()
