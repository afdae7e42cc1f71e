"""What runs on this machine, as /proc tells it: for tests that nothing is left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def running(pid: int) -> bool:
    """Whether a process is there and not only waiting to be reaped."""
    return _stat(pid)[:1] not in ([], ["Z"])


def parent(pid: int) -> int:
    """0 when the process has gone."""
    return int((_stat(pid) or ["", "0"])[1])


def descendants(pid: int) -> set[int]:
    """All processes below one, zombies left out."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and running(int(entry.name)):
            parents[int(entry.name)] = parent(int(entry.name))
    found = {pid}
    while grown := {p for p, above in parents.items() if above in found} - found:
        found |= grown
    return found - {pid}


def descriptors(pid: int | None = None) -> int:
    return len(os.listdir(f"/proc/{pid or os.getpid()}/fd"))


def resident_bytes(pid: int) -> int:
    """Memory of a process that is its own: what it shares with the process it was forked from is left out."""
    size, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    return (int(size) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def within(seconds: float, what: Callable[[], bool]) -> bool:
    """Whether something becomes true in time."""
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _stat(pid: int) -> list[str]:
    """State, parent, process group and so on: what follows the name in /proc/PID/stat."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
