"""What runs in children: kernels and PyTorch's operators, called as whole models are, and a compiler."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from experiments.search.tasks import torch_forms, workload
from kernels.tensors import seeded_inputs
from tuner.devices.cpu.codegen import linker
from tuner.devices.cpu.kernel_service import KernelLibrary
from tuner.measure.model_service import ModelWorker
from tuner.process.pinning import pin_while_calling
from tuner.protocols import Array

SEED = 1
"""Of the inputs on which final kernels are compared; the searches have seed 0."""


class KernelWorker(ModelWorker):
    """A built kernel of a task on seeded inputs."""

    def __init__(self, task: str, path: str, entry: str, threads: int) -> None:
        super().__init__()
        known = workload(task)
        prepared = KernelLibrary(path, entry, known.outputs).prepare(seeded_inputs(known.inputs, SEED))
        prepared.launch(1)
        pin_while_calling(prepared.launch, threads)
        self._prepared = prepared


class TorchWorker(ModelWorker):
    """PyTorch on a task's operator in one of its forms."""

    def __init__(self, task: str, form: str, threads: int) -> None:
        import torch

        super().__init__()
        torch.set_num_threads(threads)
        prepared = _TorchCall(torch_forms(task)[form]())
        prepared.launch(1)
        pin_while_calling(prepared.launch, threads)
        self._prepared = prepared


class _TorchCall:
    """Implements `protocols.Prepared`."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def launch(self, count: int) -> None:
        import torch

        with torch.inference_mode():
            for _ in range(count):
                self._call()

    def outputs(self) -> list[Array]:
        raise NotImplementedError("PyTorch's outputs are not compared here: its inputs are its own")


class ModuleCompiler:
    """Compiles scheduled modules, given as TVM's JSON, as MetaSchedule's own builder does."""

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
        compiled = self._folder / f"{name}.o"
        library.mod.write_to_file(str(compiled))
        shared = compiled.with_suffix(".so")
        subprocess.run([*linker(), "-o", str(shared), str(compiled)], check=True, capture_output=True, timeout=60)
        return str(shared)
