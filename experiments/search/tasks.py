"""The tasks: programs as `tuner run` meets them (convolutions and weights packed), and PyTorch's own forms of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from kernels.workload import Workload

LANES = 16
"""Channels to a block of a packed convolution: fp32 lanes of an AVX-512 register."""


@dataclass(frozen=True)
class Spec:
    """One task. `shapes` are PyTorch's operands, `make` builds the workload, `bound` says what limits it."""

    op: str
    shapes: tuple[tuple[int, ...], ...]
    stride: int = 1
    bound: str = "arithmetic"


TASKS: Mapping[str, Spec] = {
    "matmul_512": Spec("matmul", ((512, 512), (512, 512))),
    "matmul_1024": Spec("matmul", ((1024, 1024), (1024, 1024))),
    "matmul_2048": Spec("matmul", ((2048, 2048), (2048, 2048))),
    "matmul_skinny": Spec("matmul", ((16, 1024), (1024, 4096))),
    "batch_matmul": Spec("batch_matmul", ((12, 384, 64), (12, 64, 384))),
    "conv_1x1": Spec("conv2d", ((1, 256, 56, 56), (64, 256, 1, 1))),
    "conv_3x3": Spec("conv2d", ((1, 64, 56, 56), (64, 64, 3, 3))),
    "conv_strided": Spec("conv2d", ((1, 128, 56, 56), (128, 128, 3, 3)), stride=2),
    "conv_depthwise": Spec("depthwise", ((1, 144, 56, 56), (144, 1, 3, 3)), bound="memory"),
    "conv_7x7": Spec("conv2d", ((1, 3, 224, 224), (64, 3, 7, 7)), stride=2),
    "softmax": Spec("softmax", ((1536, 384),), bound="memory"),
    "layer_norm": Spec("layer_norm", ((512, 768),), bound="memory"),
    "reduction": Spec("sum", ((1024, 2048),), bound="memory"),
}


def workload(name: str) -> Workload:
    """The workload of a task."""
    from tvm import te, topi

    from kernels.workload import from_prim_func

    spec = TASKS[name]
    holders = [te.placeholder(shape, name=f"arg{i}") for i, shape in enumerate(spec.shapes)]
    if spec.op in ("conv2d", "depthwise"):
        return _convolution(name, spec)
    out = {
        "matmul": _product,
        "batch_matmul": _product,
        "softmax": topi.nn.softmax,
        "layer_norm": _layer_norm,
        "sum": lambda a: topi.sum(a, axis=-1),
    }[spec.op](*holders)
    return from_prim_func(te.create_prim_func([*holders, out]), name)


def _product(a: Any, b: Any) -> Any:
    from tvm import te

    k = te.reduce_axis((0, int(a.shape[-1])), "k")
    shape = (*a.shape[:-1], b.shape[-1])
    return te.compute(shape, lambda *i: te.sum(a[(*i[:-1], k)] * b[(*i[:-2], k, i[-1])], axis=k), name="matmul")


def _layer_norm(a: Any) -> Any:
    from tvm import te, topi

    width = int(a.shape[-1])
    mean = topi.divide(topi.sum(a, axis=-1, keepdims=True), float(width))
    centred = topi.subtract(a, mean)
    variance = topi.divide(topi.sum(topi.multiply(centred, centred), axis=-1, keepdims=True), float(width))
    return te.compute(
        a.shape, lambda i, j: centred[i, j] * topi.rsqrt(topi.add(variance, 1e-5))[i, 0], name="normalized"
    )


def _convolution(name: str, spec: Spec) -> Workload:
    from tvm import te

    from kernels.workload import from_prim_func
    from tuner.graph.convolution import Geometry
    from tuner.graph.layout import block_of

    data, weight = spec.shapes
    o, group_c, kh, kw = weight
    groups = data[1] // group_c
    pad = kh // 2
    geometry = Geometry(data, weight, (spec.stride,) * 2, (pad,) * 4, (1, 1), groups)
    n, c, h, w = data
    if spec.op == "depthwise":
        x = te.placeholder((n, c // LANES, h, w, LANES), name="data")
        k = te.placeholder((c // LANES, kh, kw, LANES), name="weight")
        out = geometry.depthwise(LANES)(x, k)
    else:
        block = block_of(c, LANES)
        x = te.placeholder((n, c // block, h, w, block), name="data")
        k = te.placeholder((o // LANES, c // block, kh, kw, block, LANES), name="weight")
        out = geometry.dense(block, LANES)(x, k)
    return from_prim_func(te.create_prim_func([x, k, out]), name, origin=geometry.origin())


Call = Callable[[], object]


def torch_forms(name: str) -> dict[str, Callable[[], Call]]:
    """PyTorch's ways to do a task, by name: each makes a function of no arguments. The fastest counts."""
    import torch

    spec = TASKS[name]
    torch.manual_seed(0)
    operands = [torch.randn(shape) for shape in spec.shapes]
    forms = {"plain": lambda: _plain(spec, operands)}
    if spec.op in ("conv2d", "depthwise"):
        forms["channels last"] = lambda: _plain(
            spec, [operand.contiguous(memory_format=torch.channels_last) for operand in operands]
        )
        forms["oneDNN blocked"] = lambda: _prepacked(spec, operands)
    return forms


def _plain(spec: Spec, operands: Sequence[torch.Tensor]) -> Call:
    """The operator on its operands as they lie in memory."""
    import torch
    from torch.nn import functional

    first, *others = operands
    if spec.op in ("matmul", "batch_matmul"):
        return lambda: torch.matmul(first, others[0])
    if spec.op in ("conv2d", "depthwise"):
        return lambda: functional.conv2d(first, others[0], None, spec.stride, _padding(spec), 1, _groups(spec))
    if spec.op == "softmax":
        return lambda: torch.softmax(first, -1)
    if spec.op == "layer_norm":
        return lambda: functional.layer_norm(first, first.shape[-1:])
    return lambda: first.sum(-1)


def _prepacked(spec: Spec, operands: Sequence[torch.Tensor]) -> Call:
    """A convolution with weights and activations in oneDNN's blocked layout: what a packed convolution is given."""
    import torch
    from torch.utils import mkldnn

    data, weight = operands
    layer = torch.nn.Conv2d(
        data.shape[1], weight.shape[0], weight.shape[2], spec.stride, _padding(spec), 1, _groups(spec), bias=False
    )
    layer.weight.data.copy_(weight)
    convolve: Callable[[torch.Tensor], object] = mkldnn.to_mkldnn(layer.eval())  # type: ignore[no-untyped-call]
    blocked = data.to_mkldnn()
    return lambda: convolve(blocked)


def _padding(spec: Spec) -> int:
    return spec.shapes[1][2] // 2


def _groups(spec: Spec) -> int:
    return spec.shapes[0][1] // spec.shapes[1][1]


def flops(name: str) -> float:
    """Multiply-adds of a task counted as two, or 0 where memory is what limits it."""
    spec = TASKS[name]
    if spec.op in ("matmul", "batch_matmul"):
        *batch, m, k = spec.shapes[0]
        return 2.0 * math.prod(batch) * m * k * spec.shapes[1][-1]
    if spec.op in ("conv2d", "depthwise"):
        height = spec.shapes[0][2] // spec.stride
        return 2.0 * math.prod(spec.shapes[1]) * height * height * spec.shapes[0][0]
    return 0.0
