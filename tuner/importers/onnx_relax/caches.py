"""Caches of keys and values: writing into them, and the attention of com.microsoft that keeps its own."""

from __future__ import annotations

import math

import numpy as np

from tuner.importers.onnx_relax.attention import (
    Scores,
    attend,
    join_heads,
    rotated_heads,
    split_heads,
)
from tuner.importers.onnx_relax.node import Any, Converter, Node, Unsupported, axis_of, const, relax, shape_of, te


def tensor_scatter(node: Node) -> Any:
    """TensorScatter: an update written into a cache, for each batch where an index says, `circular` over its end."""
    shape, axis = node.shape(), axis_of(int(node.attributes.get("axis", -2)), len(node.shape()))
    begins = node.input(2)
    if begins is None:
        begins = const(np.zeros(shape[0]), "int64")
    circular = node.text("mode", "linear") == "circular"
    return written(node, node.input(0), node.input(1), begins, axis, circular)


def written(node: Node, cache: Any, update: Any, begins: Any, axis: int, circular: bool = False) -> Any:
    """A cache (batch, ...) with an update along an axis from `begins` (batch) on."""
    extent, length = shape_of(cache)[axis], shape_of(update)[axis]

    def kernel(old: te.Tensor, new: te.Tensor, first: te.Tensor) -> te.Tensor:
        def element(*place: Any) -> Any:
            after = place[axis].astype("int64") - first(place[0]).astype("int64")
            if circular:
                after = te.indexmod(te.indexmod(after, extent) + extent, extent)
            inside = te.all(after >= 0, after < length)
            at = te.max(te.min(after, length - 1), 0)
            return te.if_then_else(inside, new(*place[:axis], at, *place[axis + 1 :]), old(*place))

        return te.compute(old.shape, element, name="written")

    return node.te(kernel, cache, update, begins, name="write_cache")


def group_query_attention(node: Node) -> tuple[Any, ...]:
    """GroupQueryAttention of com.microsoft: attention of a step's tokens to those of a cache and to themselves.

    The number of all tokens must be known; how many of a batch are valid may be computed by the model.
    """
    _refuse(node)
    query, key, value = (node.input(index) for index in range(3))
    heads, shared = int(node.attributes["num_heads"]), int(node.attributes["kv_num_heads"])
    if key is None:  # all three in one tensor
        size = shape_of(query)[2] // (heads + 2 * shared)
        ends = np.cumsum([heads * size, shared * size, shared * size]).tolist()
        query, key, value = (
            node.emit(relax.op.strided_slice(query, [2], [begin], [end]))
            for begin, end in zip([0, *ends[:-1]], ends, strict=True)
        )
    query = split_heads(node, query, heads)
    key, value = (split_heads(node, x, shared) for x in (key, value))
    (batch, _, length, size), total = shape_of(query), int(node.required(6).reshape(-1)[0])
    past = [node.input(index) for index in (3, 4)]
    before = 0 if past[0] is None else shape_of(past[0])[2]
    if length == total:  # the prompt: nothing was before it
        begins = const(np.zeros(batch), "int64")
    else:
        valid = node.emit(relax.op.reshape(relax.op.astype(node.input(5), "int64"), (batch,)))
        begins = node.emit(relax.op.add(valid, const(1 - length, "int64")))
    if node.attributes.get("do_rotary", 0):
        query, key = _turned(node, query, key, begins)
    caches = []
    for old, new in zip(past, (key, value), strict=True):
        empty = const(np.zeros((batch, shared, max(before, total), size)), str(new.ty.dtype))
        if old is not None and before:
            more = const(np.zeros((batch, shared, max(0, total - before), size)), str(new.ty.dtype))
            empty = node.emit(relax.op.concat([old, more], 2)) if total > before else old
        caches.append(written(node, empty, new, begins, 2))
    bias = _seen(node, query, begins, max(before, total))
    if node.input(10) is not None:
        bias = node.emit(relax.op.add(bias, node.input(10)))
    scale = float(node.attributes.get("scale", 0.0)) or 1 / math.sqrt(size)
    made, _ = attend(node, query, caches[0], caches[1], Scores(scale, bias, float(node.attributes.get("softcap", 0.0))))
    return (join_heads(node, made), *caches)


def _refuse(node: Node) -> None:
    others = [name for index, name in ((11, "head_sink"), (12, "k_scale"), (13, "v_scale")) if node.input(index)]
    others += [name for name in ("smooth_softmax", "kv_cache_bit_width", "qk_output") if node.attributes.get(name, 0)]
    if others:
        raise Unsupported(f"the options {', '.join(others)}")


def _turned(node: Node, query: Any, key: Any, begins: Any) -> tuple[Any, Any]:
    """Queries and keys turned by the angles of their places."""
    batch, _, length, _ = shape_of(query)
    places = node.input(9)
    if places is None:
        steps = const(np.arange(length).reshape(1, -1), "int64")
        places = node.emit(relax.op.add(relax.op.reshape(begins, (batch, 1)), steps))
        places = node.emit(relax.op.maximum(places, const(0, "int64")))
    cosines, sines = node.input(7), node.input(8)
    interleaved = bool(node.attributes.get("rotary_interleaved", 0))
    turned = 2 * shape_of(cosines)[1]
    made = [rotated_heads(node, x, places, cosines, sines, turned, interleaved) for x in (query, key)]
    return made[0], made[1]


def _seen(node: Node, query: Any, begins: Any, keys: int) -> Any:
    """-infinity for the keys that a query may not see: those after it, and those before its window."""
    (batch, _, length, _), dtype = shape_of(query), str(query.ty.dtype)
    ahead = np.arange(keys)[None, :] - np.arange(length)[:, None]
    after = relax.op.subtract(
        const(ahead.reshape(1, 1, length, keys), "int64"), relax.op.reshape(begins, (batch, 1, 1, 1))
    )
    after = node.emit(after)
    allowed = relax.op.less_equal(after, const(0, "int64"))
    window = int(node.attributes.get("local_window_size", -1))
    if window > 0:
        allowed = relax.op.logical_and(allowed, relax.op.greater(after, const(-window, "int64")))
    return node.emit(relax.op.where(node.emit(allowed), const(0, dtype), const(-math.inf, dtype)))


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "TensorScatter"): tensor_scatter,
    ("com.microsoft", "GroupQueryAttention"): group_query_attention,
}
