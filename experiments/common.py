"""What scripts share: where the project is, scripts that are run as children, and references for kernels.

A script is run by its path, so it puts the project's folder into `sys.path` before it imports anything of the project.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernels.workload import Workload
    from tuner.devices.target import ResolvedTarget
    from tuner.protocols import Reference

ROOT = Path(__file__).resolve().parents[1]

_RESULT = "RESULT "


class ScriptFailed(Exception):
    """A script that was run as a child gave no result; the message is the end of its stderr."""


def run_script(script: str, arguments: Sequence[str], env: Mapping[str, str] | None = None) -> Any:
    """What a script passes to `give_result`, run in a fresh process. `env` is added to this process's.

    Raises ScriptFailed. A child that fails after it has given its result has not failed.
    """
    full_env = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, env=full_env)
    results = [line.removeprefix(_RESULT) for line in done.stdout.splitlines() if line.startswith(_RESULT)]
    if len(results) != 1:
        raise ScriptFailed(done.stderr.strip()[-2000:] or f"exit code {done.returncode}")
    return json.loads(results[0])


def give_result(result: object) -> None:
    """Hand a result, as JSON, to the process that called `run_script`."""
    print(_RESULT + json.dumps(result), flush=True)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def cpu_target(threads: int | None = None) -> ResolvedTarget:
    """This machine's CPU with so many threads; None: one for every core that this process may use."""
    from tuner.config import TargetConfig
    from tuner.devices.resolve import resolve

    return resolve(TargetConfig("llvm", threads))


def write_reference(workload: Workload, seed: int, path: Path) -> Reference:
    """What a workload must give on the inputs of a seed, evaluated independently of TVM, as a file."""
    import numpy as np

    from kernels.reference import evaluate, passing_sizes, reduction_length, rounding, working_dtype
    from kernels.tensors import seeded_inputs, storable
    from tuner.protocols import Reference

    function = workload.module()["main"]
    inputs = seeded_inputs(workload.inputs, seed)
    outputs = evaluate(function, inputs, workload.num_outputs)
    with open(path, "wb") as file:
        np.savez(file, *(storable(o.astype(spec.dtype)) for o, spec in zip(outputs, workload.outputs, strict=True)))
    slack = rounding(function, workload.num_outputs)
    passing = passing_sizes(function, inputs, outputs)
    return Reference(path, working_dtype(function), reduction_length(function), slack, passing)
