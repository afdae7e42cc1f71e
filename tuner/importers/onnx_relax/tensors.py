"""Operators on whole tensors: determinants, sorting out the largest, reshaping to nothing."""

from __future__ import annotations

import functools
import math

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tuner.importers.onnx_relax.node import Any, Converter, Node, Unsupported, array_of, axis_of, const, relax, te


def reshape(node: Node) -> Any:
    """Reshape to a constant shape; with `allowzero` an extent of 0 is one. Other shapes are for TVM's converter."""
    target = array_of(node.input(1)) if node.input(1) is not None else None
    if target is None or not node.attributes.get("allowzero", 0) or 0 not in target:
        return None
    shape = [int(extent) for extent in target]

    def nothing(x: te.Tensor) -> te.Tensor:
        return te.compute(shape, lambda *_: te.const(0, x.dtype), name="nothing")

    return node.te(nothing, node.input(0), name="reshape_nothing")


def unsqueeze(node: Node) -> Any:
    """Unsqueeze of one axis that is written as a scalar, as runtimes take it; lists of axes are for TVM's converter."""
    axes = None if node.input(1) is None else array_of(node.input(1))
    if axes is None or axes.ndim:
        return None
    return node.emit(relax.op.expand_dims(node.input(0), axis_of(int(axes), len(node.shape()) + 1)))


def mean_variance_normalization(node: Node) -> Any:
    """MeanVarianceNormalization (x - mean) / standard deviation over axes."""
    axes, dtype = [int(axis) for axis in node.attributes.get("axes", (0, 2, 3))], node.dtype()
    wide = dtype if dtype == "float64" else "float32"
    value = node.input(0) if dtype == wide else node.emit(relax.op.astype(node.input(0), wide))
    centred = node.emit(relax.op.subtract(value, relax.op.mean(value, axes, True)))
    variance = relax.op.mean(relax.op.multiply(centred, centred), axes, True)
    deviation = relax.op.add(relax.op.sqrt(variance), const(1e-9, wide))
    made = node.emit(relax.op.divide(centred, deviation))
    return made if dtype == wide else node.emit(relax.op.astype(made, dtype))


def determinant(node: Node) -> Any:
    """Det of the matrices of the last two axes, by elimination with the largest element of a column first."""
    *outer, rows, columns = node.shape()
    if rows != columns or node.dtype() not in ("float32", "float64"):
        raise Unsupported(f"matrices of {rows} x {columns} {node.dtype()}")
    flat = node.emit(relax.op.reshape(node.input(0), (math.prod(outer), rows, rows)))
    made = node.te(functools.partial(_determinants, math.prod(outer), rows, node.dtype()), flat, name="det")
    return node.emit(relax.op.reshape(made, outer))


def _determinants(count: int, rows: int, dtype: str, matrices: te.Tensor) -> te.Tensor:
    return te.extern(
        [(count,)],
        [matrices],
        lambda ins, outs: _eliminations(count, rows, dtype, ins[0], outs[0]),
        dtype=[dtype],
        out_buffers=[tirx.decl_buffer((count,), dtype, layout=None)],
        name="det",
    )


def _eliminations(count: int, rows: int, dtype: str, source: Any, target: Any) -> Any:
    source, target = T.buffer_proxy(source), T.buffer_proxy(target)
    one, zero = tirx.const(1, dtype), tirx.const(0, dtype)
    with IRBuilder() as builder:
        with T.seq_scope():
            work = T.buffer_proxy(T.alloc_buffer((rows * rows,), dtype))
            pivot = T.buffer_proxy(T.alloc_buffer((1,), "int32"))
            with T.serial(0, count) as matrix:
                with T.serial(0, rows * rows) as i:
                    work[i] = source[matrix * rows * rows + i]
                target[matrix] = one
                with T.serial(0, rows) as k:
                    pivot[0] = k
                    with T.serial(0, rows) as r, T.If(tirx.all(r > k, _larger(work, rows, r, pivot[0], k))), T.Then():
                        pivot[0] = r
                    with T.If(pivot[0] != k), T.Then():
                        target[matrix] = zero - target[matrix]
                        with T.serial(0, rows) as c:
                            kept = T.bind(work[k * rows + c])
                            work[k * rows + c] = work[pivot[0] * rows + c]
                            work[pivot[0] * rows + c] = kept
                    target[matrix] = target[matrix] * work[k * rows + k]
                    with T.serial(0, rows) as r, T.If(tirx.all(r > k, work[k * rows + k] != zero)), T.Then():
                        factor = T.bind(work[r * rows + k] / work[k * rows + k])
                        with T.serial(0, rows) as c:
                            work[r * rows + c] = work[r * rows + c] - factor * work[k * rows + c]
        return builder.get()


def _larger(work: Any, rows: int, one: Any, other: Any, column: Any) -> Any:
    return te.abs(work[one * rows + column]) > te.abs(work[other * rows + column])


def top_k(node: Node) -> Any:
    """TopK of integers of 64 bits without a sign, which are sorted as those with one; all others are TVM's."""
    if node.dtype() != "uint64":
        return None
    count, axis = int(node.required(1).reshape(-1)[0]), axis_of(int(node.attributes.get("axis", -1)), len(node.shape()))
    moved = node.te(functools.partial(_turned_sign, "int64"), node.input(0), name="to_signed")
    largest = bool(node.attributes.get("largest", 1))
    both = node.emit(relax.op.topk(moved, count, axis, "both", largest, "int64"))
    values, indices = (node.emit(relax.TupleGetItem(both, index)) for index in (0, 1))
    return (node.te(functools.partial(_turned_sign, "uint64"), values, name="to_unsigned"), indices)


def _turned_sign(dtype: str, x: te.Tensor) -> te.Tensor:
    """The order of numbers with a sign as that of numbers without, and back."""

    def element(*place: Any) -> Any:
        bits = tirx.reinterpret("int64", x(*place))
        return tirx.reinterpret(dtype, tirx.bitwise_xor(bits, tirx.const(-(2**63), "int64")))

    return te.compute(x.shape, element, name="turned_sign")


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "Det"): determinant,
    ("", "MeanVarianceNormalization"): mean_variance_normalization,
    ("", "Reshape"): reshape,
    ("", "TopK"): top_k,
    ("", "Unsqueeze"): unsqueeze,
}
