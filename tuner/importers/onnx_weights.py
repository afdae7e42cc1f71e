"""Seeded random parameters for an ONNX graph, at a scale that keeps every activation of order one.

The second moment of every tensor is estimated while walking the graph, and each convolution or matrix
is drawn so that its output has second moment one: He et al. 2015 (arXiv:1502.01852, eq. 10), with the
moment of the actual input in place of an assumed ReLU. Residual sums then grow only linearly with depth.
Every parameter has its own generator, from the seed and its name, so the order in the file does not matter.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from tuner.importers.onnx_shapes import Shapes, known_shapes

Draw = Callable[[np.random.Generator, tuple[int, ...], float], NDArray[np.float32]]


def _normal(scale: float) -> Draw:
    def draw(rng: np.random.Generator, shape: tuple[int, ...], gain: float) -> NDArray[np.float32]:
        values = rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(scale * gain)  # in place: the largest matrices have hundreds of megabytes
        return values

    return draw


def _uniform(low: float, high: float) -> Draw:
    return lambda rng, shape, _: rng.uniform(low, high, shape).astype(np.float32)


WEIGHT, TABLE = _normal(1.0), _normal(1.0)
BIAS, MEAN = _normal(0.1), _normal(0.1)
SCALE, VARIANCE, SLOPE = _uniform(0.8, 1.2), _uniform(0.5, 1.5), _uniform(0.1, 0.3)

ROLES: dict[str, dict[int, Draw]] = {
    "Conv": {1: WEIGHT, 2: BIAS},
    "ConvTranspose": {1: WEIGHT, 2: BIAS},
    "Gemm": {1: WEIGHT, 2: BIAS},
    "MatMul": {0: WEIGHT, 1: WEIGHT},
    "BatchNormalization": {1: SCALE, 2: BIAS, 3: MEAN, 4: VARIANCE},
    "InstanceNormalization": {1: SCALE, 2: BIAS},
    "LayerNormalization": {1: SCALE, 2: BIAS},
    "GroupNormalization": {1: SCALE, 2: BIAS},
    "RMSNormalization": {1: SCALE},
    "PRelu": {1: SLOPE},
    "Gather": {0: TABLE},
    "Add": {0: BIAS, 1: BIAS},
    "Sub": {1: BIAS},
    "Mul": {0: SCALE, 1: SCALE},
    "Div": {1: SCALE},
}
SCALED_BY_SCALARS = ("Add", "Sub", "Mul", "Div", "Gather")
RESHAPING = ("Unsqueeze", "Squeeze", "Reshape", "Transpose", "Identity", "Cast", "Flatten")


class Moments(NamedTuple):
    """Estimated mean and variance of a tensor's elements."""

    mean: float
    variance: float

    @property
    def square(self) -> float:
        return self.variance + self.mean**2


UNIT = Moments(0.0, 1.0)
PARAMETER = {"Add": Moments(0.0, 0.01), "Sub": Moments(0.0, 0.01), "Mul": Moments(1.0, 0.013), "Div": UNIT}
NORMALIZED = ("InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization")
LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BOUNDED = {
    "Sigmoid": Moments(0.5, 0.05),
    "HardSigmoid": Moments(0.5, 0.05),
    "Tanh": Moments(0.0, 0.4),
    "Erf": Moments(0.0, 0.4),
    "Softmax": Moments(0.0, 0.01),
}
RECTIFIERS = ("Relu", "LeakyRelu", "PRelu", "Clip", "Gelu", "Elu", "Selu", "HardSwish", "Mish")
BATCH_NORM_GAIN = 1.113
"""E[scale^2] E[1 / variance] = (1 + 0.4^2 / 12) ln(3), for the two uniform draws above."""
LARGEST_OF_WINDOW = 1.5
"""The largest of a pooling window, in standard deviations above the mean: 1.0 for 2x2 and 1.8 for 3x3
independent rectified normals."""


def draws(model: onnx.ModelProto, seed: int) -> dict[str, Callable[[], NDArray[Any]]]:
    """For every floating parameter with a known role, a function that draws it.

    Parameters are initializers and what Constant and ConstantOfShape nodes make; shapes must be inferred.
    Scalars of Add, Mul and their like are constants of the formula and stay, and so do integers.
    """
    graph = model.graph
    shapes = known_shapes(graph)
    stored = _parameter_dtypes(graph)
    maker = {output: node for node in graph.node for output in node.output}
    moments = {value.name: UNIT for value in graph.input}
    drawn: dict[str, Callable[[], NDArray[Any]]] = {}
    for node in graph.node:
        data = [name for name in node.input if _root(name, maker, stored) is None]
        incoming = next((moments[name] for name in data if name in moments), UNIT)
        for index, draw in ROLES.get(node.op_type, {}).items():
            root = _root(node.input[index], maker, stored) if index < len(node.input) else None
            if root is None or root in drawn or root not in shapes:
                continue
            if stored[root].kind == "f" and (math.prod(shapes[root]) > 1 or node.op_type not in SCALED_BY_SCALARS):
                gain = 1.0 / math.sqrt(_fan_in(node, index, shapes) * incoming.square) if draw is WEIGHT else 1.0
                drawn[root] = functools.partial(_drawn, draw, seed, root, shapes[root], gain, stored[root])
        _draw_variance(node, maker, stored, shapes, seed, drawn)
        after = _moments_after(node, [moments.get(name) if name in data else None for name in node.input], shapes)
        moments.update({name: after for name in node.output})
    return drawn


