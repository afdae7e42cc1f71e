"""The whole model in float64, and how far rounding in the model's own precision moves its outputs.

Every operator of the PyTorch form is computed in float64, whatever precision the model asks for. How much error is to
be expected of a right implementation is sampled: the same run with each operand of each operator off by a random
relative error of the size of one rounding. That is Monte Carlo arithmetic (Parker, *Monte Carlo Arithmetic*, 1997);
it sees cancellation, depth and saturation, which no fixed tolerance does. Convolutions that Winograd's F(6x6) may
compute get more, and functions that pass by the number one get a part of its rounding: these are right, too.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from tuner.baselines.torch import use_threads
from tuner.baselines.worker import named
from tuner.importers.pytorch.decompositions import GROUPED
from tuner.importers.pytorch.flex import plain_attention
from tuner.measure.onnx_values import flat_arrays
from tuner.protocols import Array

NOISY_RUNS = 3

_WINOGRAD = 16.0
"""Roundings of the operands that make the error of Winograd's F(6x6): on random layers of 16 to 512 channels its
largest error was 9 to 81 times that of a direct convolution."""

_NO_WINOGRAD = 1e-4
"""Nothing computes it in a precision of this unit roundoff or a coarser one."""

_BY_ONE = {
    **dict.fromkeys(("sigmoid", "tanh", "elu", "softplus", "log_sigmoid_forward", "_log_softmax"), False),
    **dict.fromkeys(("silu", "gelu", "mish"), True),
}
"""Functions that right implementations compute by way of numbers near one, such as 0.5 + 0.5 tanh(x / 2), 1 - 2 / (1 +
exp(2 x)) and log(1 + exp(x)): where they are small, their error is one rounding of one. True: it is multiplied by x."""

_ONE, _COARSE_ONE = 1 / 2, 1 / 8
"""So much of a rounding of one they get, in a fine precision and in one too coarse for Winograd's algorithm. Outputs
below some ten roundings of one, all of them from such functions, say little: zeros would pass."""

_ROWS = (list, tuple)


class ExactWorker:
    """A child's service: outputs of `model_spec` in float64 for any inputs. `provider` is `module:function`, which
    makes the model as a torch module. `unit` is the unit roundoff of what it is tuned in, where that is coarser than
    what it says. Raises what the provider does, when an operation first needs the module."""

    def __init__(self, model_spec: Mapping[str, Any], threads: int, provider: str, unit: float = 0.0) -> None:
        self._model_spec, self._threads, self._provider = model_spec, threads, provider
        self._module: torch.nn.Module | None = None
        self._stored_unit = unit

    def op_outputs(
        self, inputs_npz_path: str, path: str, within_s: float = math.inf, noisy_runs: int = NOISY_RUNS
    ) -> dict[str, Any]:
        """Write to `path` (.npz) the outputs in float64 (integers as they are) as `exact_0`, `exact_1`, ... and those
        of each noisy run r as `noisy_r_0`, ...; returns {"unit": unit roundoff of the model's coarsest precision}.

        There are `noisy_runs` of them, or as many as end within `within_s` seconds, and at least one if any."""
        began = time.monotonic()
        module = self._loaded()
        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            arrays = [np.array(stored[name]) for name in stored.files]
        inputs = [torch.from_numpy(array) if array.dtype.kind in "biuf" else array for array in arrays]
        exact = InFloat64(seen=self._stored_unit)
        loaded = time.monotonic()
        results = {f"exact_{i}": array for i, array in enumerate(_run(module, exact, inputs))}
        a_run_s = time.monotonic() - loaded
        for run in range(noisy_runs):
            if run and time.monotonic() + 2 * a_run_s > began + within_s:  # drawing the errors takes time, too
                break
            noisy = InFloat64(exact.unit, seed=run + 1)
            results |= {f"noisy_{run}_{i}": array for i, array in enumerate(_run(module, noisy, inputs))}
        with open(path, "wb") as file:
            np.savez(file, **results)  # type: ignore[arg-type]  # of arrays only
        return {"unit": exact.unit}

    def _loaded(self) -> torch.nn.Module:
        """The module in float64; `_stored_unit` is the unit roundoff of the coarsest type that it was stored in."""
        if self._module is None:
            use_threads(self._threads)
            module: torch.nn.Module = named(self._provider)(self._model_spec)[0].eval()
            stored = [t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
            self._stored_unit = max([self._stored_unit, *(torch.finfo(dtype).eps / 2 for dtype in stored)])
            self._module = module.double()
        return self._module


def _run(module: torch.nn.Module, mode: InFloat64, inputs: list[Any]) -> list[Array]:
    wide = [mode.lifted(tensor) for tensor in inputs]
    torch._C._set_mkldnn_enabled(False)  # noqa: SLF001  oneDNN has no float64; the public switch warns of TF32
    try:
        with torch.no_grad(), plain_attention(), mode:
            result = module(*wide)
    finally:
        torch._C._set_mkldnn_enabled(True)  # noqa: SLF001
    return [np.array(array, order="C") for array in _arrays(mode.lifted(result))]


def _arrays(result: Any) -> list[Array]:
    """What a module returned, as arrays in order. A mapping of tensors is one of PyTorch, any other a map of ONNX."""
    if isinstance(result, torch.Tensor):
        return [result.numpy()]
    if isinstance(result, Mapping) and all(isinstance(v, (torch.Tensor, Mapping, *_ROWS)) for v in result.values()):
        return [array for value in result.values() for array in _arrays(value)]
    if isinstance(result, _ROWS):
        return [array for value in result for array in _arrays(value)]
    return flat_arrays(result)


class InFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Inside this context every floating operator computes in float64: operands are widened, and conversions to a
    narrower type widen as well. `unit` then is the unit roundoff of the coarsest type that the model asked for.

    With `noise` (a unit roundoff) each floating operand has a relative error drawn from N(0, noise^2), and those of 3x3
    convolutions one from N(0, (16 noise)^2), unless the precision is too coarse for Winograd's algorithm. Results of
    `_BY_ONE` have an absolute error from N(0, (noise / 2)^2).
    """

    def __init__(self, noise: float = 0.0, seed: int = 0, seen: float = 0.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.unit = max(seen, torch.finfo(torch.float64).eps / 2)
        self._noise = noise
        self._rng = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not _writes(func):
            times = _WINOGRAD if self._noise < _NO_WINOGRAD and _may_be_winograd(func, args) else 1.0
            change = self.lifted if _moves(func) else functools.partial(self._noisy, times=times)
            operands, rest = (args[:1], args[1:]) if _is_power(func) else (args, ())
            args, kwargs = (*tree_map(change, operands), *tree_map(self.lifted, rest)), tree_map(change, kwargs)
        func = GROUPED.get(str(func), func)
        by_one = self._by_one(func, args) if self._noise else None
        result = tree_map(self.lifted, func(*args, **kwargs))
        if by_one is not None:  # in place, as the operator itself may be
            (result[0] if isinstance(result, tuple) else result).add_(by_one)
        return result

    def lifted(self, value: Any) -> Any:
        """`value` in float64 where it is a floating tensor or type (or holds some); else itself."""
        if isinstance(value, torch.dtype) and value.is_floating_point:
            self._see(value)
            return torch.float64
        if isinstance(value, torch.Tensor):
            if not value.is_floating_point():
                return value
            self._see(value.dtype)
            return value.to(torch.float64) if value.dtype != torch.float64 else value
        return value if not isinstance(value, (tuple, list, dict)) else tree_map(self.lifted, value)

    def _noisy(self, value: Any, times: float) -> Any:
        value = self.lifted(value)
        if not self._noise or not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        off = torch.randn(value.shape, generator=self._rng, dtype=torch.float64)
        return value * off.mul_(times * self._noise).add_(1.0)

    def _by_one(self, func: Any, args: Any) -> torch.Tensor | None:
        """The error of a result of `_BY_ONE`; None for other operators."""
        name = func.overloadpacket.__name__.removesuffix("_")
        if name not in _BY_ONE or not isinstance(args[0], torch.Tensor) or not args[0].is_floating_point():
            return None
        share = _ONE if self._noise < _NO_WINOGRAD else _COARSE_ONE
        off = torch.randn(args[0].shape, generator=self._rng, dtype=torch.float64).mul_(share * self._noise)
        return off.mul_(args[0]) if _BY_ONE[name] else off

    def _see(self, dtype: torch.dtype) -> None:
        self.unit = max(self.unit, torch.finfo(dtype).eps / 2)


_MOVING = ("view", "expand", "transpose", "permute", "t", "slice", "select", "unsqueeze", "squeeze", "alias", "detach",
           "clone", "_to_copy", "cat", "split", "split_with_sizes", "unbind", "as_strided", "reshape", "_unsafe_view",
           "lift_fresh", "embedding", "index_select", "gather", "index", "constant_pad_nd", "unfold",
           "eq", "ne", "isnan", "isinf", "round", "floor", "ceil", "trunc")  # fmt: skip
"""Operators that compute nothing: rounding adds no error to a move."""


def _moves(func: Any) -> bool:
    return func.overloadpacket.__name__ in _MOVING


def _may_be_winograd(func: Any, args: Any) -> bool:
    """Whether it is a 3x3 convolution with stride 1, of all channels."""
    if func.overloadpacket.__name__ != "convolution":
        return False
    _, weight, _, stride, _, dilation, transposed, _, groups = args
    steps = {*stride, *dilation, groups}
    return tuple(weight.shape[2:]) == (3, 3) and steps == {1} and not transposed


def _is_power(func: Any) -> bool:
    """Whether its second operand is an exponent: a whole one must stay whole, as bases may be negative."""
    return bool(func.overloadpacket.__name__ == "pow")


def _writes(func: Any) -> bool:
    """Whether it changes an operand, which then must be the tensor itself and no copy of it."""
    return bool(func._schema.is_mutable)  # noqa: SLF001  its only home
