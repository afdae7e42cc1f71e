"""Families of kernels on which passes are checked and measured: programs in TensorIR of any extents.

Each is written here from its definition, without the layouts and rewrites of tuner/graph, so that extents may be odd,
prime or one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx, topi

from kernels.dots import DOTS, copied, widened
from kernels.workload import Workload, from_prim_func

Shape = tuple[int, ...]

_EXTENTS = (1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17, 24, 29, 31, 32, 33, 37, 48, 64)
"""Random extents: one, primes, powers of two and their neighbours, multiples of a vector."""


@dataclass(frozen=True)
class Family:
    """Programs of one kind. `make` gives the arguments, outputs last, for `rank` extents; `typical` are extents as in
    models, on which effects are measured. `limits` bound random extents, so that a program stays small."""

    make: Callable[..., list[Any]]
    typical: tuple[Shape, ...]
    limits: Shape

    def drawn(self, rng: np.random.Generator) -> Shape:
        """Random extents."""
        return tuple(int(rng.choice([e for e in _EXTENTS if e <= most])) for most in self.limits)


def workload(name: str, shape: Shape) -> Workload:
    """A family's program of these extents."""
    function = te.create_prim_func(FAMILIES[name].make(*shape))
    return from_prim_func(function, f"{name} {'x'.join(map(str, shape))}")


# --- definitions -----------------------------------------------------------------------------------


def _tensor(name: str, *shape: int) -> Any:
    return te.placeholder(shape, name=name)


def _product(m: int, k: int, n: int) -> list[Any]:
    a, b = _tensor("a", m, k), _tensor("b", k, n)
    return [a, b, _multiplied(a, b, m, k, n)]


def _multiplied(a: Any, b: Any, m: int, k: int, n: int) -> Any:
    r = te.reduce_axis((0, k), "r")
    return te.compute((m, n), lambda i, j: te.sum(a[i, r] * b[r, j], axis=r), name="product")


def _dense(m: int, k: int, n: int) -> list[Any]:
    """A product, its bias and a ReLU."""
    a, b, bias = _tensor("a", m, k), _tensor("b", k, n), _tensor("bias", n)
    made = _multiplied(a, b, m, k, n)
    zero = tirx.const(0.0, "float32")
    return [a, b, bias, te.compute((m, n), lambda i, j: te.max(made[i, j] + bias[j], zero), name="out")]


def _batch_product(b: int, m: int, k: int, n: int) -> list[Any]:
    x, y = _tensor("x", b, m, k), _tensor("y", b, k, n)
    r = te.reduce_axis((0, k), "r")
    return [x, y, te.compute((b, m, n), lambda h, i, j: te.sum(x[h, i, r] * y[h, r, j], axis=r), name="product")]