def _draw_variance(
    node: onnx.NodeProto, maker: Mapping[str, onnx.NodeProto], stored: Mapping[str, np.dtype[Any]], shapes: Shapes,
    seed: int, drawn: dict[str, Callable[[], NDArray[Any]]],
) -> None:  # fmt: skip
    """Draw the parameter under a square root or logarithm, alone or plus a scalar, positive: as a variance.

    A batch norm that was exported as its arithmetic has sqrt(variance + epsilon), and half of all normal draws would be
    the NaN of a negative variance.
    """
    if node.op_type not in ("Sqrt", "Log"):
        return
    maker_of = maker.get(node.input[0])
    names = maker_of.input if maker_of is not None and maker_of.op_type == "Add" else node.input
    for name in names:
        root = _root(name, maker, stored)
        if root in drawn or (root is not None and names is node.input and root in shapes and stored[root].kind == "f"):
            drawn[root] = functools.partial(_drawn, VARIANCE, seed, root, shapes[root], 1.0, stored[root])


def _drawn(draw: Draw, seed: int, name: str, shape: tuple[int, ...], gain: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return draw(rng, shape, gain).astype(dtype, copy=False)


def _parameter_dtypes(graph: onnx.GraphProto) -> dict[str, np.dtype[Any]]:
    dtypes = {tensor.name: helper.tensor_dtype_to_np_dtype(tensor.data_type) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Constant", "ConstantOfShape"):
            code = next((attribute.t.data_type for attribute in node.attribute if attribute.name == "value"), 0)
            dtypes[node.output[0]] = helper.tensor_dtype_to_np_dtype(code or onnx.TensorProto.FLOAT)
    return dtypes


def _root(name: str, maker: Mapping[str, onnx.NodeProto], stored: Container[str]) -> str | None:
    """The parameter that a tensor is a view of."""
    while name not in stored:
        node = maker.get(name)
        if node is None or node.op_type not in RESHAPING:
            return None
        name = node.input[0]
    return name


def _fan_in(node: onnx.NodeProto, index: int, shapes: Shapes) -> int:
    """How many products one output element sums."""
    shape = shapes.get(node.input[index], ())
    if node.op_type == "Conv":
        return max(1, math.prod(shape[1:]))
    if node.op_type == "ConvTranspose":
        strides = next((list(a.ints) for a in node.attribute if a.name == "strides"), [1])
        return max(1, shape[0] * math.prod(shape[2:]) // math.prod(strides))
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return max(1, shape[1] if transposed else shape[0])
    return max(1, shape[-1] if index == 0 else shape[max(0, len(shape) - 2)])


def _moments_after(node: onnx.NodeProto, inputs: Sequence[Moments | None], shapes: Shapes) -> Moments:
    """The estimate for a node's output; None stands for a parameter, a graph input or an unknown."""
    known = [value for value in inputs if value is not None]
    first = known[0] if known else UNIT
    op = node.op_type
    if op in NORMALIZED or (op in LINEAR and len(known) < 2):
        return UNIT
    if op in BOUNDED:
        return BOUNDED[op]
    if op in ("Add", "Sub", "Sum"):
        terms = [value or PARAMETER.get(op, UNIT) for value in inputs]
        sign = -1.0 if op == "Sub" else 1.0
        return Moments(first.mean + sign * sum(t.mean for t in terms[1:]), sum(t.variance for t in terms))
    if op == "Mul":
        one, two = (value or PARAMETER[op] for value in inputs)
        mean = one.mean * two.mean
        return Moments(mean, one.square * two.square - mean**2)
    if op == "Concat":
        return _mixture(node, inputs, shapes)
    if op == "BatchNormalization":
        return Moments(first.mean, BATCH_NORM_GAIN * first.square - first.mean**2 + 0.02)
    if op in RECTIFIERS:
        return _rectified(first)
    if op == "MaxPool":
        return Moments(first.mean + LARGEST_OF_WINDOW * math.sqrt(max(first.variance, 0.0)), first.variance)
    if op in ("AveragePool", "GlobalAveragePool", "ReduceMean"):
        return Moments(first.mean, 0.5 * first.variance)
    if op == "LRN":
        attributes = {attribute.name: attribute.f for attribute in node.attribute}
        shrink = attributes.get("bias", 1.0) ** -attributes.get("beta", 0.75)
        return Moments(first.mean * shrink, first.variance * shrink**2)
    return first


def _rectified(before: Moments) -> Moments:
    """Moments of max(x, 0) for a normal x."""
    sigma = math.sqrt(max(before.variance, 1e-12))
    above = 0.5 * (1.0 + math.erf(before.mean / (sigma * math.sqrt(2.0))))
    density = math.exp(-0.5 * (before.mean / sigma) ** 2) / math.sqrt(2.0 * math.pi)
    mean = before.mean * above + sigma * density
    square = before.square * above + before.mean * sigma * density
    return Moments(mean, max(square - mean**2, 1e-6))


def _mixture(node: onnx.NodeProto, inputs: Sequence[Moments | None], shapes: Shapes) -> Moments:
    """Moments of a concatenation, each input weighted by its size."""
    sized = [(value or UNIT, math.prod(shapes.get(name, ()))) for name, value in zip(node.input, inputs, strict=True)]
    total = max(1, sum(size for _, size in sized))
    mean = sum(moments.mean * size for moments, size in sized) / total
    return Moments(mean, sum(moments.square * size for moments, size in sized) / total - mean**2)
