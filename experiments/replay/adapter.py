"""Strategies of `tuner run` for replay_bench.py: `--tuner experiments/replay/adapter.py:Guided`, or `Optuna`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tuner.commands.simulate import strategy_for
from tuner.records import Measurement, Status
from tuner.simulate.space import RecordedSpace


class _Adapter:
    """Asks for one row of `space.configs` at a time."""

    strategy = ""

    def __init__(self, space: Any, seed: int, budget: int) -> None:
        self._space = RecordedSpace.of(space.param_values, space.configs)
        self._strategy = strategy_for(self._space, self.strategy, seed)

    def ask(self) -> int | None:
        proposals = self._strategy.ask(1)
        return self._space.number[proposals[0].candidate.decisions] if proposals else None  # type: ignore[index]

    def tell(self, results: Sequence[tuple[Any, float | None, int]]) -> None:
        for _, milliseconds, row in results:
            measurement = (
                Measurement(Status.RUN_FAILED)
                if milliseconds is None
                else Measurement(Status.OK, samples_s=(milliseconds / 1e3,))
            )
            self._strategy.tell(self._space.candidate(row), measurement)


class Guided(_Adapter):
    strategy = "guided"


class Optuna(_Adapter):
    strategy = "tpe"


class Random(_Adapter):
    strategy = "random"
