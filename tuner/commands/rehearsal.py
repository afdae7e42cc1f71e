"""What may fail after a search, tried before it: the whole model is assembled, linked and run once without winners."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tuner.commands.prepare import RunContext
from tuner.commands.whole_model import assembled, export, to_run
from tuner.devices.device import Device
from tuner.errors import InfrastructureError, ModelError, OutputError
from tuner.importers import model_inputs
from tuner.measure import models
from tuner.measure.models import TUNED
from tuner.protocols import ImportedModel

if TYPE_CHECKING:
    from tuner.graph import Lowered


def rehearse(run: RunContext, device: Device, model: ImportedModel, graph: Lowered) -> None:
    """Compile, link and call the model with TVM's own kernels.

    Raises ModelError where it does not compile or run, and InfrastructureError where it cannot be linked: then no
    search would leave a model behind. A device that runs no models here has its model compiled only.
    """
    import tvm

    run.progress.phase("trying the whole model before the search")
    folder = run.work / "rehearsal"
    folder.mkdir()
    source = run.config.model.source
    try:
        executables = assembled(model, graph, device.assembly, {})
    except (tvm.error.InternalError, RuntimeError, ValueError, TypeError) as error:
        reason = _last_line(error)
        raise ModelError(source, f"the whole model does not compile: {reason}", "nothing was searched") from error
    if device.runs_models:
        try:
            export(model, graph, executables, folder, run.target, {}, device.assembly)
        except (OutputError, subprocess.SubprocessError) as error:
            raise InfrastructureError(
                f"the compiled model cannot be linked: {_last_line(error)}", "what is missing: python -m tuner doctor"
            ) from error
        entry = next(
            e
            for e in device.entries(model, {TUNED: to_run(model, folder, device.assembly.form)}, ())
            if e.name == TUNED
        )
        inputs = model_inputs(model.inputs, model.model_spec, run.config.search.seed)
        answer = models.answer_once(entry, inputs, folder, run.target.threads)
        if isinstance(answer, str):
            raise ModelError(source, f"the compiled model fails: {answer[:300]}", "nothing was searched")
    shutil.rmtree(folder, ignore_errors=True)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(error).__name__
