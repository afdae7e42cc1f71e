"""What runs in children: a kernel or a PyTorch operator ready to be called by the contest's rules, and a compiler."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np

from kernels.workload import seeded_inputs
from tuner.devices.builder import linker
from tuner.devices.cpu.bench import KernelLibrary
from tuner.process.pinning import pin_while_calling
from tuner.protocols import IDLE_S, LONG_CALL_S

SEED = 1
"""Of the inputs of the finals; the searches use another."""


class _Host:
    """Blocks of calls, as `tuner.measure.comparison` wants them."""

    _idle_since = -1.0
    _call_s = 0.0

    def _launch(self, count: int) -> None:
        raise NotImplementedError

    def op_block(self, count: int) -> float:
        if time.perf_counter() - self._idle_since > IDLE_S and self._call_s < LONG_CALL_S:
            self._launch(1)
        start = time.perf_counter()
        self._launch(count)
        self._idle_since = time.perf_counter()
        self._call_s = (self._idle_since - start) / count
        return self._idle_since - start


class KernelBaselineWorker(_Host):
    """A built kernel of a task on seeded inputs, its outputs full of NaN before the first call."""

    def __init__(self, task: str, path: str, entry: str, threads: int) -> None:
        from experiments.search.tasks import workload

        made = workload(task)
        library = KernelLibrary(path, entry, made.outputs)
        self._prepared = library.prepare(seeded_inputs(made.inputs, SEED))
        self._launch(1)
        pin_while_calling(self._launch, threads)

    def _launch(self, count: int) -> None:
        self._prepared.launch(count)

    def op_outputs(self, path: str) -> int:
        outputs = self._prepared.outputs()
        with open(path, "wb") as file:
            np.savez(file, *outputs)
        return len(outputs)


class TorchHost(_Host):
    """PyTorch on a task's operator in one of its forms."""

    def __init__(self, task: str, form: str, threads: int) -> None:
        import torch

        from experiments.search.tasks import torch_forms

        torch.set_num_threads(threads)
        self._torch = torch
        self._call = torch_forms(task)[form]()
        self._launch(1)
        pin_while_calling(self._launch, threads)

    def _launch(self, count: int) -> None:
        with self._torch.inference_mode():
            for _ in range(count):
                self._call()


class ModuleCompiler:
    """Compiles scheduled modules, given as TVM's JSON, the way MetaSchedule's own builder does."""

    def __init__(self, target: str, folder: str) -> None:
        self._target = target
        self._folder = Path(folder)

    def op_compile(self, module: str, name: str) -> str:
        """The path of a shared library with the entry `main`."""
        import tvm
        from tvm.target import Target

        target = Target(json.loads(self._target))
        with target, tvm.transform.PassContext(opt_level=3):
            library = tvm.compile(tvm.ir.load_json(module), target=target)
        made = self._folder / f"{name}.o"
        library.mod.write_to_file(str(made))
        shared = made.with_suffix(".so")
        subprocess.run([*linker(), "-o", str(shared), str(made)], check=True, capture_output=True, timeout=60)
        return str(shared)
