"""Attention of the standard and of com.microsoft, and rotary embeddings, as products, softmaxes and moves of data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tuner.importers.onnx_relax.node import Any, Converter, Node, Unsupported, array_of, const, relax, shape_of


@dataclass(frozen=True)
class Scores:
    """How scores become weights. `bias` is added to them; None for none. `guarded`: a whole row may be -infinity."""

    scale: float
    bias: Any = None
    softcap: float = 0.0
    guarded: bool = False
    mode: int = 0
    precision: str = ""


_LEAST = {"float16": -65504.0, "bfloat16": -3.3895314e38, "float32": -3.4028235e38, "float64": -1.7976931348623157e308}


def attend(node: Node, query: Any, key: Any, value: Any, how: Scores) -> tuple[Any, Any]:
    """Attention of (batch, heads, length, size) tensors, and the scores in the state that `how.mode` asks for.

    Fewer heads of keys than of queries are shared by consecutive queries.
    """
    dtype = str(query.ty.dtype)
    groups = shape_of(query)[1] // shape_of(key)[1]
    if groups > 1:
        key, value = (node.emit(relax.op.repeat(x, groups, 1)) for x in (key, value))
    product = relax.op.matmul(query, relax.op.permute_dims(key, [0, 1, 3, 2]))
    scores = node.emit(relax.op.multiply(product, const(how.scale, dtype)))
    stages = [scores]
    if how.softcap:
        cap = const(how.softcap, dtype)
        scores = node.emit(relax.op.multiply(relax.op.tanh(relax.op.divide(scores, cap)), cap))
    stages.append(scores)
    if how.bias is not None:
        scores = node.emit(relax.op.add(scores, how.bias))
    stages.append(scores)
    if how.precision and how.precision != dtype:
        scores = node.emit(relax.op.astype(scores, how.precision))
    weights = node.emit(relax.op.nn.softmax(scores, -1))
    if how.guarded:
        best = relax.op.max(how.bias, -1, True)
        none = relax.op.less_equal(best, const(_LEAST[dtype], dtype))  # TVM's maximum of no more than -infinity
        weights = node.emit(relax.op.where(none, const(0, str(weights.ty.dtype)), weights))
    weights = weights if str(weights.ty.dtype) == dtype else node.emit(relax.op.astype(weights, dtype))
    stages.append(weights)
    return node.emit(relax.op.matmul(weights, value)), stages[how.mode]


def split_heads(node: Node, value: Any, heads: int) -> Any:
    """(batch, length, heads * size) as (batch, heads, length, size)."""
    batch, length, width = shape_of(value)
    return node.emit(
        relax.op.permute_dims(relax.op.reshape(value, (batch, length, heads, width // heads)), [0, 2, 1, 3])
    )


def join_heads(node: Node, value: Any) -> Any:
    """The inverse of `split_heads`."""
    batch, heads, length, size = shape_of(value)
    return node.emit(relax.op.reshape(relax.op.permute_dims(value, [0, 2, 1, 3]), (batch, length, heads * size)))


def attention(node: Node) -> tuple[Any, ...]:
    """Attention of operator set 23 and newer, with its caches, masks, windows and extra outputs."""
    from onnx import helper

    joined = len(node.shape()) == 3
    query, key, value = (node.input(index) for index in range(3))
    if joined:
        heads, shared = node.attributes["q_num_heads"], node.attributes["kv_num_heads"]
        query = split_heads(node, query, heads)
        key, value = (split_heads(node, x, shared) for x in (key, value))
    if node.input(4) is not None:
        key = node.emit(relax.op.concat([node.input(4), key], 2))
        value = node.emit(relax.op.concat([node.input(5), value], 2))
    bias, guarded = _bias(node, query, shape_of(key)[2])
    precision = node.attributes.get("softmax_precision")
    made, scores = attend(node, query, key, value, Scores(
        float(node.attributes.get("scale", 1 / math.sqrt(shape_of(query)[3]))), bias,
        float(node.attributes.get("softcap", 0.0)), guarded, int(node.attributes.get("qk_matmul_output_mode", 0)),
        "" if precision is None else helper.tensor_dtype_to_np_dtype(precision).name,
    ))  # fmt: skip
    return (join_heads(node, made) if joined else made, key, value, scores)


def _bias(node: Node, query: Any, keys: int) -> tuple[Any, bool]:
    """What is added to the scores, and whether it may forbid a query every key."""
    dtype, length = str(query.ty.dtype), shape_of(query)[2]
    bias = _as_bias(node, node.input(3), keys, dtype)
    guarded = bias is not None
    valid, lengths = None, node.input(6)
    if lengths is None:
        offset: Any = 0 if node.input(4) is None else node.shape(4)[2]
    else:
        lengths = node.emit(relax.op.reshape(lengths, (-1, 1, 1, 1)))
        offset = node.emit(relax.op.subtract(lengths, const(length, "int64")))
        valid = relax.op.less(const(np.arange(keys).reshape(1, 1, 1, -1), "int64"), lengths)
    seen = [node.emit(valid)] if valid is not None else []
    causal = node.attributes.get("is_causal", 0)
    left, right = node.attributes.get("left_window_size", -1), node.attributes.get("right_window_size", -1)
    ahead = np.arange(keys)[None, :] - np.arange(length)[:, None]  # how far a key lies after a query
    bounds = [(1, 0)] if causal else []
    bounds += [(1, right)] if right >= 0 else []
    bounds += [(-1, left)] if left >= 0 else []
    for sign, reach in bounds:
        if isinstance(offset, int):
            allowed = sign * (ahead - offset) <= reach
            guarded = guarded or not allowed.any(axis=1).all()
            seen.append(const(allowed, "bool"))
        else:
            distance = relax.op.subtract(const(ahead, "int64"), offset)
            seen.append(node.emit(relax.op.less_equal(
                relax.op.multiply(distance, const(sign, "int64")), const(reach, "int64")
            )))  # fmt: skip
    for mask in seen:
        forbidden = _where(node, mask, dtype)
        bias = forbidden if bias is None else node.emit(relax.op.add(bias, forbidden))
    return bias, guarded or lengths is not None or len(seen) > 1


def _where(node: Node, mask: Any, dtype: str) -> Any:
    """0 where a mask is true, -infinity elsewhere."""
    array = array_of(mask)
    if array is not None:
        return const(np.where(array, 0.0, -np.inf), dtype)
    return node.emit(relax.op.where(mask, const(0, dtype), const(-math.inf, dtype)))


def _as_bias(node: Node, mask: Any, keys: int, dtype: str) -> Any:
    if mask is None:
        return None
    if str(mask.ty.dtype) == "bool":
        mask = _where(node, mask, dtype)
    elif str(mask.ty.dtype) != dtype:
        mask = node.emit(relax.op.astype(mask, dtype))
    shape = shape_of(mask)
    if shape[-1] < keys:
        rest = const(np.full((*shape[:-1], keys - shape[-1]), -np.inf), dtype)
        mask = node.emit(relax.op.concat([mask, rest], len(shape) - 1))
    return mask


def rotary_embedding(node: Node) -> Any:
    """RotaryEmbedding of the standard: input, cosines, sines, positions."""
    positions = node.input(3)
    return _rotated(node, node.input(0), positions, node.input(1), node.input(2), node.attributes.get("num_heads", 0))


def microsoft_rotary_embedding(node: Node) -> Any:
    """RotaryEmbedding of com.microsoft: input, positions, cosines, sines."""
    if node.attributes.get("scale", 1.0) != 1.0 or node.attributes.get("is_packed_batching", 0):
        raise Unsupported("a scale or packed batches")
    positions, cosines = node.input(1), node.input(2)
    shape = node.shape()
    length = shape[1] if len(shape) == 3 else shape[2]
    if shape_of(positions) == (1,):  # where the first of the sequence stands
        steps = relax.op.add(relax.op.astype(positions, "int64"), const(np.arange(length), "int64"))
        positions = node.emit(relax.op.broadcast_to(steps, (shape[0], length)))
    heads = node.attributes.get("num_heads", 0)
    if len(shape) == 3 and not heads:
        heads = shape[2] // (2 * shape_of(cosines)[1])
    return _rotated(node, node.input(0), positions, cosines, node.input(3), heads)


def _rotated(node: Node, value: Any, positions: Any, cosines: Any, sines: Any, heads: int) -> Any:
    """`rotated_heads` of a tensor of three or four axes."""
    whole = shape_of(value)
    turned, interleaved = int(node.attributes.get("rotary_embedding_dim", 0)), node.attributes.get("interleaved", 0)
    if len(whole) == 4:
        return rotated_heads(node, value, positions, cosines, sines, turned, interleaved)
    split = split_heads(node, value, heads)
    return join_heads(node, rotated_heads(node, split, positions, cosines, sines, turned, interleaved))


def rotated_heads(
    node: Node, value: Any, positions: Any, cosines: Any, sines: Any, turned: int, interleaved: bool
) -> Any:
    """Pairs of elements of each head (batch, heads, length, size) turned by the angle that belongs to their position.

    `turned`: how many elements of a head are; 0 for all of them.
    """
    value = node.emit(relax.op.permute_dims(value, [0, 2, 1, 3]))
    batch, length, heads, size = shape_of(value)
    turned = turned or size
    if positions is not None:
        cosines, sines = (node.emit(relax.op.take(angles, positions, 0, mode="clip")) for angles in (cosines, sines))
    half = turned // 2
    cosines, sines = (
        node.emit(relax.op.reshape(relax.op.strided_slice(angles, [2], [0], [half]), (batch, length, 1, half)))
        for angles in (cosines, sines)
    )
    part = value if turned == size else node.emit(relax.op.strided_slice(value, [3], [0], [turned]))
    if interleaved:
        first, second = (node.emit(relax.op.strided_slice(part, [3], [start], [turned], [2])) for start in (0, 1))
    else:
        first = node.emit(relax.op.strided_slice(part, [3], [0], [half]))
        second = node.emit(relax.op.strided_slice(part, [3], [half], [turned]))
    real = node.emit(relax.op.subtract(relax.op.multiply(first, cosines), relax.op.multiply(second, sines)))
    imaginary = node.emit(relax.op.add(relax.op.multiply(first, sines), relax.op.multiply(second, cosines)))
    if interleaved:
        made = node.emit(relax.op.reshape(relax.op.stack([real, imaginary], 4), (batch, length, heads, turned)))
    else:
        made = node.emit(relax.op.concat([real, imaginary], 3))
    if turned < size:
        made = node.emit(relax.op.concat([made, relax.op.strided_slice(value, [3], [turned], [size])], 3))
    return node.emit(relax.op.permute_dims(made, [0, 2, 1, 3]))


def microsoft_attention(node: Node) -> Any:
    """Attention of com.microsoft: the projections of queries, keys and values, then attention."""
    if node.attributes.get("do_rotary", 0) or node.attributes.get("past_present_share_buffer", 0):
        raise Unsupported("rotary embeddings inside, or a shared buffer of the past")
    batch, length, _ = node.shape()
    heads = int(node.attributes["num_heads"])
    widths = node.attributes.get("qkv_hidden_sizes") or [node.shape(1)[1] // 3] * 3
    projected = node.emit(relax.op.matmul(node.input(0), node.input(1)))
    if node.input(2) is not None:
        projected = node.emit(relax.op.add(projected, node.input(2)))
    ends = np.cumsum(widths).tolist()
    query, key, value = (
        split_heads(node, node.emit(relax.op.strided_slice(projected, [2], [end - width], [end])), heads)
        for end, width in zip(ends, widths, strict=True)
    )
    past = node.input(4)
    if past is not None:
        before = [
            node.emit(relax.op.squeeze(relax.op.strided_slice(past, [0], [index], [index + 1]), [0]))
            for index in (0, 1)
        ]
        key, value = (node.emit(relax.op.concat([old, new], 2)) for old, new in zip(before, (key, value), strict=True))
    keys = shape_of(key)[2]
    bias = _added(node, _padding(node, node.input(3), batch, keys), node.input(5))
    if node.attributes.get("unidirectional", 0):
        later = np.arange(keys)[None, :] > np.arange(length)[:, None] + keys - length
        bias = _added(node, bias, const(np.where(later, _filter(node), 0.0), node.dtype()))
    scale = float(node.attributes.get("scale", 0.0)) or 1 / math.sqrt(shape_of(query)[3])
    made, _ = attend(node, query, key, value, Scores(scale, bias))
    present = node.emit(relax.op.stack([key, value], 0)) if node.wants(1) else None
    return (join_heads(node, made), present)


def _filter(node: Node) -> float:
    return float(node.attributes.get("mask_filter_value", -10000.0))


def _added(node: Node, bias: Any, more: Any) -> Any:
    if bias is None or more is None:
        return more if bias is None else bias
    return node.emit(relax.op.add(bias, more))


def _padding(node: Node, mask: Any, batch: int, keys: int) -> Any:
    """What a mask of com.microsoft adds to the scores: 1 where a key may be seen, or how many of them there are."""
    if mask is None:
        return None
    shape = shape_of(mask)
    if shape == (batch,):
        places = const(np.arange(keys).reshape(1, -1), str(mask.ty.dtype))
        mask = node.emit(relax.op.astype(relax.op.less(places, relax.op.reshape(mask, (-1, 1))), "int32"))
        shape = (batch, keys)
    if len(shape) not in (2, 3) or shape[0] != batch or shape[-1] != keys:
        raise Unsupported(f"a mask of shape {list(shape)}")
    spread = (batch, 1, 1, keys) if len(shape) == 2 else (batch, 1, *shape[1:])
    hidden = relax.op.equal(relax.op.reshape(mask, spread), const(0, str(mask.ty.dtype)))
    return node.emit(relax.op.where(hidden, const(_filter(node), node.dtype()), const(0, node.dtype())))


def multi_head_attention(node: Node) -> Any:
    """MultiHeadAttention of com.microsoft, of queries, keys and values in their own tensors."""
    query, key, value, bias = (node.input(index) for index in range(4))
    if key is None or value is None or len(node.shape()) != 3:
        raise Unsupported("packed queries, keys and values")
    heads = int(node.attributes["num_heads"])
    if bias is not None:
        ends = np.cumsum([shape_of(x)[-1] for x in (query, query, value)]).tolist()
        starts = [0, *ends[:-1]]
        query, key, value = (
            x if len(shape_of(x)) == 4 else
            node.emit(relax.op.add(x, relax.op.strided_slice(bias, [0], [start], [end])))
            for x, start, end in zip((query, key, value), starts, ends, strict=True)
        )  # fmt: skip
    query, key, value = (x if len(shape_of(x)) == 4 else split_heads(node, x, heads) for x in (query, key, value))
    if node.input(6) is not None:
        key = node.emit(relax.op.concat([node.input(6), key], 2))
        value = node.emit(relax.op.concat([node.input(7), value], 2))
    (batch, _, length, size), keys = shape_of(query), shape_of(key)[2]
    added = _added(node, _padding(node, node.input(4), batch, keys), node.input(5))
    if node.attributes.get("unidirectional", 0):
        later = np.arange(keys)[None, :] > np.arange(length)[:, None] + keys - length
        added = _added(node, added, const(np.where(later, _filter(node), 0.0), node.dtype()))
    scale = float(node.attributes.get("scale", 0.0)) or 1 / math.sqrt(size)
    made, _ = attend(node, query, key, value, Scores(scale, added))
    return (join_heads(node, made), key, value)


_MS = "com.microsoft"
CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "Attention"): attention,
    ("", "RotaryEmbedding"): rotary_embedding,
    (_MS, "Attention"): microsoft_attention,
    (_MS, "MultiHeadAttention"): multi_head_attention,
    (_MS, "RotaryEmbedding"): microsoft_rotary_embedding,
}
