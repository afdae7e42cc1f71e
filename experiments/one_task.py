"""One task searched as `tuner run` searches it: its device, its settings, its loop, its records."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

from experiments.common import ROOT
from tuner.config import MeasureConfig, PassesConfig, RunConfig, SearchConfig
from tuner.devices import resolve
from tuner.devices.device import Device, Opening
from tuner.devices.target import ResolvedTarget
from tuner.environment import usable_threads
from tuner.progress import Progress
from tuner.protocols import TuningDevice
from tuner.store import SqlStore
from tuner.tuning.context import SearchContext, searched_passes
from tuner.tuning.phase import Pace
from tuner.tuning.searcher import Searcher

RUNS = ROOT / RunConfig.out
"""Where a machine's ceilings are kept."""

BATCH = 16
NO_EARLY_STOP = 1 << 30

PACE = Pace(BATCH, first_batch=BATCH, early_stop=NO_EARLY_STOP, untuned=False)
"""Full batches from the first one on. The search ends with its budget, its space, or at what the device can do; the
untuned program is not measured."""

A_DAY_S = 86_400.0
"""A time budget that no search here exhausts."""


@contextlib.contextmanager
def opened(target: ResolvedTarget, folder: Path, mode: Literal["model", "hot", "cold"] = "hot") -> Iterator[Device]:
    """A device as `tuner run` opens it, with a build worker for every core. `folder` is scratch space."""
    measure = MeasureConfig(mode=mode)
    opening = Opening(target, measure, usable_threads(), folder, RUNS, silent())
    device = resolve.kind_of(target).open(opening)
    try:
        yield device
    finally:
        device.close()


@contextlib.contextmanager
def searching(device: TuningDevice, strategy: str, folder: Path) -> Iterator[Searcher]:
    """What makes the sessions of a search that knows nothing. Its records are `folder`/records.db."""
    config = SearchConfig(strategy=cast(Any, strategy))
    context = SearchContext(config, searched_passes(PassesConfig()), "experiment", "experiment", folder, silent())
    with SqlStore(f"sqlite:///{folder}/records.db") as store:
        yield Searcher(device, store, context)


def silent() -> Progress:
    """Progress that nobody sees."""
    return Progress(io.StringIO(), live=False)
