"""What a search is given beside its tasks and its device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tuner.config import SETTINGS, EffortSettings, PassesConfig, SearchConfig
from tuner.progress import Progress
from tuner.protocols import Stop
from tuner.records import Record
from tuner.tuning.total import TotalBudget

NEEDS_FAST_MATH = ("fast_math", "cuda_math")
"""Passes that change results in the last digits: searched only where the run file allows it."""


@dataclass(frozen=True)
class SearchContext:
    """`folder` is scratch space. `run_id`, `scope`, `environment` and `commit` are what every record says of itself.

    `notes` are sentences for the report, `total` is the budget of the whole run. A stored record for which `usable` is
    false counts as unknown.
    """

    search: SearchConfig
    pass_names: tuple[str, ...]
    run_id: str
    scope: str
    folder: Path
    progress: Progress
    interrupted: Stop = lambda: False
    notes: list[str] = field(default_factory=list)
    environment: str = ""
    commit: str = ""
    usable: Callable[[Record], bool] = lambda record: True
    total: TotalBudget = field(default_factory=TotalBudget)

    @property
    def settings(self) -> EffortSettings:
        return SETTINGS[self.search.effort]

    def note(self, text: str) -> None:
        """A sentence for whoever watches, and for the report."""
        self.notes.append(text)
        self.progress.message(text)


def searched_passes(passes: PassesConfig) -> tuple[str, ...]:
    """The kernel passes that a run file allows to be searched."""
    return tuple(p for p in passes.kernel if p not in NEEDS_FAST_MATH or passes.fast_math)
