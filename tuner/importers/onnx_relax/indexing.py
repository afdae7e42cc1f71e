"""Slice, of every operator set, along constant axes; and ReverseSequence."""

from __future__ import annotations

import numpy as np
from tvm import topi

from tuner.importers.onnx_relax.node import Any, Array, Converter, Node, array_of, axis_of, relax, table


def slices(node: Node) -> Any:
    """Slice with constant bounds, counted as numpy counts them; other bounds are for TVM's converter."""
    shape, given = node.shape(), [_given(node, index, name) for index, name in enumerate(_NAMES, 1)]
    if any(value is None and node.input(index) is not None for index, value in enumerate(given, 1)):
        return None
    starts, ends, axes, steps = given
    assert starts is not None
    assert ends is not None
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    value = node.input(0)
    for axis, *bounds in zip(axes.tolist(), starts.tolist(), ends.tolist(), steps.tolist(), strict=True):
        axis = axis_of(axis, len(shape))
        begin, end, step = slice(*bounds).indices(shape[axis])
        count = len(range(begin, end, step))
        if step < 0 and count:
            value = node.emit(relax.op.take(value, table(np.arange(begin, end, step)), axis))
        elif (begin, end, step) != (0, shape[axis], 1):
            value = node.emit(relax.op.strided_slice(value, [axis], [begin], [begin + count * step if count else begin],
                                                     [max(step, 1)]))  # fmt: skip
    return value


def reverse_sequence(node: Node) -> Any:
    """The first elements along the axis of time turned round, in each batch as many as its length says."""
    time, batch = int(node.attributes.get("time_axis", 0)), int(node.attributes.get("batch_axis", 1))
    return node.te(topi.reverse_sequence, node.input(0), node.input(1), time, batch, name="reverse_sequence")


_NAMES = ("starts", "ends", "axes", "steps")


def _given(node: Node, index: int, name: str) -> Array | None:
    """Before operator set 10 an attribute, then an operand; None where it is neither or not constant."""
    if name in node.attributes:
        return np.array(node.attributes[name], np.int64)
    value = node.input(index)
    array = None if value is None else array_of(value)
    return None if array is None else array.reshape(-1)


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "ReverseSequence"): reverse_sequence,
    ("", "Slice"): slices,
}
