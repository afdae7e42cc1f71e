"""Best-so-far curves of a search, from its records alone.

Records of earlier runs that were reused count as known at trial 0. A task starts at its untuned time,
since the default schedule stays in use until it is beaten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tuner.records import Fidelity, Record
from tuner.report.tables import Kernel


@dataclass(frozen=True)
class Curve:
    """A step curve: after `trials[i]` trials and `seconds[i]` seconds of the search, the value is `values[i]`."""

    trials: tuple[int, ...]
    seconds: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class SearchCurves:
    """`tasks` maps a kernel's rank to its speed as a part of the best it reached, at most 1.

    `model_s` is the estimated seconds of one inference: calls times best so far, over the kernels that
    have an untuned time. It is None without such kernels or trials.
    """

    tasks: Mapping[int, Curve]
    model_s: Curve | None


def search_curves(kernels: Sequence[Kernel], records: Sequence[Record], run_id: str) -> SearchCurves:
    """The curves of one run. `records` are in the order they were made."""
    own = [r for r in records if r.run_id == run_id and r.measurement.fidelity is Fidelity.SCREEN]  # a trial once only
    earlier = [record for record in records if record.run_id != run_id]
    clock = _elapsed(own)
    curves = {kernel.rank: _task_curve(kernel, own, earlier, clock) for kernel in kernels}
    tasks = {rank: curve for rank, curve in curves.items() if curve is not None}
    return SearchCurves(tasks, _model_curve(kernels, own, earlier, clock))


def _elapsed(records: Sequence[Record]) -> list[float]:
    """Seconds since the first record; records without a readable time take their predecessor's."""
    times: list[float] = []
    start: float | None = None
    for record in records:
        now = _timestamp(record.created_at)
        if now is not None and start is None:
            start = now
        latest = times[-1] if times else 0.0
        times.append(latest if now is None or start is None else max(latest, now - start))
    return times


def _timestamp(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _known(kernel: Kernel, earlier: Sequence[Record]) -> float | None:
    """The best seconds known before the first trial of this run."""
    times = [r.measurement.median_s for r in earlier if r.task_key == kernel.data["task"] and r.measurement.ok]
    if kernel.data["untuned_s"] is not None:
        times.append(kernel.data["untuned_s"])
    return min(times, default=None)


def _task_curve(
    kernel: Kernel, own: Sequence[Record], earlier: Sequence[Record], clock: Sequence[float]
) -> Curve | None:
    best = _known(kernel, earlier)
    points: list[tuple[int, float, float]] = [] if best is None else [(0, 0.0, best)]
    trial = 0
    for record, elapsed in zip(own, clock, strict=True):
        if record.task_key != kernel.data["task"]:
            continue
        trial += 1
        if record.measurement.ok and (best is None or record.measurement.median_s < best):
            best = record.measurement.median_s
        if best is not None:
            points.append((trial, elapsed, best))
    if trial == 0 or best is None:
        return None
    points.append((trial, clock[-1], best))  # known until the run ended, though no longer tried
    return Curve(tuple(p[0] for p in points), tuple(p[1] for p in points), tuple(best / p[2] for p in points))


def _model_curve(
    kernels: Sequence[Kernel], own: Sequence[Record], earlier: Sequence[Record], clock: Sequence[float]
) -> Curve | None:
    counted = {k.data["task"]: k for k in kernels if k.data["untuned_s"] is not None}
    if not counted or not own:
        return None
    calls = {task: 1.0 if k.data["weight"] is None else float(k.data["weight"]) for task, k in counted.items()}
    best = {task: _known(kernel, earlier) or 0.0 for task, kernel in counted.items()}
    total = sum(calls[task] * best[task] for task in counted)
    trials, seconds, values = [0], [0.0], [total]
    for index, (record, elapsed) in enumerate(zip(own, clock, strict=True), 1):
        task = record.task_key
        if task in counted and record.measurement.ok and record.measurement.median_s < best[task]:
            total -= calls[task] * (best[task] - record.measurement.median_s)
            best[task] = record.measurement.median_s
        trials.append(index)
        seconds.append(elapsed)
        values.append(total)
    return Curve(tuple(trials), tuple(seconds), tuple(values))