def _convolution(kernel: int, stride: int) -> Callable[..., list[Any]]:
    def make(c: int, o: int, size: int) -> list[Any]:
        data, weight = _tensor("data", 1, c, size, size), _tensor("weight", o, c, kernel, kernel)
        out = topi.nn.conv2d_nchw(data, weight, stride, kernel // 2, 1)
        return [data, weight, topi.nn.relu(out)]

    return make


def _depthwise(c: int, size: int) -> list[Any]:
    data, weight = _tensor("data", 1, c, size, size), _tensor("weight", c, 1, 3, 3)
    return [data, weight, topi.nn.depthwise_conv2d_nchw(data, weight, 1, 1, 1)]


def _softmax(rows: int, columns: int) -> list[Any]:
    a = _tensor("a", rows, columns)
    return [a, topi.nn.softmax(a)]


def _layer_norm(rows: int, columns: int) -> list[Any]:
    a, gamma, beta = _tensor("a", rows, columns), _tensor("gamma", columns), _tensor("beta", columns)
    return [a, gamma, beta, topi.nn.layer_norm(a, gamma, beta, [1], 1e-5)]


def _attention(heads: int, queries: int, keys: int, width: int) -> list[Any]:
    q, k, v = (_tensor(name, heads, n, width) for name, n in (("q", queries), ("k", keys), ("v", keys)))
    r, s = te.reduce_axis((0, width), "r"), te.reduce_axis((0, keys), "s")
    scores = te.compute((heads, queries, keys), lambda h, i, j: te.sum(q[h, i, r] * k[h, j, r], axis=r), name="scores")
    weights = topi.nn.softmax(scores)
    out = te.compute((heads, queries, width), lambda h, i, j: te.sum(weights[h, i, s] * v[h, s, j], axis=s), name="out")
    return [q, k, v, out]


def _chain(rows: int, columns: int) -> list[Any]:
    """tanh(a * sigmoid(a) + exp(-b)), the parts in buffers of their own."""
    a, b = _tensor("a", rows, columns), _tensor("b", rows, columns)
    gate = te.compute(a.shape, lambda i, j: a[i, j] * te.sigmoid(a[i, j]), name="gate")
    decay = te.compute(a.shape, lambda i, j: te.exp(-te.abs(b[i, j])), name="decay")
    return [a, b, te.compute(a.shape, lambda i, j: te.tanh(gate[i, j] + decay[i, j]), name="out")]


def _scaled(rows: int, columns: int) -> list[Any]:
    """Arithmetic alone: a * b + a, the rows in reverse."""
    a, b = _tensor("a", rows, columns), _tensor("b", rows, columns)
    out = te.compute(a.shape, lambda i, j: a[i, j] * b[rows - 1 - i, j] + a[rows - 1 - i, j], name="out")
    return [a, b, out]


def _row_sums(rows: int, columns: int) -> list[Any]:
    a = _tensor("a", rows, columns)
    return [a, topi.sum(a, axis=1)]


def _column_maxima(rows: int, columns: int) -> list[Any]:
    a = _tensor("a", rows, columns)
    return [a, topi.max(a, axis=0)]


def _below(r: Any, i: Any) -> Any:
    return r <= i


def _above(r: Any, i: Any) -> Any:
    return r > i


def _between(r: Any, i: Any) -> Any:
    return tirx.And(r <= i + 2, i < r + 7)


def _triangle(counts: Callable[[Any, Any], Any]) -> Callable[..., list[Any]]:
    """A product with a matrix of which only some elements of each row count, as in causal attention."""

    def make(m: int, k: int, n: int) -> list[Any]:
        a, b = _tensor("a", m, k), _tensor("b", k, n)
        r, zero = te.reduce_axis((0, k), "r"), tirx.const(0, "float32")

        def element(i: Any, j: Any) -> Any:
            return te.sum(tirx.if_then_else(counts(r, i), a[i, r] * b[r, j], zero), axis=r)

        return [a, b, te.compute((m, n), element, name="out")]

    return make


def _causal_maxima(rows: int, columns: int) -> list[Any]:
    """The largest of each row's elements up to the diagonal, and each row less it."""
    a, r = _tensor("a", rows, columns), te.reduce_axis((0, columns), "r")
    least = tirx.min_value("float32")
    most = te.compute((rows,), lambda i: te.max(tirx.if_then_else(r <= i, a[i, r], least), axis=r), name="most")
    return [a, te.compute(a.shape, lambda i, j: a[i, j] - most[i], name="out")]


def _narrow_product(name: str) -> Callable[..., list[Any]]:
    """A product in the order in which a dot-product instruction reads its operands: rows by panels of columns."""
    dot = next(dot for dot in DOTS if dot.name == name)

    def make(m: int, k: int, panels: int) -> list[Any]:
        padded = -(-k // dot.steps) * dot.steps
        a = te.placeholder((m, k), dot.left, name="a")
        b = te.placeholder((panels, padded // dot.steps, dot.lanes, dot.steps), dot.right, name="b")
        zero = tirx.const(0, dot.copied)

        def copy(i: Any, r: Any) -> Any:
            return te.if_then_else(r < k, copied(a[i, r], dot.left), zero)

        left = a if padded == k else te.compute((m, padded), copy, name="aligned")
        r = te.reduce_axis((0, padded), "r")

        def element(i: Any, j: Any) -> Any:
            right = b[j // dot.lanes, r // dot.steps, j % dot.lanes, r % dot.steps]
            return te.sum(widened(left[i, r], dot.result) * widened(right, dot.result), axis=r)

        return [a, b, te.compute((m, panels * dot.lanes), element, name="product")]

    return make


def _smoothed(rows: int, columns: int) -> list[Any]:
    """Each element by those around it; the border is kept."""
    a, old = _tensor("a", rows, columns), _tensor("old", rows, columns)

    def element(i: Any, j: Any) -> Any:
        inside = tirx.all(i >= 1, i < rows - 1, j >= 2, j < columns - 1)
        return te.if_then_else(inside, a[i - 1, j] + a[i + 1, j - 2] + 2.0 * a[i, j + 1], old[i, j])

    return [a, old, te.compute((rows, columns), element, name="out")]


def _pooling(kind: str) -> Callable[..., list[Any]]:
    def make(c: int, size: int) -> list[Any]:
        data = _tensor("data", 1, c, size, size)
        out = topi.nn.pool2d(data, [3, 3], [2, 2], [1, 1], [1, 1, 1, 1], kind, False, "NCHW", False)
        return [data, out]

    return make


def _transpose(rows: int, columns: int) -> list[Any]:
    a, b = _tensor("a", rows, columns), _tensor("b", columns, rows)
    return [a, b, te.compute((columns, rows), lambda i, j: a[j, i] + b[i, j], name="out")]


FAMILIES: Mapping[str, Family] = {
    "product": Family(_product, ((512, 512, 512), (128, 768, 768)), (64, 64, 64)),
    "dense": Family(_dense, ((128, 768, 768), (1, 2048, 1000)), (64, 64, 64)),
    "batch product": Family(_batch_product, ((12, 128, 64, 128),), (5, 33, 33, 33)),
    "convolution": Family(_convolution(3, 1), ((64, 64, 56), (256, 256, 14)), (17, 17, 13)),
    "convolution 1x1": Family(_convolution(1, 1), ((256, 64, 56), (512, 2048, 7)), (33, 33, 13)),
    "convolution strided": Family(_convolution(3, 2), ((128, 128, 56),), (17, 17, 13)),
    "depthwise": Family(_depthwise, ((144, 56), (384, 14)), (33, 13)),
    "softmax": Family(_softmax, ((1536, 384), (197, 197)), (37, 64)),
    "layer norm": Family(_layer_norm, ((512, 768), (197, 384)), (37, 64)),
    "attention": Family(_attention, ((12, 128, 128, 64),), (3, 17, 17, 16)),
    "chain": Family(_chain, ((512, 1024),), (37, 64)),
    "arithmetic": Family(_scaled, ((1024, 1024),), (37, 64)),
    "row sums": Family(_row_sums, ((1024, 2048), (64, 2047)), (37, 64)),
    "column maxima": Family(_column_maxima, ((1024, 1024),), (37, 64)),
    "lower triangle": Family(_triangle(_below), ((512, 512, 64),), (37, 37, 17)),
    "upper triangle": Family(_triangle(_above), ((512, 512, 64),), (37, 37, 17)),
    "band": Family(_triangle(_between), ((512, 512, 64),), (37, 37, 17)),
    "causal maxima": Family(_causal_maxima, ((1024, 1024),), (37, 64)),
    "bfloat16 product": Family(_narrow_product("vdpbf16ps_512"), ((128, 768, 48),), (37, 64, 5)),
    "byte product": Family(_narrow_product("vpdpbusd_512"), ((128, 768, 48),), (37, 64, 5)),
    "maximum pooling": Family(_pooling("max"), ((64, 112),), (17, 17)),
    "mean pooling": Family(_pooling("avg"), ((192, 28),), (17, 17)),
    "kept border": Family(_smoothed, ((2048, 2048),), (37, 64)),
    "transpose": Family(_transpose, ((1024, 1024),), (37, 64)),
}
"""By the name that tables give them."""
