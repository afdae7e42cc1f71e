"""The model worker of a model that this program compiled. It offers the same operations as that of a baseline."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.measure.model_service import ModelWorker
from tuner.process.pinning import pin_workers

if TYPE_CHECKING:
    from tuner.protocols import Array


class CompiledModelWorker(ModelWorker):
    """Runs a library made by relax with `threads` threads, pinned, on the CPU or on "cuda".

    On "cuda" a call ends when the GPU has finished, and the settings say how much GPU memory the model holds.
    """

    def __init__(self, library: str, threads: int, device: str = "cpu") -> None:
        super().__init__()
        self._library = library
        self._threads = threads
        self._device = device

    def op_prepare(self, inputs_npz_path: str) -> dict[str, Any]:
        """Load the library and call it on the stored inputs; returns {"settings": in words, "load_s": seconds until the
        first call has ended, without the import of TVM}."""
        import tvm  # noqa: F401 - so that loading does not import it
        from tvm import relax  # noqa: F401

        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            inputs = [stored[name] for name in stored.files]
        began = time.perf_counter()
        prepared = Loaded(self._library, inputs, self._device)
        prepared.launch(1)
        load_s = time.perf_counter() - began
        self._prepared = prepared
        if self._device == "cpu":
            pin_workers(lambda: prepared.launch(1), self._threads)
            return {"settings": f"{prepared.runtime}, {self._threads} threads", "load_s": load_s}
        prepared.launch(1)
        how = f"relax VM, static memory plan, CUDA graph; holds {prepared.held_bytes() >> 20} MiB"
        return {"settings": how, "load_s": load_s}


class Loaded:
    """A model's library with its inputs, for TVM's virtual machine or static. Implements `protocols.Prepared`.

    `runtime` names which. Inputs that are tensors of TVM already are not copied: what is written to them later counts.
    `outputs` are tensors for the static runtime to write to.
    """

    def __init__(
        self, library: str, inputs: Sequence[Any], device: str = "cpu", outputs: Sequence[Any] | None = None
    ) -> None:
        import tvm
        from tvm import relax

        self._device = tvm.device(device, 0)
        self._free = None if device == "cpu" else self._device.available_global_memory
        self._inputs = [i if isinstance(i, tvm.runtime.Tensor) else tvm.runtime.tensor(i, self._device) for i in inputs]
        self._result: Any = None
        module = tvm.runtime.load_module(library)
        if module.implements_function("tuner_run"):
            self.runtime = "static runtime"
            made = (
                [tvm.runtime.empty(shape, dtype) for shape, dtype in static_outputs(module)] if outputs is None else ()
            )
            self._result = list(outputs or made)
            self._call = functools.partial(module["tuner_run"], *self._inputs, *self._result)
        else:
            self.runtime = "relax VM"
            self._machine = relax.VirtualMachine(module, self._device)
            self._call = functools.partial(self._machine["main"], *self._inputs)

    def launch(self, count: int) -> None:
        for _ in range(count):
            result = self._call()
            self._result = self._result if result is None else result
            if self._free is not None:
                self._device.sync()

    def held_bytes(self) -> int:
        """Bytes of GPU memory that it took since before it was loaded; 0 where the driver does not say."""
        now = self._device.available_global_memory
        return max(self._free - now, 0) if self._free is not None and now is not None else 0

    @property
    def results(self) -> list[Any]:
        """The tensors of the last call. The static runtime has them from the start, and writes to them again."""
        if self._result is None:
            return []
        return [self._result] if hasattr(self._result, "numpy") else list(self._result)

    def outputs(self) -> list[Array]:
        return [result.numpy() for result in self.results]


def static_outputs(module: Any) -> list[tuple[tuple[int, ...], str]]:
    """The shapes and dtypes of the outputs of a static model (`tuner.devices.cpu.static_model`)."""
    describe = module["tuner_output"]
    kinds = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool"}
    outputs = []
    for output in range(describe(-1, 0)):
        code, bits = divmod(describe(output, -2), 256)
        shape = tuple(describe(output, axis) for axis in range(describe(output, -1)))
        outputs.append((shape, kinds[code] + (str(bits) if kinds[code] != "bool" else "")))
    return outputs
