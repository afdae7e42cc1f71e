"""What may fail after a search, tried before it: the whole model is assembled, linked and run once without winners.

It also tells what the end of the run will take, and what is right.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from tuner.commands.prepare import RunContext
from tuner.commands.whole_model import assembled, export, to_run
from tuner.commands.within import Rehearsal
from tuner.devices.device import Device
from tuner.errors import InfrastructureError, ModelError, OutputError
from tuner.importers import input_sets
from tuner.measure import entries as benchmark
from tuner.measure.entries import EXACT, EXACT_WHOLE, TUNED
from tuner.measure.exact import EXACT_S, ExactRun
from tuner.models import ImportedModel
from tuner.process.worker import ChildDied, ChildError, ChildTimeout

if TYPE_CHECKING:
    from tuner.graph import Lowered


_EXACT_SHARE = 0.3
"""Of what is left of a total budget, the most that the float64 run may take."""

_ANSWER_SHARE = 0.15
"""The same for one start and call of the model with TVM's own kernels: the tuned ones need less."""


def rehearse(run: RunContext, device: Device, model: ImportedModel, graph: Lowered) -> Rehearsal:
    """Compile, link and call the model with TVM's own kernels, and compute it in float64, by which all is checked.

    Raises ModelError where it does not compile or run, and InfrastructureError where it cannot be linked: then no
    search would leave a model behind. A device that runs no models here has its model compiled only.
    """
    import tvm

    run.progress.phase("trying the whole model before the search")
    folder = run.work / "rehearsal"
    folder.mkdir()
    source = run.config.model.source
    began = time.monotonic()
    try:
        executables = assembled(model, graph, device.assembly, {})
    except (tvm.error.InternalError, RuntimeError, ValueError, TypeError) as error:
        reason = _last_line(error)
        raise ModelError(source, f"the whole model does not compile: {reason}", "nothing was searched") from error
    if not device.runs_models:
        return Rehearsal(time.monotonic() - began)
    try:
        export(model, graph, executables, folder, run.target, {}, device.assembly)
    except (OutputError, subprocess.SubprocessError) as error:
        raise InfrastructureError(
            f"the compiled model cannot be linked: {_last_line(error)}", "what is missing: python -m tuner doctor"
        ) from error
    put_together = time.monotonic()
    library = to_run(model, folder, device.assembly.form)
    specs = {entry.name: entry for entry in device.entries(model, {TUNED: library}, ())}
    seed = run.config.search.seed
    sets = [one.arrays for one in input_sets(model.inputs, model.model_spec, seed)]
    within_s = _ANSWER_SHARE * run.total.left_s
    spec = dataclasses.replace(specs[TUNED], prepare_s=min(specs[TUNED].prepare_s, within_s))
    try:
        benchmark.answer(spec, sets[0], folder, run.target.threads)
    except (ChildDied, ChildTimeout, ChildError) as error:
        if spec.prepare_s != within_s or not isinstance(error, ChildTimeout):
            raise ModelError(source, f"the compiled model fails: {str(error)[:300]}", "nothing was searched") from error
        run.notes.append(f"with TVM's own kernels the model was not ready within {within_s:.0f} s")
    answer_s = time.monotonic() - put_together
    shutil.rmtree(folder, ignore_errors=True)
    exact = {}
    for name in [name for name in (EXACT, EXACT_WHOLE) if name in specs]:
        folder = run.work / name
        folder.mkdir()
        exact[name] = ExactRun(specs[name], sets, folder, run.target.threads, run.interrupted)
        exact[name].compute(min(2 * EXACT_S, _EXACT_SHARE * run.total.left_s))
    return Rehearsal(put_together - began, answer_s, exact.get(EXACT), exact.get(EXACT_WHOLE))


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(error).__name__
