"""When a run will end: by its total budget, or as far as that can be told without one. Kept in the run's folder."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import files
from tuner.config import SETTINGS, MeasureConfig, RunConfig
from tuner.measure.entries import PREPARE_S, TUNED
from tuner.measure.exact import ExactRun
from tuner.progress import Progress, clock_text
from tuner.tuning.total import Phase, TotalBudget

if TYPE_CHECKING:
    from tuner.store import SqlStore

FILE = "budget.json"
"""In the run's folder: `total_s` (None: no total budget), `ends_by` (ISO time), `spent_s` of all attempts at `at`."""

_USUAL_S = 60.0
"""Without a total budget: importing, trying the whole model, the ceilings of the machine."""

_START_S = 15.0
_SLOW_START_S: Mapping[str, float] = {"torch_compile": 60.0, "torch_max_autotune": 150.0}
"""What starting a baseline is taken for: most are ready within seconds."""


_PATIENCE, _LEAST_PATIENCE_S = 0.1, 5.0
"""Of a total budget the share, and the least seconds, that one build or one call may take."""


_ALWAYS_S = 60.0
"""Where nothing but a reference can verify, one has so long to start, whatever is left of a total budget."""

_REPORT_S = 3.0
"""To write summary, report and export."""


@dataclass(frozen=True)
class Rehearsal:
    """What the end of the run needs, as it was measured before the search. Seconds; `exact` is the float64 run of the
    model, where there is hardware to run models on, and `whole` that of the model as it was before it was quantized."""

    assemble_s: float
    answer_s: float = 0.0
    exact: ExactRun | None = None
    whole: ExactRun | None = None

    @property
    def verifying_s(self) -> float:
        """As long as nothing better than TVM's own kernels is known."""
        return verifying_s(self.answer_s)

    @property
    def end_s(self) -> float:
        """What cannot be left out: putting the model together, verifying and writing it."""
        return self.assemble_s + self.verifying_s


def verifying_s(answer_s: float) -> float:
    """The model is started and called for two sets of inputs, each in `answer_s`, and what it gives is written."""
    return 2.0 * answer_s + _REPORT_S


class Starting:
    """Within how many seconds the entries of a comparison must be ready, asked as their turns come; the tuned model is
    the first. Of `needed`, without which nothing verifies, one is waited for in any case."""

    def __init__(self, total: TotalBudget, needed: Collection[str]) -> None:
        self._total, self._needed = total, set(needed)
        self._began, self._end = total.clock(), 0.0

    def __call__(self, name: str) -> float:
        total = self._total
        if name == TUNED:
            return PREPARE_S
        if not self._end:  # the tuned model is ready: what verifying it takes is no estimate any more
            total.reserved_s = min(total.reserved_s, verifying_s(total.clock() - self._began))
            self._end = total.clock() + total.allowed_s(Phase.STARTING, PREPARE_S)
        left_s = max(self._end - total.clock(), 0.0)
        if name in self._needed:
            self._needed.clear()
            return max(left_s, _ALWAYS_S)
        return left_s


def expected_s(config: RunConfig) -> float:
    """The seconds of a whole run: its total budget, or an estimate that a model of usual size stays below."""
    if config.total_budget_s is not None:
        return config.total_budget_s
    settings = SETTINGS[config.search.effort]
    starting = sum(_SLOW_START_S.get(name, _START_S) for name in config.baselines.models)
    return (
        _USUAL_S + 1.02 * config.search.time_budget_s + settings.certify_s + settings.kernel_baselines_s
        + starting + 1.1 * settings.compare_s + settings.account_s
    )  # fmt: skip


def opened(config: RunConfig, folder: Path | None, store: SqlStore, progress: Progress) -> TotalBudget:
    """The budget of a run that has just begun, which tells when it will end; `folder` is that of the run it
    continues."""
    earlier_s = 0.0 if folder is None else spent_s(folder, store)
    budget = TotalBudget(config.total_budget_s, earlier_s + progress.elapsed_s)
    left_s = max(expected_s(config) - budget.spent_s, 0.0)
    clock = time.strftime("%H:%M:%S", time.localtime(time.time() + left_s))
    if budget.limited:
        spent = f", of which {clock_text(earlier_s)} are spent" if earlier_s else ""
        progress.message(f"ends by {clock} at the latest: the total budget is {clock_text(expected_s(config))}{spent}")
    else:
        progress.message(f"expected to end by {clock} (an estimate; --within TIME sets a limit)")
    return budget


def patience(measure: MeasureConfig, budget: TotalBudget) -> MeasureConfig:
    """How long one build or call may take: where there is a total budget, no more than a part of it."""
    if budget.total_s is None:
        return measure
    most_s = max(_LEAST_PATIENCE_S, _PATIENCE * budget.total_s)
    return dataclasses.replace(
        measure, build_timeout_s=min(measure.build_timeout_s, most_s), run_timeout_s=min(measure.run_timeout_s, most_s)
    )


def keep(folder: Path, config: RunConfig, budget: TotalBudget) -> None:
    """Write down what has been spent so far, for whoever asks or continues. Raises OutputError."""
    now = datetime.now(UTC)
    ends_by = now + timedelta(seconds=max(expected_s(config) - budget.spent_s, 0.0))
    stored = {
        "total_s": budget.total_s, "ends_by": ends_by.isoformat(timespec="seconds"), "spent_s": budget.spent_s,
        "at": now.isoformat(timespec="milliseconds"),
    }  # fmt: skip
    files.write_aside(folder / FILE, json.dumps(stored).encode())


def read(folder: Path) -> dict[str, Any] | None:
    """What `keep` wrote; None where there is no such file, or a damaged one."""
    try:
        stored = json.loads((folder / FILE).read_bytes())
        datetime.fromisoformat(stored["ends_by"]), datetime.fromisoformat(stored["at"])
        return {"total_s": None, **stored, "spent_s": float(stored["spent_s"])}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def ending(folder: Path) -> str:
    """When a run that has not ended is to end, in words; "" where that was not kept."""
    stored = read(folder)
    if stored is None:
        return ""
    at = datetime.fromisoformat(stored["ends_by"]).astimezone().strftime("%H:%M:%S on %Y-%m-%d")
    return f"it is to end by {at}" + ("" if stored["total_s"] else " (an estimate)")


def spent_s(folder: Path, store: SqlStore) -> float:
    """What the attempts of a run have taken: as it was written down last, and until the last record after that."""
    stored = read(folder)
    if stored is None:
        return 0.0
    at = datetime.fromisoformat(stored["at"])
    later = [
        (made - at).total_seconds()
        for record in store.read(run_id=folder.name)
        if (made := datetime.fromisoformat(record.created_at)) > at
    ]
    return float(stored["spent_s"]) + max(later, default=0.0)


def in_words(budget: TotalBudget) -> str:
    """For the report: what the budget was, and what came of it."""
    over_s = budget.spent_s - (budget.total_s or 0.0)
    told = f"the total budget of {budget.total_s:.0f} s"
    return f"{told} was kept" if over_s <= 0.0 else f"{told} was exceeded by {over_s:.0f} s"
