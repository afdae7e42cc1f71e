"""What a measurement was made under, recorded beside its samples, and the words in which it is shown.

What cannot be read on a machine is left out, never guessed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner import environment
from tuner.measure.comparison import thread_env
from tuner.measure.stats import relative_half_width
from tuner.records import Measurement

BUSY_LOAD = 0.5
"""A load average this far above the measurement's own threads means that others were at work."""


@dataclass(frozen=True)
class Usage:
    """What this process had used at a moment: wall and CPU seconds, and how often it was switched out against its
    will."""

    wall_s: float
    cpu_s: float
    switches: int


def usage() -> Usage:
    found = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(time.perf_counter(), found.ru_utime + found.ru_stime, found.ru_nivcsw)


def used_since(before: Usage) -> dict[str, Any]:
    now = usage()
    return {
        "wall_s": now.wall_s - before.wall_s,
        "cpu_s": now.cpu_s - before.cpu_s,
        "involuntary_switches": now.switches - before.switches,
    }


def process_conditions(mode: str) -> dict[str, Any]:
    """Of this process, now: hot or cold, its thread settings, the CPUs of its threads, the CPU's clock."""
    found = {"mode": mode, "threads": _thread_settings(), "cpus": _pinned(), **_machine()}
    frequency = environment.frequency_mhz()
    return found if frequency is None else {**found, "frequency_mhz": frequency}


def _thread_settings() -> str:
    """`TVM_NUM_THREADS=2 ...`: what this process was started with, the same for a kernel and its rivals."""
    return " ".join(f"{name}={os.environ[name]}" for name in thread_env(1) if name in os.environ)


@functools.cache
def _machine() -> dict[str, Any]:
    stated = {"governor": environment.governor(), "smt": environment.smt()}
    return {name: value for name, value in stated.items() if value is not None}


def _pinned() -> list[int]:
    """The CPUs that some thread of this process has to itself; empty when no thread is pinned."""
    cpus: set[int] = set()
    for entry in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            allowed = os.sched_getaffinity(int(entry.name))
            cpus |= allowed if len(allowed) == 1 else set()
    return sorted(cpus)


# --- in words -------------------------------------------------------------------------------------


def lines(measured: Measurement) -> list[tuple[str, str]]:
    """A measurement's certificate as (what, words), without what was not recorded."""
    found = measured.conditions
    samples = f"{len(measured.samples_s)}"
    if found.get("processes"):
        samples += f" in {_count(found['processes'], 'fresh process', 'fresh processes')}"
    width = relative_half_width(measured.samples_s) if measured.samples_s else None
    rows = [
        ("fidelity", str(measured.fidelity)),
        ("samples", samples),
        ("interval", None if width is None or width > 1e6 else f"95 % within {width:.2%} of the median"),
        ("stopped by", measured.stopped_by or measured.reason),
        ("A/A floor", None if found.get("aa_floor") is None else f"{found['aa_floor']:.2%}"),
        ("dropped", _dropped(found)),
        ("load before", _load(found)),
        ("switched out", _times(found.get("involuntary_switches"))),
        ("CPU/wall", _ratio(found)),
        ("clock share", None if found.get("clock_share") is None else f"{found['clock_share']:.1e}"),
        ("frequency", None if found.get("frequency_mhz") is None else f"{found['frequency_mhz']:.0f} MHz"),
        ("governor", found.get("governor")),
        ("SMT", None if found.get("smt") is None else ("on" if found["smt"] else "off")),
        ("caches", found.get("mode")),
        ("threads", found.get("threads")),
        ("pinned to CPUs", " ".join(map(str, found.get("cpus") or ())) or None),
    ]
    return [(name, words) for name, words in rows if words]


def sentence(measured: Measurement) -> str:
    """The certificate in one line, for a table: the tier, the samples, the stop, and what may cast doubt."""
    chosen = ("fidelity", "samples", "interval", "stopped by", "A/A floor", "dropped", "load before", "switched out")
    found = dict(lines(measured))
    return "; ".join(f"{name} {found[name]}" for name in chosen if name in found)


def _dropped(found: Mapping[str, Any]) -> str | None:
    if "samples_dropped" not in found:
        return None
    dropped, preempted = found["samples_dropped"], found.get("samples_preempted", 0)
    if dropped:
        return f"{dropped} (switched out during them)"
    return f"none, though {preempted} were disturbed" if preempted else "none"


def _load(found: Mapping[str, Any]) -> str | None:
    load = found.get("load_before")
    if load is None:
        return None
    return f"{load:.2f}" + (", the machine was not idle" if busy(found) else "")


def busy(found: Mapping[str, Any]) -> bool:
    """Whether others were at work when a measurement began: then its figure is of a loaded machine."""
    threads = len(found.get("cpus") or ()) or 1
    return float(found.get("load_before") or 0.0) > threads + BUSY_LOAD


def _times(number: int | None) -> str | None:
    return None if number is None else _count(number, "time", "times")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _ratio(found: Mapping[str, Any]) -> str | None:
    wall = found.get("wall_s")
    return f"{found['cpu_s'] / wall:.2f}" if wall and "cpu_s" in found else None
