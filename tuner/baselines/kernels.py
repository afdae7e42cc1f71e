"""PyTorch on one kernel's operator: what a framework needs for the work that a tuned kernel does."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.baselines.torch import PreparedTorch, use_threads
from tuner.baselines.worker import named
from tuner.process.pinning import pin_workers
from tuner.protocols import Policy, Runner
from tuner.records import Fidelity

if TYPE_CHECKING:
    import torch

    from tuner.protocols import Array

_UNARY = ("relu", "sigmoid", "tanh")  # torch has each in place as `<name>_`
_LAYOUT_ONLY = ("pack", "unpack")  # moves data between packed layouts: PyTorch's output is already plain


@dataclass(frozen=True)
class OperatorCall:
    """A Launchable: one operator with its epilogue on the inputs it is prepared with.

    `inputs` are the operator's two operands, then what each `add` adds: a bias when it comes first (after a folded
    batch norm it does), a full tensor otherwise.
    """

    key: str
    origin: Mapping[str, Any]
    channels_last: bool = False

    def prepare(self, inputs: Sequence[Array]) -> PreparedTorch:
        import torch

        tensors = [torch.from_numpy(np.array(array)) for array in inputs]
        if self.channels_last:
            tensors = [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in tensors]
        return PreparedTorch(operator(self.origin), tensors, torch.inference_mode)


class KernelBaselineWorker:
    """A child's service. `runner` is `module:Class` of the Runner that times everything else, too."""

    def __init__(self, threads: int, runner: str) -> None:
        use_threads(threads)
        self._threads = threads
        self._pinned = False
        self._runner: Runner = named(runner)()

    def op_time(self, origin: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, Any] | None:
        """`{name, samples_s}` of the faster layout, or None where PyTorch has no counterpart.

        `origin` is `Workload.origin`; `policy` has the fields of `Policy`.
        """
        shapes = operand_shapes(origin)
        if shapes is None:
            return None
        rng = np.random.default_rng(0)
        inputs: list[Array] = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
        timing_policy = Policy(**{**policy, "fidelity": Fidelity(policy["fidelity"]), "give_up_above_s": None})
        calls = [OperatorCall("torch", origin)]
        if origin["op"] == "conv2d":
            calls.append(OperatorCall("torch_channels_last", origin, channels_last=True))
        if not self._pinned:
            sample = calls[0].prepare(inputs)
            sample.launch(1)
            self._pinned = pin_workers(lambda: sample.launch(20), self._threads)
        timed = [(call.key, self._runner.run(call, inputs, timing_policy).samples_s) for call in calls]
        name, samples = min(timed, key=lambda entry: statistics.median(entry[1]))
        return {"name": name, "samples_s": list(samples)}


def operator(origin: Mapping[str, Any]) -> Callable[..., torch.Tensor]:
    """The operator with its epilogue, to be called with tensors of `operand_shapes(origin)`."""
    main = _conv2d(origin) if origin["op"] == "conv2d" else _matmul
    return _with_epilogue(main, origin.get("epilogue", []))


def operand_shapes(origin: Mapping[str, Any]) -> list[tuple[int, ...]] | None:
    """Shapes of an operator's inputs: operands, then addends in order; None when `origin` is empty or unknown."""
    epilogue = origin.get("epilogue", [])
    if any(op != "add" and op not in _UNARY + _LAYOUT_ONLY for op in epilogue):
        return None
    if origin.get("op") == "conv2d":
        operands, bias, result = [origin["data"], origin["weight"]], (origin["weight"][0],), _conv_shape(origin)
    elif origin.get("op") == "matmul":
        a, b = origin["a"], origin["b"]
        batch = np.broadcast_shapes(tuple(a[:-2]), tuple(b[:-2]))
        operands, bias, result = [a, b], (b[-1],), (*batch, a[-2], b[-1])
    else:
        return None
    biased, steps = _split(epilogue)
    return [tuple(shape) for shape in operands] + [bias] * biased + [result] * steps.count("add")


def _conv_shape(origin: Mapping[str, Any]) -> tuple[int, ...]:
    (n, _, h, w), (o, _, kh, kw) = origin["data"], origin["weight"]
    top, left, bottom, right = origin["padding"]
    (sh, sw), (dh, dw) = origin["strides"], origin["dilation"]
    height = (h + top + bottom - dh * (kh - 1) - 1) // sh + 1
    width = (w + left + right - dw * (kw - 1) - 1) // sw + 1
    return n, o, height, width


def _conv2d(origin: Mapping[str, Any]) -> Callable[..., torch.Tensor]:
    from torch.nn import functional

    top, left, bottom, right = origin["padding"]
    symmetric = (top, left) == (bottom, right)
    padding = (top, left) if symmetric else (0, 0)
    stride, dilation, groups = tuple(origin["strides"]), tuple(origin["dilation"]), origin["groups"]

    def call(data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if not symmetric:
            data = functional.pad(data, (left, right, top, bottom))
        return functional.conv2d(data, weight, bias, stride, padding, dilation, groups)

    return call


def _matmul(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    import torch

    if bias is None:
        return torch.matmul(a, b)
    if a.dim() == b.dim() == 2:
        return torch.addmm(bias, a, b)
    return torch.matmul(a, b).add_(bias)


def _with_epilogue(main: Callable[..., torch.Tensor], epilogue: Sequence[str]) -> Callable[..., torch.Tensor]:
    """The operator, its bias inside it, then the rest in place on the fresh result, as a careful user would."""
    biased, steps = _split(epilogue)

    def call(a: torch.Tensor, b: torch.Tensor, *addends: torch.Tensor) -> torch.Tensor:
        remaining = iter(addends)
        value = main(a, b, next(remaining) if biased else None)
        for op in steps:
            value = value.add_(next(remaining)) if op == "add" else getattr(value, f"{op}_")()
        return value

    return call


def _split(epilogue: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether it begins with a bias, and the steps that remain."""
    steps = [op for op in epilogue if op not in _LAYOUT_ONLY]
    biased = steps[:1] == ["add"]
    return biased, steps[biased:]
