"""The states of a machine: whether the CPUs in use share a cache, told from the round trip of a cache line.

A virtual machine's CPUs are placed by its host, which may move them between cores that share a last-level cache and
cores that do not, within seconds. Models of several threads then take other times, some more so than others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tuner.records import CpuState

_GAP = 1.5
"""Neighbours this far apart (a ratio) are of different states. Repeated probes of one state lie within a tenth, also on
a loaded machine; states differ by factors of two (cores of one chip) to eight (a virtual machine seen here)."""

_LEAST = 3
"""A state is believed after so many probes."""


class StateProbe(Protocol):
    """Tells the state that the CPUs in use are in. `fixed` is that state where it cannot change, else None.

    `known_s` are all round trips that were measured on this machine with as many threads, those of earlier comparisons
    included.
    """

    @property
    def fixed(self) -> CpuState | None: ...

    @property
    def known_s(self) -> Sequence[float]: ...

    def round_trip_s(self) -> float | None:
        """The round trip of a cache line between the CPUs in use, now, in seconds; None where it was not measured."""

    def close(self) -> None:
        """Keep what was measured, and end the probe's child."""


@dataclass(frozen=True)
class States:
    """Where the round trips of two states part, in seconds; None where one state only was seen."""

    border_s: float | None

    def of(self, round_trip_s: float) -> CpuState:
        if self.border_s is None:
            return CpuState.ONE
        return CpuState.TOGETHER if round_trip_s < self.border_s else CpuState.APART

    def during(self, before_s: float | None, after_s: float | None) -> CpuState:
        """The state of a block between two probes, or beside one; MIXED where they disagree, UNKNOWN without any."""
        states = {self.of(s) for s in (before_s, after_s) if s is not None}
        if not states:
            return CpuState.UNKNOWN
        return states.pop() if len(states) == 1 else CpuState.MIXED


def states_apart(round_trips_s: Sequence[float]) -> bool:
    """Whether a few round trips, in seconds, are too far apart to be of one state."""
    return max(round_trips_s) >= _GAP * min(round_trips_s)


def states_of(round_trips_s: Sequence[float]) -> States:
    """The states that these round trips, in seconds, are of: they part in the widest gap between neighbours.

    The gap must be a factor of 1.5 at least, with three probes on each side: where a border lies is seen on each
    machine, and no figure is built in.
    """
    ordered = sorted(round_trips_s)
    places = range(_LEAST, len(ordered) - _LEAST + 1)
    widest = max(places, key=lambda index: ordered[index] / ordered[index - 1], default=None)
    if widest is None or ordered[widest] < _GAP * ordered[widest - 1]:
        return States(None)
    return States(math.sqrt(ordered[widest] * ordered[widest - 1]))
