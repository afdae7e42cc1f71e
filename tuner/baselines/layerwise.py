"""A model whose layers are computed by PyTorch, each in a precision of its own: what narrower operands cost.

The model is compiled once, with a call of ours in place of each layer (`tuner.graph.layers`), so that layers can be
looked at one by one, and any mix of precisions be run, without compiling again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import tvm
from torch.nn import functional
from tvm import relax
from tvm.ir import Call
from tvm.target import Target

from tuner.baselines.torch import use_threads
from tuner.graph import clean
from tuner.graph.build import build_untuned
from tuner.graph.layers import is_layer
from tuner.graph.rewriter import Rewriter, op_name
from tuner.importers import load_spec
from tuner.precisions import FLOAT32, FLOATS, HEADROOM, INT8

Compute = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""A layer: from its data and weights to what it gives, in their type."""


class LayerwiseWorker:
    """A child's service for the model of `model_spec`, compiled for the TVM target `target` (its JSON), a CPU."""

    def __init__(self, model_spec: Mapping[str, Any], target: str, threads: int) -> None:
        use_threads(threads)
        self._model = load_spec(model_spec)
        self._target = target
        self._machine: Any = None
        self._layers: list[_Layer] = []

    def op_errors(self, inputs_npz_path: str, precision: str) -> list[float]:
        """For each layer the error, relative to what it gives in float64, that operands in one of FLOATS cost it: the
        root mean square over the stored inputs. 0 where it gives nothing but zeros, infinity where an operand is, but
        for HEADROOM, larger than what the type can hold."""
        machine = self._compiled()
        for layer in self._layers:
            layer.measured, layer.precision = [], precision
        machine["main"](*_stored(inputs_npz_path))
        errors = [layer.error for layer in self._layers]
        for layer in self._layers:
            layer.measured = None
        return errors

    def op_outputs(self, inputs_npz_path: str, path: str, precisions: Sequence[str]) -> None:
        """Write to `path` (.npz, in order) the outputs with each layer in the precision of its place: int8 with the
        ranges that `calibrate` has seen. Layers beyond the last place are in float32."""
        machine = self._compiled()
        for number, layer in enumerate(self._layers):
            layer.precision = precisions[number] if number < len(precisions) else FLOAT32
        result = machine["main"](*_stored(inputs_npz_path))
        outputs = [result] if hasattr(result, "numpy") else list(result)
        with open(path, "wb") as file:
            np.savez(file, *[output.numpy() for output in outputs])

    def op_calibrate(self, inputs_npz_path: str) -> None:
        """Widen the range of each layer's data by what it is on the stored inputs."""
        machine = self._compiled()
        for layer in self._layers:
            layer.precision, layer.calibrates = FLOAT32, True
        machine["main"](*_stored(inputs_npz_path))
        for layer in self._layers:
            layer.calibrates = False

    def _compiled(self) -> Any:
        if self._machine is None:
            import json

            calls = _Calls(clean(self._model.module))
            module = calls.run()
            self._layers = calls.layers
            executable = build_untuned(module, Target(json.loads(self._target)))
            self._machine = relax.VirtualMachine(executable, tvm.cpu())
        return self._machine


class _Layer:
    """One layer as a function that the compiled model calls. With `measured` it notes what its precision costs."""

    def __init__(self, compute: Compute, by_filter: bool) -> None:
        self._compute, self._by_filter = compute, by_filter
        self.precision = FLOAT32
        self.measured: list[tuple[float, float]] | None = None
        self.calibrates = False
        self._range = (0.0, 0.0)

    @property
    def error(self) -> float:
        wrong, right = (sum(column) for column in zip(*(self.measured or [(0.0, 1.0)]), strict=True))
        return float((wrong / right) ** 0.5) if right else float(wrong)

    def __call__(self, data: Any, weight: Any, out: Any) -> None:
        x, w = torch.from_numpy(data.numpy()), torch.from_numpy(weight.numpy())
        if self.measured is not None:
            right = self._compute(x.double(), w.double())
            self.measured.append((self._lost(x, w, right), float((right**2).sum())))
            out.copyfrom(right.float().numpy())
            return
        if self.calibrates:
            self._range = min(self._range[0], float(x.min())), max(self._range[1], float(x.max()))
        if self.precision in FLOATS:  # products of two are exact in float32
            x, w = self._rounded(x).float(), self._rounded(w).float()
        if self.precision == INT8:
            x, w = _in_steps(x, *self._range), self._weight_in_steps(w)
        out.copyfrom(self._compute(x, w).numpy())

    def _rounded(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(getattr(torch, self.precision))

    def _lost(self, x: torch.Tensor, w: torch.Tensor, right: torch.Tensor) -> float:
        """The sum of the squares of what operands in its precision are off by."""
        if HEADROOM * max(float(t.abs().amax()) for t in (x, w) if t.numel()) > FLOATS[self.precision].largest:
            return math.inf
        wrong = self._compute(self._rounded(x).double(), self._rounded(w).double())
        return float(((wrong - right) ** 2).sum())

    def _weight_in_steps(self, weight: torch.Tensor) -> torch.Tensor:
        """Rounded to 127 steps on each side of zero, by filter or by column."""
        axes = tuple(range(1, weight.dim())) if self._by_filter else (weight.dim() - 2,)
        scale = weight.abs().amax(axes, keepdim=True).clamp_min(1e-30) / 127
        return (weight / scale).round() * scale


def _in_steps(data: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Rounded to 255 steps of a range that holds zero."""
    scale = max(high - low, 1e-30) / 255
    zero = round(-low / scale)
    return ((data / scale).round().add(zero).clamp(0, 255) - zero) * scale


class _Calls(Rewriter):
    """Replaces layers by calls of `layers`, which are registered with TVM under names of their own."""

    def __init__(self, module: tvm.IRModule) -> None:
        super().__init__(module)
        self.layers: list[_Layer] = []

    def visit(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        if not is_layer(call):
            return super().visit(var, call, args)
        layer, name = _Layer(_compute(call), op_name(call) != "relax.matmul"), f"tuner.layer{len(self.layers)}"
        tvm.register_global_func(name, layer.__call__, override=True)
        self.layers.append(layer)
        operands = [self.materialize(a) for a in args]
        return self.emit(relax.op.call_dps_packed(name, operands, call.ty))


def _compute(call: Call) -> Compute:
    if op_name(call) == "relax.matmul":
        return lambda x, w: x @ w
    attrs, rank = call.attrs, len(call.args[0].ty.shape) - 2
    strides, dilation = ([int(v) for v in getattr(attrs, key)] for key in ("strides", "dilation"))
    padding = [int(v) for v in attrs.padding]
    begins, ends = (
        (padding[:rank], padding[rank:]) if len(padding) == 2 * rank else ([*padding] * rank, [*padding] * rank)
    )
    pads = [pad for pair in reversed(list(zip(begins[:rank], ends[:rank], strict=True))) for pad in pair]
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    groups = int(attrs.groups)

    def compute(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        torch._C._set_mkldnn_enabled(x.dtype == torch.float32)  # noqa: SLF001  no float64; the public switch warns
        try:
            return convolve(functional.pad(x, pads), w, None, strides, 0, dilation, groups)
        finally:
            torch._C._set_mkldnn_enabled(True)  # noqa: SLF001

    return compute


def _stored(path: str) -> list[Any]:
    with np.load(path, allow_pickle=False) as stored:
        return [tvm.runtime.tensor(stored[name]) for name in stored.files]
