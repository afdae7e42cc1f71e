"""One measurement of a kernel from its measurements in several processes, and comparisons between such measurements.

In each process the kernels were interleaved round by round. A pooled measurement keeps which sample is from which
round of which process, so that two of them can be compared pair by pair, also when read from a store.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from tuner.measure.stats import LEAST_ROUNDS, StopRule, Verdict, noise_floor, unpaired_verdict, verdict
from tuner.protocols import AaControl
from tuner.records import Conditions, Label, Measurement, Status

_SUMMED = ("wall_s", "cpu_s", "involuntary_switches", "samples_preempted", "samples_dropped")
_LARGEST = ("load_before", "clock_share")

_NO_ROUND = -1
"""The round of a sample that was not interleaved with others."""


def pool_processes(measurements: Sequence[Measurement], session_id: str) -> Measurement:
    """One measurement from those of several processes, in their order, all made in the session `session_id`.

    A measurement that is not ok decides: what failed or was wrong in any process is not a result. Raises ValueError
    when there is nothing to pool.
    """
    if not measurements:
        raise ValueError("nothing to pool")
    run_s = sum(m.run_s for m in measurements)
    failed = next((m for m in measurements if not m.ok), None)
    if failed is not None:
        return dataclasses.replace(failed, run_s=run_s)
    return Measurement(
        Status.OK,
        tuple(s for m in measurements for s in m.samples_s),
        measurements[0].fidelity,
        stopped_by=_weakest_rule([m.stopped_by for m in measurements]),
        max_abs_error=max(m.max_abs_error or 0.0 for m in measurements),
        max_rel_error=max(m.max_rel_error or 0.0 for m in measurements),
        run_s=run_s,
        conditions=_pooled_conditions(measurements, session_id),
    )


def _weakest_rule(rules: Sequence[str]) -> str:
    """Of the rules that stopped several processes, the one that is the weakest evidence."""
    return next((rule for rule in StopRule if rule in rules), rules[0])


def _pooled_conditions(measurements: Sequence[Measurement], session_id: str) -> Conditions:
    first = measurements[0].conditions
    details = dict(first.details)
    for key in _SUMMED:
        details[key] = sum(m.conditions.details.get(key, 0) for m in measurements)
    for key in _LARGEST:
        details[key] = max(m.conditions.details.get(key, 0.0) for m in measurements)
    if round_trips := [s for m in measurements for s in m.conditions.details.get("round_trips_s", ())]:
        details["round_trips_s"] = round_trips
    details["processes"] = len(measurements)
    return dataclasses.replace(
        first, session_id=session_id, rounds=tuple(_rounds_of(m) for m in measurements), details=details
    )


def _rounds_of(measured: Measurement) -> tuple[int, ...]:
    """The round of each sample of one process."""
    rounds = measured.conditions.rounds
    return rounds[0] if rounds else (_NO_ROUND,) * len(measured.samples_s)


def aa_noise_floor(incumbent: Sequence[Measurement], controls: Sequence[AaControl | None]) -> float:
    """The A/A noise floor (a log ratio): the incumbent against its A/A control, process by process.

    Infinite where they were not measured together often enough.
    """
    first: list[float] = []
    second: list[float] = []
    groups: list[int] = []
    for process, (measured, control) in enumerate(zip(incumbent, controls, strict=True)):
        if control is None or not measured.ok:
            continue
        a = dict(zip(_rounds_of(measured), measured.samples_s, strict=False))
        b = dict(zip(control.rounds, control.seconds, strict=True))
        common = sorted(a.keys() & b.keys())
        first += [a[r] for r in common]
        second += [b[r] for r in common]
        groups += [process] * len(common)
    return noise_floor(first, second, groups=groups)


def with_noise_floor(measured: Measurement, floor: float) -> Measurement:
    """`measured` with the A/A noise floor of its session; null where the floor was not measured."""
    known = floor if math.isfinite(floor) else None
    return dataclasses.replace(measured, conditions=dataclasses.replace(measured.conditions, aa_floor=known))


def pool_session(
    by_process: Sequence[Sequence[Measurement]], controls: Sequence[AaControl | None], session_id: str
) -> list[Measurement]:
    """One measurement for each kernel. `by_process` has a list of measurements for each process, the incumbent first
    in each, and `controls` the incumbent's A/A control in each."""
    floor = aa_noise_floor([measured[0] for measured in by_process], controls)
    kernels = zip(*by_process, strict=True)
    return [with_noise_floor(pool_processes(measurements, session_id), floor) for measurements in kernels]


def compare_measurements(first: Measurement, second: Measurement) -> Verdict:
    """Whether `first` is faster than `second`.

    By the pairs of the rounds that both took part in where both are of one session; else, or with under three such
    rounds, by their intervals alone. Two of which one is not ok are UNDECIDED.
    """
    if not (first.ok and second.ok):
        return Verdict(Label.UNDECIDED, None, None)
    a, b, groups = paired_samples(first, second)
    floor = first.conditions.aa_floor
    if len(a) < LEAST_ROUNDS or floor is None:
        return unpaired_verdict(first.samples_s, second.samples_s)
    return verdict(a, b, floor, groups=groups)


def paired_samples(first: Measurement, second: Measurement) -> tuple[list[float], list[float], list[int]]:
    """The samples of the rounds that both took part in, and the process of each pair."""
    session_id = first.conditions.session_id
    if not session_id or session_id != second.conditions.session_id:
        return [], [], []
    a, b = _by_round(first), _by_round(second)
    common = sorted(a.keys() & b.keys())
    return [a[key] for key in common], [b[key] for key in common], [process for process, _ in common]


def _by_round(measured: Measurement) -> dict[tuple[int, int], float]:
    """The interleaved samples by (process, round)."""
    rounds = measured.conditions.rounds
    places = [(process, number) for process, numbers in enumerate(rounds) for number in numbers]
    return {place: s for place, s in zip(places, measured.samples_s, strict=False) if place[1] != _NO_ROUND}


def fastest(measured: Sequence[Measurement]) -> int | None:
    """The index of the winner: the first that is ok, unless a later one is FASTER. None when none is ok.

    `measured` is in the order of the search's ranking, so that among equals the search's choice stands: to take the
    one with the luckiest samples would select for noise a second time.
    """
    winner = None
    for index, candidate in enumerate(measured):
        if candidate.ok and (winner is None or compare_measurements(candidate, measured[winner]).label is Label.FASTER):
            winner = index
    return winner


def tied(measured: Sequence[Measurement], winner: int) -> list[int]:
    """The indices of those that this machine cannot tell from the winner (itself excluded): SAME or UNDECIDED."""
    others = [index for index, candidate in enumerate(measured) if index != winner and candidate.ok]
    labels = {index: compare_measurements(measured[index], measured[winner]).label for index in others}
    return [index for index in others if labels[index] in (Label.SAME, Label.UNDECIDED)]
