"""TVM MetaSchedule's own tuner with its defaults, as it is compared with the searches of this program."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernels.metaschedule import meta_schedule

if TYPE_CHECKING:
    from kernels.workload import Workload
    from tuner.devices.target import ResolvedTarget

BATCH = 64
"""Trials of a round: TVM's default."""

_FAILED_S = 1e9
"""TVM's runner gives a candidate that failed 1e10 s."""


def quick_import() -> None:
    """What each build worker runs first: the slow import of tensor intrinsics, made quick."""
    meta_schedule()


def builder() -> Any:
    """TVM's builder on as many workers as there are cores, each of them with the quick import.

    Without it the builds of the first round time out on a small machine, and nothing is recorded. Workers import this
    module: the project must be in PYTHONPATH, as `common.run_script` puts it there.
    """
    workers = len(os.sched_getaffinity(0))
    return meta_schedule().builder.LocalBuilder(max_workers=workers, timeout_sec=90, initializer=quick_import)


def tune(
    workload: Workload,
    target: ResolvedTarget,
    trials: int,
    folder: Path,
    builder: Any,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Search one workload; TVM's database of what was measured. `callbacks` are called before TVM's own."""
    ms = meta_schedule()
    os.environ["TVM_NUM_THREADS"] = str(target.threads)
    return ms.tir_integration.tune_tir(
        mod=workload.module(), target=target.tvm(), work_dir=str(folder), max_trials_global=trials,
        num_trials_per_iter=min(BATCH, trials), builder=builder, seed=0,
        measure_callbacks=[*callbacks, *ms.measure_callback.MeasureCallback.create("default")],
    )  # fmt: skip


def median_s(run_secs: Sequence[Any] | None) -> float:
    """Seconds of one trial as TVM's runner gives them; NaN where it failed."""
    times = [float(seconds) for seconds in run_secs or ()]
    return statistics.median(times) if times and max(times) < _FAILED_S else math.nan
