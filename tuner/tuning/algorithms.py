"""Choosing the algorithm of each kernel, by the times that the search measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.graph import DIRECT, Choices, Lowered
from tuner.tuning.session import TaskSession

_LEAST_GAIN = 0.03
"""Another algorithm must save this share of the direct one's time: it rounds more, and screenings are noisy."""


@dataclass(frozen=True)
class Chosen:
    """The graph with each kernel's algorithm. `seconds` are the best of each algorithm, by the chosen task's key."""

    lowered: Lowered
    seconds: Mapping[str, Mapping[str, float | None]]
    sentences: list[str]


def choose(variant: Choices, sessions: Mapping[str, TaskSession]) -> Chosen:
    """The fastest way for each kernel, and a sentence for each that has several; direct where no way has a time."""
    wanted: dict[str, str] = {}
    seconds: dict[str, Mapping[str, float | None]] = {}
    sentences = []
    for task in variant.lowered.tasks:
        ways = variant.ways(task.key)
        if len(ways) == 1:
            continue
        times = {name: sessions[key].best_s for name, key in ways.items()}
        name = _fastest(times)
        wanted[task.key] = ways[name]
        seconds[ways[name]] = times
        told = ", ".join(f"{way} {'no time' if s is None else f'{1e3 * s:.3g} ms'}" for way, s in times.items())
        sentences.append(f"{task.name}: computed by {name} ({told})")
    return Chosen(variant.mixed(wanted), seconds, sentences)


def _fastest(times: Mapping[str, float | None]) -> str:
    handicapped = {
        name: seconds if name == DIRECT else seconds / (1 - _LEAST_GAIN)
        for name, seconds in times.items()
        if seconds is not None
    }
    return min(handicapped, key=handicapped.__getitem__, default=DIRECT)
