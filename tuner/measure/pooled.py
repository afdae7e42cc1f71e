"""What several processes found of the same kernels, as one measurement each, and comparisons between those.

In each process the kernels were interleaved round by round; a pooled measurement keeps which sample is from which
round of which process, so that two of them can be compared pair by pair, also when read from a store.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.measure.stats import Label, Verdict, noise_floor, unpaired_verdict, verdict
from tuner.records import Measurement, Status

_SUMMED = ("wall_s", "cpu_s", "involuntary_switches", "samples_preempted", "samples_dropped")
_LARGEST = ("load_before", "clock_share")

_RULES = ("time limit", "one call is long enough", "noise stable", "half-width", "enough samples")
"""From the least to the most that a stop says; of several processes' stops the first of these is told."""

_ALONE = -1
"""The round of a sample that was not taken in turn with others."""

AaControl = Mapping[str, Any]
"""The incumbent's second entry in one process: `seconds` and the `rounds` they are from."""


def pool(passes: Sequence[Measurement], certification: str) -> Measurement:
    """One measurement from those of several processes, in their order; `certification` names their common occasion.

    One that is not ok decides: what failed, or answered wrongly, in any process is no result. Raises ValueError
    when there is nothing to pool.
    """
    if not passes:
        raise ValueError("nothing to pool")
    run_s = sum(m.run_s for m in passes)
    failed = next((m for m in passes if not m.ok), None)
    if failed is not None:
        return dataclasses.replace(failed, run_s=run_s)
    conditions: dict[str, Any] = dict(passes[0].conditions)
    for key in _SUMMED:
        conditions[key] = sum(m.conditions.get(key, 0) for m in passes)
    for key in _LARGEST:
        conditions[key] = max(m.conditions.get(key, 0.0) for m in passes)
    rules = {m.stopped_by for m in passes}
    errors = [(m.max_abs_error or 0.0, m.max_rel_error or 0.0) for m in passes]
    return Measurement(
        Status.OK,
        tuple(s for m in passes for s in m.samples_s),
        passes[0].fidelity,
        stopped_by=next((rule for rule in _RULES if rule in rules), passes[0].stopped_by),
        max_abs_error=max(e[0] for e in errors),
        max_rel_error=max(e[1] for e in errors),
        run_s=run_s,
        conditions=conditions
        | {
            "certification": certification,
            "processes": len(passes),
            "rounds": [list(m.conditions.get("round", [_ALONE] * len(m.samples_s))) for m in passes],
        },
    )


def floor_of(incumbent: Sequence[Measurement], controls: Sequence[AaControl | None]) -> float:
    """The A/A noise floor (a log ratio): the incumbent against its second entry, process by process.

    Infinite where they were not measured together often enough.
    """
    first: list[float] = []
    second: list[float] = []
    groups: list[int] = []
    for process, (measured, control) in enumerate(zip(incumbent, controls, strict=True)):
        if control is None or not measured.ok:
            continue
        a = dict(zip(measured.conditions.get("round", ()), measured.samples_s, strict=False))
        b = dict(zip(control["rounds"], control["seconds"], strict=True))
        common = sorted(a.keys() & b.keys())
        first += [a[r] for r in common]
        second += [b[r] for r in common]
        groups += [process] * len(common)
    return noise_floor(first, second, groups=groups)


def with_floor(measured: Measurement, floor: float) -> Measurement:
    """`measured` with the A/A floor of its occasion; none is written where it was not measured."""
    known = floor if math.isfinite(floor) else None
    return dataclasses.replace(measured, conditions={**measured.conditions, "aa_floor": known})


def pool_all(
    found: Sequence[Sequence[Measurement]], controls: Sequence[AaControl | None], certification: str
) -> list[Measurement]:
    """One measurement for each kernel from `found`, a list for each process, the incumbent first in each."""
    floor = floor_of([measured[0] for measured in found], controls)
    return [with_floor(pool(passes, certification), floor) for passes in zip(*found, strict=True)]


def compare(first: Measurement, second: Measurement) -> Verdict:
    """Whether `first` is faster than `second`.

    By the pairs of the rounds that both took part in where both are of one certification; else, or with under
    three such rounds, by their intervals alone. Two of which one is not ok are UNDECIDED.
    """
    if not (first.ok and second.ok):
        return Verdict(Label.UNDECIDED, None, None)
    a, b, groups = pairs(first, second)
    floor = first.conditions.get("aa_floor")
    if len(a) < 3 or floor is None:
        return unpaired_verdict(first.samples_s, second.samples_s)
    return verdict(a, b, float(floor), groups=groups)


def pairs(first: Measurement, second: Measurement) -> tuple[list[float], list[float], list[int]]:
    """The samples of the rounds that both took part in, and the process of each pair."""
    session_id = first.conditions.get("certification")
    if session_id is None or session_id != second.conditions.get("certification"):
        return [], [], []
    a, b = _by_round(first), _by_round(second)
    common = sorted(a.keys() & b.keys())
    return [a[key] for key in common], [b[key] for key in common], [process for process, _ in common]


def _by_round(measured: Measurement) -> dict[tuple[int, int], float]:
    rounds = measured.conditions.get("rounds", ())
    places = [(process, number) for process, numbers in enumerate(rounds) for number in numbers]
    return {place: s for place, s in zip(places, measured.samples_s, strict=False) if place[1] != _ALONE}


def fastest(measured: Sequence[Measurement]) -> int | None:
    """The index of the winner: the first that is ok, unless a later one is FASTER.

    In the order of what the search thought of them, so that among equals the search's choice stands: to take
    the luckiest of equals would be to fool oneself a second time. None when none is ok.
    """
    winner = None
    for index, candidate in enumerate(measured):
        if candidate.ok and (winner is None or compare(candidate, measured[winner]).label is Label.FASTER):
            winner = index
    return winner


def tied(measured: Sequence[Measurement], winner: int) -> list[int]:
    """The indices of those that this machine cannot tell from the winner (itself excluded): SAME or UNDECIDED."""
    same = (Label.SAME, Label.UNDECIDED)
    return [i for i, m in enumerate(measured) if i != winner and m.ok and compare(m, measured[winner]).label in same]
