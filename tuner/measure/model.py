"""The child that runs a whole compiled model: speaks the same operations as a baseline's host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.hosting import Hosting
from tuner.pinning import pin_workers

if TYPE_CHECKING:
    from tuner.protocols import Array


class ModelHost(Hosting):
    """A library made by relax, in a process with the model's thread count. See `baselines.host.Host`."""

    def __init__(self, library: str, threads: int) -> None:
        super().__init__()
        self._library = library
        self._threads = threads

    def op_prepare(self, inputs_npz_path: str) -> dict[str, str]:
        """Load the library and call it once on the stored inputs."""
        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            prepared = _Loaded(self._library, [stored[name] for name in stored.files])
        pin_workers(lambda: prepared.launch(1), self._threads)
        self._prepared = prepared
        return {"settings": f"relax VM, {self._threads} threads"}


class _Loaded:
    """A relax library with its inputs. Implements `protocols.Prepared`."""

    def __init__(self, library: str, inputs: Sequence[Array]) -> None:
        import tvm
        from tvm import relax

        self._inputs = [tvm.runtime.tensor(array) for array in inputs]
        self._machine = relax.VirtualMachine(tvm.runtime.load_module(library), tvm.cpu())
        self._main = self._machine["main"]
        self._result: Any = None

    def launch(self, count: int) -> None:
        for _ in range(count):
            self._result = self._main(*self._inputs)

    def outputs(self) -> list[Array]:
        results = [self._result] if hasattr(self._result, "numpy") else list(self._result)
        return [result.numpy() for result in results]
