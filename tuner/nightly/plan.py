"""The plan of a night: how long each cell takes, about, in which order they come, and for which there is no time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tuner.errors import ConfigError
from tuner.nightly.config import CellConfig, NightConfig
from tuner.nights import CellNight
from tuner.progress import counted, duration

NO_TIME = "the night's budget was over"

_BESIDE_S = {"model": 60.0, "kernel": 40.0}
"""What a cell takes beside its search, its comparison and its baselines: import, certification, export, and building
the reference's candidates again. Measured on two idle cores (docs/nightly.md has the cells)."""

_BASELINE_S = 10.0
"""Of one baseline: its import, its own compiler, its warm-up."""

_SPACE_S, _EVALUATION_S = 4.0, 0.014
"""Of a recorded space: to begin, and for one evaluation with one seed."""


_SLACK = 1.1
"""What a cell takes is known so well, about."""


def fits(seconds: float, left_s: float) -> bool:
    """Whether a cell that takes so long, about, is begun in the time that is left."""
    return seconds <= _SLACK * left_s


def estimated_s(cell: CellConfig, night: NightConfig) -> float:
    """The seconds of a cell that was never measured, from its own request."""
    if cell.kind == "space":
        return _SPACE_S + _EVALUATION_S * cell.evaluations * cell.seeds
    return cell.budget_s + night.compare_s + _BESIDE_S[cell.kind] + _BASELINE_S * len(cell.baselines)


def expected_s(cell: CellConfig, night: NightConfig, past: Sequence[CellNight]) -> float:
    """What a cell takes, about: as long as it last took, without what was measured again; else what its request says.

    `past`: its nights on this machine, oldest first.
    """
    took = [result.wall_s for result in past if result.seconds or result.ratios]
    return min(took[-3:]) if took else estimated_s(cell, night)


@dataclass(frozen=True)
class Plan:
    """The cells of a night that can be measured here, in their order, with the seconds that each takes, about."""

    seconds: Mapping[str, float]
    budget_s: float

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    @property
    def left_out(self) -> list[str]:
        """The cells for which there will be no time: each that does not fit is passed over."""
        left_s, found = self.budget_s, []
        for name, seconds in self.seconds.items():
            if fits(seconds, left_s):
                left_s -= seconds
            else:
                found.append(name)
        return found

    def require_any(self, file: str) -> None:
        """Raise ConfigError where the budget is too short for every single cell."""
        if not self.seconds or fits(min(self.seconds.values()), self.budget_s):
            return
        name, least = min(self.seconds.items(), key=lambda pair: pair[1])
        others = f", all {counted(len(self.seconds), 'cell')} {duration(self.total_s)}" if len(self.seconds) > 1 else ""
        raise ConfigError(
            file,
            f"budget: {duration(self.budget_s)} is too short for any cell: {name} takes about {duration(least)}"
            f"{others}",
            f"write budget: {duration(self.total_s)}; the least that measures anything is {duration(least)}",
        )

    def words(self) -> str:
        """What is expected of the night, in a sentence."""
        if not self.seconds:
            return "no cell is left that can be measured here"
        said = f"{counted(len(self.seconds), 'cell')} to measure, about {duration(self.total_s)} of a budget of "
        return f"{said}{duration(self.budget_s)}"

    def warning(self) -> str:
        """What will be left out, and the budget that is enough; empty where everything fits."""
        out = self.left_out
        if not out:
            return ""
        return (
            f"the budget of {duration(self.budget_s)} is too short for all cells, which take about "
            f"{duration(self.total_s)}: tonight {', '.join(out)} will be missing, and the cells alternate from night "
            f"to night. All of them every night: budget: {duration(self.total_s)}"
        )


def order(cells: Sequence[CellConfig], seed: str, nights_before: Iterable[Collection[CellNight]]) -> list[CellConfig]:
    """The cells in random order; those first for which the nights before had no time, that which waits longest before
    all. `nights_before`: their results, the latest night first."""
    shuffled = list(cells)
    random.Random(seed).shuffle(shuffled)
    waits, waiting = Counter[str](), {cell.name for cell in shuffled}
    for results in nights_before:
        waiting &= {result.cell.name for result in results if result.reason.startswith(NO_TIME)}
        if not waiting:
            break
        waits.update(waiting)
    return sorted(shuffled, key=lambda cell: -waits[cell.name])
