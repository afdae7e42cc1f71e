"""PyTorch on a GPU as a baseline: cuDNN and cuBLAS in each layout and math mode, torch.compile, CUDA graphs.

Timed by the same runner as tuned kernels: everything is enqueued on the default stream of the primary context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.baselines.torch import flatten, known_to_numpy
from tuner.precisions import BFLOAT16, FLOAT16

if TYPE_CHECKING:
    import torch

    from tuner.protocols import Array


@dataclass(frozen=True)
class Setting:
    """One way to run PyTorch on a GPU. `tf32`: whether float32 may be rounded to TF32 on tensor cores. `dtype`: what
    weights and activations are converted to; "" where they stay as they are."""

    name: str
    channels_last: bool = False
    tf32: bool = False
    compiled: bool = False
    graph: bool = False
    dtype: str = ""

    @property
    def words(self) -> str:
        """The setting in words, for the report."""
        parts = ["torch.compile max-autotune" if self.compiled else "eager, cudnn.benchmark"]
        parts.append("channels_last" if self.channels_last else "NCHW")
        parts.append(self.dtype or ("TF32 allowed" if self.tf32 else "IEEE float32"))
        return ", ".join([*parts, "one CUDA graph"] if self.graph else parts)


KERNEL_SETTINGS = (
    Setting("cudnn"),
    Setting("cudnn_channels_last", channels_last=True),
    Setting("cudnn_tf32", tf32=True),
    Setting("cudnn_channels_last_tf32", channels_last=True, tf32=True),
)
"""For single operators; matrix products run in cuBLAS."""

MODEL_SETTINGS = (
    Setting("torch"),
    Setting("torch_channels_last", channels_last=True),
    Setting("torch_graph", channels_last=True, graph=True),
    Setting("torch_compile", compiled=True),
    Setting("torch_compile_channels_last", compiled=True, channels_last=True),
    Setting("torch_channels_last_tf32", channels_last=True, tf32=True),
    Setting("torch_graph_tf32", channels_last=True, graph=True, tf32=True),
    *(
        setting
        for short, dtype in (("fp16", FLOAT16), ("bf16", BFLOAT16))
        for setting in (
            Setting(f"torch_{short}", channels_last=True, dtype=dtype),
            Setting(f"torch_graph_{short}", channels_last=True, graph=True, dtype=dtype),
            Setting(f"torch_compile_{short}", channels_last=True, compiled=True, dtype=dtype),
        )
    ),
)
"""For whole models. Those with a dtype stand beside a model whose layers compute in it."""


def apply(setting: Setting) -> None:
    """Set this process's math modes. `cudnn.benchmark` lets cuDNN try its algorithms in the untimed calls."""
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = setting.tf32
    torch.backends.cuda.matmul.allow_tf32 = setting.tf32
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = True


@dataclass(frozen=True)
class TorchOnGpu:
    """Implements `runner.GpuLaunchable`: a function of tensors, an operator or a whole module."""

    setting: Setting
    function: Callable[..., Any]

    def prepare(self, inputs: Sequence[Array]) -> EnqueuedTorch:
        apply(self.setting)
        function = self.function
        if self.setting.dtype and hasattr(function, "to"):
            import torch

            function = function.to(getattr(torch, self.setting.dtype))
        if self.setting.channels_last and hasattr(function, "to"):
            import torch

            function = function.to(memory_format=torch.channels_last)
        if self.setting.compiled:
            import torch

            function = torch.compile(function, mode="max-autotune", dynamic=False)
        return EnqueuedTorch(self.setting, function, inputs)


class EnqueuedTorch:
    """Implements `runner.GpuPrepared`. With CUDA graphs every copy has one of its own, run on the current stream."""

    def __init__(self, setting: Setting, function: Callable[..., Any], inputs: Sequence[Array]) -> None:
        self._setting = setting
        self._function = function
        self._arrays = list(inputs)
        self._tensors: list[list[torch.Tensor]] = []
        self._graphs: list[Any] = []
        self._result: Any = None
        self.copies(1)

    @property
    def nbytes(self) -> int:
        """Of inputs and outputs."""
        import torch

        outputs = [t for t in flatten(self._result) if isinstance(t, torch.Tensor)]
        return sum(a.nbytes for a in self._arrays) + sum(t.numel() * t.element_size() for t in outputs)

    def copies(self, count: int) -> None:
        import torch

        while len(self._tensors) < count:
            tensors = [torch.from_numpy(np.array(array)).cuda() for array in self._arrays]
            if dtype := self._setting.dtype:
                tensors = [t.to(getattr(torch, dtype)) if t.is_floating_point() else t for t in tensors]
            if self._setting.channels_last:
                tensors = [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in tensors]
            self._tensors.append(tensors)
            if self._setting.graph:
                self._graphs.append(self._captured(tensors))

    def enqueue(self, copy: int) -> None:
        import torch

        if self._graphs:
            self._graphs[copy].replay()
            return
        with torch.inference_mode():
            self._result = self._function(*self._tensors[copy])

    def outputs(self) -> list[Array]:
        tensors = [known_to_numpy(tensor.detach().cpu()) for tensor in flatten(self._result)]
        return [np.ascontiguousarray(tensor.numpy()) for tensor in tensors]

    def _captured(self, tensors: Sequence[torch.Tensor]) -> Any:
        """A CUDA graph of one call, after warm-up calls on another stream, as PyTorch's documentation asks."""
        import torch

        cuda: Any = torch.cuda  # parts of it are untyped
        other = cuda.Stream()
        other.wait_stream(cuda.current_stream())
        with cuda.stream(other), torch.inference_mode():
            for _ in range(3):
                self._result = self._function(*tensors)
        cuda.current_stream().wait_stream(other)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph), torch.inference_mode():
            self._result = self._function(*tensors)
        return graph


def launchables(
    function: Callable[..., Any], settings: Sequence[Setting], half: bool = False
) -> Iterator[tuple[Setting, TorchOnGpu]]:
    """Each setting that means something for the precision: TF32 is a mode of float32."""
    for setting in settings:
        if not (half and setting.tf32):
            yield setting, TorchOnGpu(setting, function)


def operator_inputs(origin: Mapping[str, Any], dtype: str, seed: int = 0) -> list[Array] | None:
    """Seeded N(0, 1) operands of an operator, or None where PyTorch has no counterpart."""
    from tuner.baselines.kernels import operand_shapes

    shapes = operand_shapes(origin)
    if shapes is None:
        return None
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, dtype=np.float32).astype(dtype) for shape in shapes]
