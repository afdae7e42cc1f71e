"""PyTorch as a baseline: eager, eager in channels_last, and torch.compile with frozen weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tuner.baselines.packages import missing, version_of

if TYPE_CHECKING:
    import torch

    from tuner.protocols import Array

TorchSource = Callable[[Mapping[str, Any]], tuple[Any, Sequence[Any]]]
"""From a model spec to (module, example inputs). Only the module is used: inputs come with `prepare`."""


def use_threads(threads: int) -> None:
    """Operators run on `threads` threads, and one operator at a time. For a process of the baseline's own."""
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:  # PyTorch refuses to be told twice
        torch.set_num_interop_threads(1)


@dataclass(frozen=True)
class TorchEager:
    """The module as it is, in evaluation mode."""

    source: TorchSource
    name: ClassVar[str] = "torch"
    how: ClassVar[str] = "eager, NCHW, inference mode"
    guard: ClassVar[str] = "inference_mode"

    @property
    def settings(self) -> str:
        return f"PyTorch {version_of('torch')}, {self.how}"

    def unavailable(self) -> str | None:
        return missing("torch", "torch")

    def load(self, model_spec: Mapping[str, Any], threads: int) -> LoadedTorch:
        """The module, ready to be prepared. Sets the process's thread counts."""
        use_threads(threads)
        module, _ = self.source(model_spec)
        return LoadedTorch(self.name, module.eval(), self._finish, self.guard)

    def _finish(self, module: Any, inputs: list[torch.Tensor]) -> tuple[Callable[..., Any], list[torch.Tensor]]:
        """What is called, and with what."""
        return module, inputs


class TorchChannelsLast(TorchEager):
    """Weights and images in NHWC order, which oneDNN's convolutions prefer on many CPUs."""

    name: ClassVar[str] = "torch_channels_last"
    how: ClassVar[str] = "eager, channels_last, inference mode"

    def _finish(self, module: Any, inputs: list[torch.Tensor]) -> tuple[Callable[..., Any], list[torch.Tensor]]:
        import torch

        images = [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in inputs]
        return module.to(memory_format=torch.channels_last), images


class TorchCompile(TorchEager):
    """Inductor with frozen weights: constants folded and packed for oneDNN ahead of the first call."""

    name: ClassVar[str] = "torch_compile"
    how: ClassVar[str] = "torch.compile (inductor, freezing=True), no_grad"
    guard: ClassVar[str] = "no_grad"  # freezing asks for it
    mode: ClassVar[str] = "default"

    def unavailable(self) -> str | None:
        compiler = os.environ.get("CXX", "g++")  # inductor's own rule
        if shutil.which(compiler) is None:
            return f"torch.compile needs a C++ compiler, and {compiler!r} is not on the path"
        return super().unavailable()

    def _finish(self, module: Any, inputs: list[torch.Tensor]) -> tuple[Callable[..., Any], list[torch.Tensor]]:
        import torch
        from torch._inductor import config

        config.freezing = True
        return torch.compile(module, dynamic=False, mode=self.mode), inputs


class TorchMaxAutotune(TorchCompile):
    """As `TorchCompile`, and inductor times its own products against oneDNN's while it compiles."""

    name: ClassVar[str] = "torch_max_autotune"
    how: ClassVar[str] = "torch.compile (inductor, freezing=True, max-autotune), no_grad"
    mode: ClassVar[str] = "max-autotune-no-cudagraphs"  # on a CPU the same as max-autotune, without a warning


class TorchBfloat16(TorchEager):
    """Weights and activations in bfloat16; images in NHWC order. Outputs are widened to float32."""

    name: ClassVar[str] = "torch_bf16"
    how: ClassVar[str] = "eager, bfloat16, channels_last, inference mode"

    def _finish(self, module: Any, inputs: list[torch.Tensor]) -> tuple[Callable[..., Any], list[torch.Tensor]]:
        return _in_bfloat16(module, inputs)


class TorchCompileBfloat16(TorchCompile):
    """The same, compiled."""

    name: ClassVar[str] = "torch_compile_bf16"
    how: ClassVar[str] = "torch.compile (inductor, freezing=True), bfloat16, channels_last, no_grad"

    def _finish(self, module: Any, inputs: list[torch.Tensor]) -> tuple[Callable[..., Any], list[torch.Tensor]]:
        function, narrow = _in_bfloat16(module, inputs)
        return super()._finish(function, narrow)


def _in_bfloat16(module: Any, inputs: list[torch.Tensor]) -> tuple[Any, list[torch.Tensor]]:
    import torch

    narrow = [t.bfloat16() if t.is_floating_point() else t for t in inputs]
    images = [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in narrow]
    return module.bfloat16().to(memory_format=torch.channels_last), images


@dataclass(frozen=True)
class LoadedTorch:
    """A Launchable. `finish` gives the callable and its inputs their final form; `guard` names the context of
    `torch` in which it is called."""

    key: str
    module: Any
    finish: Callable[[Any, list[torch.Tensor]], tuple[Callable[..., Any], list[torch.Tensor]]]
    guard: str

    def prepare(self, inputs: Sequence[Array]) -> PreparedTorch:
        """`inputs` are the module's positional arguments; they are copied."""
        import torch

        tensors = [torch.from_numpy(np.array(array)) for array in inputs]
        function, tensors = self.finish(self.module, tensors)
        return PreparedTorch(function, tensors, getattr(torch, self.guard))


class PreparedTorch:
    """A Prepared: a callable and its tensors. `guard` makes the context that switches gradients off."""

    def __init__(self, function: Callable[..., Any], inputs: Sequence[torch.Tensor], guard: Callable[[], Any]) -> None:
        self._function = function
        self._inputs = inputs
        self._guard = guard
        self._result: Any = None

    def launch(self, count: int) -> None:
        function, inputs = self._function, self._inputs
        with self._guard():
            for _ in range(count):
                self._result = function(*inputs)

    def outputs(self) -> list[Array]:
        return [np.array(known_to_numpy(tensor.detach()).numpy(), order="C") for tensor in flatten(self._result)]


def known_to_numpy(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor; bfloat16, which numpy has not, as float32."""
    import torch

    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def flatten(result: Any) -> list[torch.Tensor]:
    """The tensors of what a module returned (a tensor, or tuples, lists and mappings of them), in order."""
    import torch

    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, Mapping):
        return [tensor for value in result.values() for tensor in flatten(value)]
    if isinstance(result, (tuple, list)):
        return [tensor for value in result for tensor in flatten(value)]
    return []
