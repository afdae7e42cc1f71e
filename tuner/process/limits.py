"""What a child that runs untrusted machine code may take from the machine.

rlimits bound its memory, files and descriptors; a seccomp filter keeps it from making processes, or its processes
from leaving the group that the parent will kill. RLIMIT_NPROC is of no use for that: it counts all processes of
the user, and root is exempt from it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4  # without it older kernels slow down every load of the code that is timed
_CLONE_THREAD = 0x10000
_EPERM, _ENOSYS = 1, 38


@dataclass(frozen=True)
class Limits:
    """What a child may have; None and True are "as much as the parent". Bytes and counts.

    `memory_bytes` is private writable memory in all. `file_bytes` is the size of any one file it writes, its standard
    output included. Without `may_fork` it can start threads but no process; without `may_leave` whatever it starts
    stays in its process group.
    """

    memory_bytes: int | None = None
    file_bytes: int | None = None
    open_files: int | None = None
    may_fork: bool = True
    may_leave: bool = True


def for_kernels() -> Limits:
    """For machine code that was never run before: no processes, little output."""
    return Limits(_half_of_memory(), 64 << 20, 1024, may_fork=False, may_leave=False)


def for_compilers() -> Limits:
    """For build workers, which start linkers, and write references as large as a workload's outputs."""
    return Limits(_half_of_memory(), 4 << 30, 1024, may_fork=True, may_leave=False)


def apply(limits: Limits) -> None:
    """Limit the calling process and all that it will start, for ever. What the system cannot do is left out."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is reported by its signal; a core file is not needed
    if limits == Limits():
        return
    for kind, wanted in (
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
    ):
        if wanted is not None:
            _lower(kind, wanted)
    with contextlib.suppress(OSError):  # when memory runs out all the same, the system should kill this process
        Path("/proc/self/oom_score_adj").write_text("800")
    if not (limits.may_fork and limits.may_leave):
        _confine(limits.may_fork, limits.may_leave)


@contextlib.contextmanager
def memory_growth(extra_bytes: int) -> Iterator[None]:
    """In its context private memory may grow by `extra_bytes` at most: an allocation beyond them fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    wanted = used + extra_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if soft == resource.RLIM_INFINITY else min(wanted, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextlib.contextmanager
def large_files() -> Iterator[None]:
    """In its context files may be as large as the parent's: for what this program itself writes in a limited child."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _lower(kind: int, wanted: int) -> None:
    """Lower a soft limit. The hard one stays: the limits are against mistakes, and are lifted at times."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _half_of_memory() -> int:
    """Half of the machine's memory, or of what its control group may use where that is less. Bytes."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(Path(name).read_text()))
    return min(sizes) // 2


# --- the filter ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Architecture:
    """System call numbers, and the audit number (linux/audit.h) that says which table a call is of."""

    audit: int
    seccomp: int
    clone: int
    forks: tuple[int, ...]
    leaving: tuple[int, ...]  # setsid, setpgid
    clone3: int = 435


_ARCHITECTURES = {
    "x86_64": _Architecture(0xC000003E, seccomp=317, clone=56, forks=(57, 58), leaving=(112, 109)),
    "aarch64": _Architecture(0xC00000B7, seccomp=277, clone=220, forks=(), leaving=(157, 154)),
}

_LOAD, _EQUAL, _SET, _RETURN = 0x20, 0x15, 0x45, 0x06  # classic BPF: ld [k], jeq k, jset k, ret k
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NR, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data (little endian: the low half comes first)


def _program(calls: _Architecture, may_fork: bool, may_leave: bool) -> list[tuple[int, int, int, int]]:
    """(code, jump if true, jump if false, k) of the filter. `clone3` hides its flags from filters, so it fails as if it
    did not exist: the C library then falls back to `clone`, whose flags tell a thread from a process."""
    code = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, calls.audit), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, _NR)]
    denied = dict.fromkeys(() if may_leave else calls.leaving, _EPERM)
    if not may_fork:
        denied |= dict.fromkeys(calls.forks, _EPERM) | {calls.clone3: _ENOSYS}
    for number, error in denied.items():
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _FAIL | error)]
    if not may_fork:
        code += [
            (_EQUAL, 0, 3, calls.clone),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_SET, 1, 0, _CLONE_THREAD),
            (_RETURN, 0, 0, _FAIL | _EPERM),
        ]
    return [*code, (_RETURN, 0, 0, _ALLOW)]


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _confine(may_fork: bool, may_leave: bool) -> None:
    """Install the filter. Where the machine or its kernel has none, the process group and the deadline must suffice."""
    calls = _ARCHITECTURES.get(platform.machine())
    if calls is None:
        return
    program = _program(calls, may_fork, may_leave)
    packed = b"".join(struct.pack("HBBI", *line) for line in program)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.syscall(
        calls.seccomp,
        _SECCOMP_SET_MODE_FILTER,
        _SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        ctypes.byref(_Filter(len(program), packed)),
    )
