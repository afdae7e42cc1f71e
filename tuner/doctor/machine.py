"""Memory, limits, load, and the folders that are written to."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path

from tuner import environment
from tuner.devices.finding import Finding, Findings, State

_RUN_BYTES = 2 << 30
"""On a small model a run's own process holds 0.9 GiB, and the one that its workers are forked from 0.7 GiB."""

_DISK_BYTES = 1 << 30
"""While a run works, up to four libraries hold the model's weights; those of ResNet-50 have 0.1 GiB."""

_FILES = 256
"""Descriptors: a quarter of what a login shell usually allows."""


def memory() -> Findings:
    """Free memory, and limits on it."""
    free = environment.capture()["memory_available_bytes"]
    limits = {"the control group": _control_group_bytes(), "ulimit -v": _soft(resource.RLIMIT_AS),
              "ulimit -d": _soft(resource.RLIMIT_DATA)}  # fmt: skip
    tight = {name: limit for name, limit in limits.items() if limit is not None and limit < 2 * _RUN_BYTES}
    for name, limit in tight.items():
        yield Finding("memory", State.WARNING, f"{name} allows {_gib(limit)}", f"allow {_gib(2 * _RUN_BYTES)} or more")
    if free is not None and free < _RUN_BYTES:
        yield Finding("memory", State.WARNING, f"{_gib(free)} are free",
                      f"end other programs: even a small model takes {_gib(_RUN_BYTES)}")  # fmt: skip
    elif free is not None:
        yield Finding("memory", State.OK, f"{_gib(free)} are free")


def limits() -> Findings:
    """Limits on open files and on the size of a file."""
    files = _soft(resource.RLIMIT_NOFILE)
    if files is not None and files < _FILES:
        yield Finding("limits", State.WARNING, f"{files} open files are allowed", f"ulimit -n {4 * _FILES}")
    written = _soft(resource.RLIMIT_FSIZE)
    if written is not None and written < _DISK_BYTES:
        yield Finding("limits", State.WARNING, f"files may have {_gib(written)} at most", "ulimit -f unlimited")
    if (files is None or files >= _FILES) and (written is None or written >= _DISK_BYTES):
        yield Finding("limits", State.OK, f"{files or 'any number of'} open files")


def load() -> Findings:
    """How busy this machine is, and its frequency governor."""
    busy, cores = os.getloadavg()[0], environment.usable_threads()
    governor = environment.capture()["governor"]
    if busy > 0.25 * cores:
        yield Finding("load", State.WARNING, f"load average {busy:.1f} on {cores} usable core(s)",
                      "times taken now are noisy: end other programs first")  # fmt: skip
    else:
        yield Finding("load", State.OK, f"load average {busy:.1f} on {cores} usable core(s)")
    if governor == "powersave":
        yield Finding(
            "load", State.WARNING, "the frequency governor is powersave", "cpupower frequency-set -g performance"
        )


def _soft(limit: int) -> int | None:
    value = resource.getrlimit(limit)[0]
    return None if value == resource.RLIM_INFINITY else value


def _control_group_bytes() -> int | None:
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _gib(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"


def folder(part: str, wanted: Path, instead: str) -> Findings:
    """Whether files can be made, and libraries loaded, in a folder or in the nearest one above it that exists.

    `instead` is what to do where they cannot.
    """
    standing = wanted.absolute()
    while not standing.exists() and standing != standing.parent:
        standing = standing.parent
    if not standing.is_dir():
        yield Finding(part, State.BROKEN, f"{standing} is not a folder", instead)
        return
    try:
        with tempfile.NamedTemporaryFile(dir=standing, prefix=".tuner-doctor-") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Finding(part, State.BROKEN, f"{standing} cannot be written to: {error.strerror}", instead)
        return
    if os.statvfs(standing).f_flag & os.ST_NOEXEC:
        yield Finding(part, State.BROKEN, f"{standing} is mounted noexec: no kernel can be loaded from it", instead)
        return
    free = shutil.disk_usage(standing).free
    enough = free >= _DISK_BYTES
    made = "" if standing == wanted.absolute() else f", {wanted} will be made"
    advice = "" if enough else f"free some space: a run may need {_gib(_DISK_BYTES)}"
    yield Finding(part, State.OK if enough else State.WARNING, f"{standing}: {_gib(free)} free{made}", advice)
