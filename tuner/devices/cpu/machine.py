"""This machine's ceilings, measured once and kept beside the runs."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuner import environment
from tuner.files import write_aside
from tuner.measure.states import states_of
from tuner.progress import Progress

FOLDER = ".machine"
"""Inside the folder of runs; a name that no run has."""

_PROBES = 2
"""Version of the probes: figures of another version are measured again."""

_TIMEOUT_S = 180.0
_NUMBERS = ("peak_flops_per_s", "bandwidth_bytes_per_s", "cache_bytes")


def ceilings(out: Path, threads: int, progress: Progress, again: bool = False, hurried: bool = False) -> dict[str, Any]:
    """What `devices.cpu.ceilings` measures on this machine with so many threads, from `out`/.machine where it is kept.

    `again` measures in any case; of two measurements the higher figures stay, since a ceiling is what was possible
    once. What was measured on a busy machine, or `hurried`, is used, but not kept. A damaged file is replaced by a new
    measurement. Raises OutputError where it cannot be kept.
    """
    path = file_of(out, threads)
    known = read(path, progress)
    if known is not None and not again:
        return known
    progress.phase("measuring this machine's ceilings")
    load = os.getloadavg()[0]
    measured = _measure(threads, hurried)
    if known is not None:
        measured = _highest(known, measured)
    measured |= {
        "cpu": environment.cpu_model(), "threads": threads, "load_before": load,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    if hurried:
        return measured
    if load <= environment.usable_threads() / 2:
        write_aside(path, json.dumps(measured, indent=1).encode())
    else:
        progress.message(f"the load average is {load:.1f}: this machine's ceilings may be too low and are not kept")
    return measured


def file_of(out: Path, threads: int) -> Path:
    """Where the ceilings of this machine with so many threads are kept."""
    return out / FOLDER / f"{_key(threads)}.json"


def rows(figures: Mapping[str, Any]) -> list[list[str]]:
    """The ceilings as a table."""
    table = [["machine", f"{figures['cpu']}, {figures['threads']} thread(s)"]]
    table += [[f"peak {dtype}", f"{rate / 1e9:.4g} GFLOP/s"] for dtype, rate in figures["peaks"].items()]
    table += [
        [level["name"], f"{level['bytes_per_s'] / 1e9:.4g} GB/s ({level['bytes'] >> 10} KiB)"]
        for level in figures["levels"]
    ]
    table.append(["memory", f"{figures['bandwidth_bytes_per_s'] / 1e9:.4g} GB/s"])
    table.append(["by", figures["method"]])
    table.append(["measured", f"{figures['measured_at']}, load average {figures['load_before']:.2f} before"])
    return table


def _measure(threads: int, hurried: bool) -> dict[str, Any]:
    from tuner.process.pinning import thread_env
    from tuner.process.worker import Child

    with Child("tuner.devices.cpu.ceilings:Ceilings", {"threads": threads}, env=thread_env(threads)) as child:
        return dict(child.call("measure", _TIMEOUT_S, hurried=hurried))


def _key(threads: int) -> str:
    parts = [environment.cpu_model(), environment.usable_threads(), threads, environment.PINNED, _PROBES]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def read(path: Path, progress: Progress) -> dict[str, Any] | None:
    """The ceilings in a file, or None where there is none; of a damaged one `progress` is told."""
    try:
        figures = json.loads(path.read_bytes())
        if all(0 < float(figures[name]) < math.inf for name in _NUMBERS) and figures["peaks"] and rows(figures):
            return dict(figures)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        pass
    progress.message(f"{path} is damaged: measuring this machine's ceilings again")
    return None


def _highest(known: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """The new measurement, with the higher of each two figures."""
    before = {level["name"]: level["bytes_per_s"] for level in known["levels"]}
    merged = {**measured, "method": f"{measured['method']}; the higher of several measurements"}
    for name in _NUMBERS:
        merged[name] = max(known[name], measured[name])
    merged["peaks"] = {d: max(rate, known["peaks"].get(d, 0.0)) for d, rate in measured["peaks"].items()}
    merged["levels"] = [
        {**level, "bytes_per_s": max(level["bytes_per_s"], before.get(level["name"], 0.0))}
        for level in measured["levels"]
    ]
    return merged


# --- round trips of a cache line ----------------------------------------------------------------

_MOST_KEPT = 60  # of each state


def read_round_trips(out: Path, threads: int) -> list[float]:
    """The round trips in seconds that `keep_round_trips` stored for so many threads; none where there is no such
    file, or where it is damaged."""
    try:
        stored = json.loads(_round_trips(out, threads).read_bytes())
        return [float(seconds) for seconds in stored if 0 < float(seconds) < math.inf]
    except (OSError, ValueError, TypeError, RecursionError):
        return []


def keep_round_trips(out: Path, threads: int, round_trips_s: Sequence[float]) -> None:
    """Store round trips in seconds beside the runs, of each state no more than tell where it lies, so that the states
    of this machine are known when the next comparison sees one of them only. Raises OutputError."""
    states = states_of(round_trips_s)
    kept = []
    for name in dict.fromkeys(map(states.of, round_trips_s)):
        of_state = sorted(s for s in round_trips_s if states.of(s) == name)
        step = max(1, math.ceil(len(of_state) / _MOST_KEPT))
        kept += of_state[step // 2 :: step]
    write_aside(_round_trips(out, threads), json.dumps(kept).encode())


def _round_trips(out: Path, threads: int) -> Path:
    return out / FOLDER / f"{_key(threads)}-round-trips.json"
