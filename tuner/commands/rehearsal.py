"""What may fail after a search, tried before it: the whole model is assembled, linked and run once without winners.

It also tells what the end of the run will take, and what is right.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.commands.prepare import RunContext
from tuner.devices.device import Device
from tuner.errors import InfrastructureError, ModelError
from tuner.importers import model_inputs
from tuner.measure import entries as benchmark
from tuner.measure.entries import EXACT, TUNED
from tuner.measure.exact import EXACT_S, ExactRun
from tuner.process.worker import ChildDied, ChildError, ChildTimeout
from tuner.protocols import ImportedModel

if TYPE_CHECKING:
    from tuner.graph import Lowered


_EXACT_SHARE = 0.3
"""Of what is left of a total budget, the most that the float64 run may take."""

_ANSWER_SHARE = 0.15
"""The same for one start and call of the model with TVM's own kernels: the tuned ones need less."""

_REPORT_S = 3.0
"""To write summary, report and export."""


@dataclass(frozen=True)
class Rehearsal:
    """What the end of the run needs, as it was measured before the search. Seconds; `exact` is the float64 run of the
    model, where there is hardware to run models on."""

    assemble_s: float
    answer_s: float = 0.0
    exact: ExactRun | None = None

    @property
    def verifying_s(self) -> float:
        """The model is started and called for two sets of inputs, and what it gives is written."""
        return 2.0 * self.answer_s + _REPORT_S

    @property
    def end_s(self) -> float:
        """What cannot be left out: putting the model together, verifying and writing it."""
        return self.assemble_s + self.verifying_s


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
        executable = device.assembly.assemble(graph, {})
    except (tvm.error.InternalError, RuntimeError, ValueError, TypeError) as error:
        reason = _last_line(error)
        raise ModelError(source, f"the whole model does not compile: {reason}", "nothing was searched") from error
    if not device.runs_models:
        return Rehearsal(time.monotonic() - began)
    library = folder / "model.so"
    try:
        executable.export_library(str(library))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise InfrastructureError(
            f"the compiled model cannot be linked: {_last_line(error)}", "what is missing: python -m tuner doctor"
        ) from error
    assembled = time.monotonic()
    specs = {entry.name: entry for entry in device.entries(model, {TUNED: library}, ())}
    seed = run.config.search.seed
    sets = [model_inputs(model.inputs, model.model_spec, seed + more) for more in (0, 1)]
    within_s = _ANSWER_SHARE * run.total.left_s
    spec = dataclasses.replace(specs[TUNED], prepare_s=min(specs[TUNED].prepare_s, within_s))
    try:
        benchmark.answer(spec, sets[0], folder, run.target.threads)
    except (ChildDied, ChildTimeout, ChildError) as error:
        if spec.prepare_s != within_s or not isinstance(error, ChildTimeout):
            raise ModelError(source, f"the compiled model fails: {str(error)[:300]}", "nothing was searched") from error
        run.notes.append(f"with TVM's own kernels the model was not ready within {within_s:.0f} s")
    answer_s = time.monotonic() - assembled
    shutil.rmtree(folder, ignore_errors=True)
    exact = None
    if EXACT in specs:
        exact = ExactRun(specs[EXACT], sets, run.work, run.target.threads, run.interrupted)
        exact.compute(min(2 * EXACT_S, _EXACT_SHARE * run.total.left_s))
    return Rehearsal(assembled - began, answer_s, exact)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(error).__name__
