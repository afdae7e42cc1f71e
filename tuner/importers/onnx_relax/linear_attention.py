"""Linear attention with its recurrent state, and the causal convolution that stands before it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tuner.importers.onnx_relax.node import Any, Converter, Node, Unsupported, const, relax, te

_RULES = ("linear", "gated", "delta", "gated_delta")


@dataclass(frozen=True)
class _Heads:
    """The extents of one layer, and how its state changes from step to step."""

    batch: int
    steps: int
    heads: int
    shared: int
    keys: int
    values: int
    scale: float
    gated: bool
    corrected: bool

    @property
    def group(self) -> int:
        """How many heads of queries read one state."""
        return self.heads // self.shared


def linear_attention(node: Node) -> tuple[Any, ...]:
    """LinearAttention: outputs (batch, steps, heads * values), and the state (batch, shared heads, keys, values)."""
    rule = node.text("update_rule", "gated_delta")
    heads, shared = int(node.attributes["q_num_heads"]), int(node.attributes["kv_num_heads"])
    if rule not in _RULES or heads % shared:
        raise Unsupported(f"the update rule {rule!r} with {heads} heads of queries for {shared}")
    batch, steps, width = node.shape()
    keys, values = width // heads, node.shape(2)[2] // shared
    scale = float(node.attributes.get("scale", 0.0)) or 1 / math.sqrt(keys)
    how = _Heads(batch, steps, heads, shared, keys, values, scale, "gated" in rule, "delta" in rule)
    past, decay, beta = (node.input(index) for index in (3, 4, 5))
    operands = [_wide(node, node.input(index)) for index in range(3)]
    state = (batch, shared, keys, values)
    operands.append(const(np.zeros(state), "float32") if past is None else _wide(node, past))
    if how.gated:
        per_key = relax.op.reshape(_wide(node, decay), (batch, steps, shared, -1))
        spread = relax.op.broadcast_to(per_key, (batch, steps, shared, keys))
        operands.append(node.emit(relax.op.exp(spread)))
    if how.corrected:
        operands.append(node.emit(relax.op.broadcast_to(_wide(node, beta), (batch, steps, shared))))
    made = node.te(functools.partial(_recurrence, how), *operands, name="linear_attention")
    outputs, final = (node.emit(relax.TupleGetItem(made, index)) for index in (0, 1))
    dtypes = (node.dtype(), node.dtype() if past is None else node.dtype(3))
    return tuple(
        value if dtype == "float32" else node.emit(relax.op.astype(value, dtype))
        for value, dtype in zip((outputs, final), dtypes, strict=True)
    )


def _wide(node: Node, value: Any) -> Any:
    return value if str(value.ty.dtype) == "float32" else node.emit(relax.op.astype(value, "float32"))


def _recurrence(how: _Heads, *operands: te.Tensor) -> Sequence[te.Tensor]:
    shapes = [(how.batch, how.steps, how.heads * how.values), (how.batch, how.shared, how.keys, how.values)]
    return te.extern(  # type: ignore[no-any-return]
        shapes,
        list(operands),
        lambda ins, outs: _program(how, ins, outs),
        dtype=["float32", "float32"],
        out_buffers=[tirx.decl_buffer(shape, "float32", layout=None) for shape in shapes],
        name="linear_attention",
    )


def _program(how: _Heads, ins: Sequence[Any], outs: Sequence[Any]) -> Any:
    """All steps of each batch and each shared head; the state stays where the last one is wanted."""
    query, key, value, first, *more = (T.buffer_proxy(buffer) for buffer in ins)
    out, state = (T.buffer_proxy(buffer) for buffer in outs)
    decay = more[0] if how.gated else None
    beta = more[-1] if how.corrected else None
    with IRBuilder() as builder:
        with T.seq_scope():
            change = T.buffer_proxy(T.alloc_buffer((how.values,), "float32"))
            with T.serial(0, how.batch * how.shared) as head:
                _copy(state, first, head * how.keys * how.values, how.keys * how.values)
                with T.serial(0, how.steps) as t:
                    row = (head // how.shared * how.steps + t) * how.shared + head % how.shared
                    _step(how, head * how.keys, row, (key, value, state, change), decay, beta)
                    _read(how, head * how.keys, row, query, state, out)
        return builder.get()


def _copy(target: Any, source: Any, at: Any, count: int) -> None:
    with T.serial(0, count) as i:
        target[at + i] = source[at + i]


def _step(how: _Heads, base: Any, row: Any, operands: tuple[Any, ...], decay: Any, beta: Any) -> None:
    """state = decay * state + key (x) change, where change is the value or what of it the state does not hold yet."""
    key, value, state, change = operands
    with T.serial(0, how.values) as m:
        change[m] = T.float32(0)
    with T.serial(0, how.keys) as k:
        weight = key[row * how.keys + k]
        with T.serial(0, how.values) as m:
            at = (base + k) * how.values + m
            if how.gated:
                state[at] = state[at] * decay[row * how.keys + k]
            if how.corrected:
                change[m] = change[m] + state[at] * weight
    with T.serial(0, how.values) as m:
        given = value[row * how.values + m]
        change[m] = beta[row] * (given - change[m]) if how.corrected else given
    with T.serial(0, how.keys) as k, T.serial(0, how.values) as m:
        at = (base + k) * how.values + m
        state[at] = state[at] + key[row * how.keys + k] * change[m]


def _read(how: _Heads, base: Any, row: Any, query: Any, state: Any, out: Any) -> None:
    with T.serial(0, how.group) as g:
        head = row * how.group + g
        with T.serial(0, how.values) as m:
            out[head * how.values + m] = T.float32(0)
        with T.serial(0, how.keys) as k, T.serial(0, how.values) as m:
            weight = query[head * how.keys + k] * T.float32(how.scale)
            out[head * how.values + m] = out[head * how.values + m] + weight * state[(base + k) * how.values + m]


def causal_conv_with_state(node: Node) -> tuple[Any, ...]:
    """CausalConvWithState: each channel with its own kernel, over this step's elements and those before them."""
    batch, channels, length = node.shape()
    before, dtype = node.shape(1)[2] - 1, node.dtype()
    activation = node.text("activation", "none")
    if activation not in ("none", "silu", "swish"):
        raise Unsupported(f"the activation {activation!r}")
    past, bias = node.input(3), node.input(2)
    if past is None:
        past = const(np.zeros((batch, channels, before)), dtype)
    whole = node.emit(relax.op.concat([past, node.input(0)], 2)) if before else node.input(0)
    made = node.emit(relax.op.nn.conv1d(whole, node.input(1), groups=channels))
    if bias is not None:
        made = node.emit(relax.op.add(made, relax.op.reshape(bias, (1, channels, 1))))
    if activation != "none":
        made = node.emit(relax.op.nn.silu(made))
    return (made, node.emit(relax.op.strided_slice(whole, [2], [length], [length + before])))


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "CausalConvWithState"): causal_conv_with_state,
    ("", "LinearAttention"): linear_attention,
}
