"""Measurement metadata: the conditions recorded beside the samples, and the words in which they are shown.

What cannot be read on a machine is left out, never guessed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner import environment
from tuner.measure.states import states_apart
from tuner.measure.stats import relative_half_width
from tuner.process.pinning import thread_env
from tuner.records import Measurement

BUSY_LOAD = 0.5
"""A load average this far above the measurement's own threads means that other processes were at work."""


@dataclass(frozen=True)
class ProcessUsage:
    """What this process had used at a moment: wall and CPU seconds, and involuntary context switches."""

    wall_s: float
    cpu_s: float
    switches: int


def usage() -> ProcessUsage:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return ProcessUsage(time.perf_counter(), used.ru_utime + used.ru_stime, used.ru_nivcsw)


def used_since(before: ProcessUsage) -> dict[str, Any]:
    """The conditions of a measurement that say what it used: `wall_s`, `cpu_s`, `involuntary_switches`."""
    now = usage()
    return {
        "wall_s": now.wall_s - before.wall_s,
        "cpu_s": now.cpu_s - before.cpu_s,
        "involuntary_switches": now.switches - before.switches,
    }


def process_conditions(mode: str) -> dict[str, Any]:
    """The conditions of this process now: the mode, thread settings, pinned CPUs, the CPU's clock."""
    conditions = {"mode": mode, "threads": _thread_settings(), "cpus": _pinned(), **_machine()}
    frequency = environment.frequency_mhz()
    return conditions if frequency is None else {**conditions, "frequency_mhz": frequency}


def _thread_settings() -> str:
    """`TVM_NUM_THREADS=2 ...`: what this process was started with, the same for a kernel and its baselines."""
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


def with_round_trips(measured: Measurement, round_trips_s: Sequence[float]) -> Measurement:
    """`measured` with the round trips of a cache line between the CPUs in use that were measured around it, in seconds.
    They tell the state of the CPUs (`tuner.measure.states`). As it is where there are none."""
    if not round_trips_s:
        return measured
    details = {**measured.conditions.details, "round_trips_s": [float(f"{s:.4g}") for s in round_trips_s]}
    return dataclasses.replace(measured, conditions=dataclasses.replace(measured.conditions, details=details))


# --- in words -------------------------------------------------------------------------------------

_WIDEST = 1e6  # relative; a wider interval is not worth its digits
_BRIEF = (
    "fidelity", "times", "samples", "interval", "stopped by", "A/A floor", "dropped", "load before", "switched out",
)  # fmt: skip


def metadata_lines(measured: Measurement) -> list[tuple[str, str]]:
    """The metadata of a measurement as (name, words), without what was not recorded."""
    conditions = measured.conditions.details
    rows = [
        ("fidelity", str(measured.fidelity)),
        ("times", _format(conditions.get("times"), "{}")),
        ("samples", _samples(measured)),
        ("interval", _interval(measured)),
        ("stopped by", measured.stopped_by or measured.reason),
        ("A/A floor", _format(measured.conditions.aa_floor, "{:.2%}")),
        ("dropped", _dropped(conditions)),
        ("load before", _load(conditions)),
        ("switched out", _times(conditions.get("involuntary_switches"))),
        ("CPU/wall", _cpu_share(conditions)),
        ("clock share", _format(conditions.get("clock_share"), "{:.1e}")),
        ("frequency", _format(conditions.get("frequency_mhz"), "{:.0f} MHz")),
        ("governor", conditions.get("governor")),
        ("SMT", None if conditions.get("smt") is None else ("on" if conditions["smt"] else "off")),
        ("caches", _caches(conditions)),
        ("round trip", _round_trips(conditions.get("round_trips_s") or ())),
        ("threads", conditions.get("threads")),
        ("pinned to CPUs", " ".join(map(str, conditions.get("cpus") or ()))),
    ]
    return [(name, words) for name, words in rows if words]


def metadata_sentence(measured: Measurement) -> str:
    """The metadata in one line, for a table: fidelity, samples, stop rule, and what may cast doubt on the time."""
    words = dict(metadata_lines(measured))
    return "; ".join(f"{name} {words[name]}" for name in _BRIEF if name in words)


def _samples(measured: Measurement) -> str:
    processes = measured.conditions.details.get("processes")
    suffix = f" in {_count(processes, 'fresh process', 'fresh processes')}" if processes else ""
    return f"{len(measured.samples_s)}{suffix}"


def _interval(measured: Measurement) -> str | None:
    """How near the median its 95 % interval lies; None where there are too few samples for an interval."""
    width = relative_half_width(measured.samples_s) if measured.samples_s else math.inf
    return f"95 % within {width:.2%} of the median" if width < _WIDEST else None


def _dropped(conditions: Mapping[str, Any]) -> str | None:
    if "samples_dropped" not in conditions:
        return None
    dropped, preempted = conditions["samples_dropped"], conditions.get("samples_preempted", 0)
    if dropped:
        return f"{dropped} (preempted)"
    return f"none, though {preempted} were preempted" if preempted else "none"


def _load(conditions: Mapping[str, Any]) -> str | None:
    load = conditions.get("load_before")
    if load is None:
        return None
    return f"{load:.2f}" + (", the machine was not idle" if _busy(conditions) else "")


def _busy(conditions: Mapping[str, Any]) -> bool:
    """Whether other processes were at work when a measurement began: then its time is that of a loaded machine."""
    threads = len(conditions.get("cpus") or ()) or 1
    return float(conditions.get("load_before") or 0.0) > threads + BUSY_LOAD


def _caches(conditions: Mapping[str, Any]) -> str | None:
    """The mode, and how many copies of the constants took turns."""
    mode, copies = conditions.get("mode"), conditions.get("constant_copies")
    return f"{mode}, {copies} copies of the constants in turn" if copies else mode


def _cpu_share(conditions: Mapping[str, Any]) -> str | None:
    wall = conditions.get("wall_s")
    return f"{conditions['cpu_s'] / wall:.2f}" if wall and "cpu_s" in conditions else None


def _format(value: object, form: str) -> str | None:
    return None if value is None else form.format(value)


def _round_trips(round_trips_s: Sequence[float]) -> str | None:
    """`54 ns between the CPUs`, or from the least to the most where they are of several states."""
    if not round_trips_s:
        return None
    least, most = (f"{1e9 * s:.0f} ns" for s in (min(round_trips_s), max(round_trips_s)))
    changed = states_apart(round_trips_s)
    return f"{least} to {most} between the CPUs: their state changed" if changed else f"{least} between the CPUs"


def _times(number: int | None) -> str | None:
    return None if number is None else _count(number, "time", "times")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
