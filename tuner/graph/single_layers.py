"""Each layer of a model by itself, in one precision: to be timed before it is decided in what the layers compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call

from tuner.graph.layers import recomputed
from tuner.graph.lower import Lowered, is_call_tir
from tuner.graph.narrow import narrow_constant
from tuner.graph.rewriter import Array, array_of, constant_of, op_name, shape_of
from tuner.precisions import FLOATS, INT8


def alike(calls: Sequence[Call]) -> list[int]:
    """For each layer the number of the first that computes the same on other weights."""
    first: dict[str, int] = {}
    return [first.setdefault(_signature(call), number) for number, call in enumerate(calls)]


def _signature(call: Call) -> str:
    return f"{op_name(call)} {shape_of(call.args[0])} {shape_of(call.args[1])} {call.attrs}"


def single_layers(calls: Sequence[Call], precision: str, data_bytes: str = "uint8") -> tvm.IRModule:
    """A module whose `main` takes the data of each layer, and returns what each gives, in float32. `data_bytes`: the
    type of quantized data."""
    builder = relax.BlockBuilder()
    dtype = data_bytes if precision == INT8 else precision
    params = [
        relax.Var(f"x{number}", relax.TensorType(shape_of(call.args[0]), dtype)) for number, call in enumerate(calls)
    ]
    with builder.function("main", params, attrs={"num_input": len(params)}):
        with builder.dataflow():
            made = [_layer(builder, call, x, precision) for call, x in zip(calls, params, strict=True)]
            result = builder.emit_output(relax.Tuple(made))
        builder.emit_func_output(result)
    return builder.finalize()


def _layer(builder: relax.BlockBuilder, call: Call, data: Any, precision: str) -> Any:
    sums = "int32" if precision == INT8 else "float32"
    weight = _narrow(np.asarray(array_of(call.args[1])), precision)
    made = builder.emit(recomputed(call, data, weight, sums))
    if precision == INT8:
        shape = shape_of(call)
        one_each = shape[-1:] if op_name(call) == "relax.matmul" else (1, shape[1], *([1] * (len(shape) - 2)))
        made = builder.emit(relax.op.astype(made, "float32"))
        made = builder.emit(relax.op.multiply(made, constant_of(np.full(one_each, 0.01, np.float32))))
    return made


def _narrow(weight: Array, precision: str) -> Any:
    if precision in FLOATS:
        return narrow_constant(weight, precision)
    if precision == INT8:
        return constant_of(np.clip(np.rint(weight * (127 / max(float(np.abs(weight).max()), 1e-30))), -127, 127)
                           .astype(np.int8))  # fmt: skip
    return constant_of(weight)


def kernels_of(lowered: Lowered) -> list[str]:
    """The workload key of the kernel with most arithmetic behind each output of lowered single layers."""
    main = lowered.module["main"]
    made = {b.var: b.value for block in main.body.blocks for b in block.bindings}
    flops = {task.key: task.workload.flops for task in lowered.tasks}
    result = made.get(main.body.body, main.body.body)
    fields = result.fields if isinstance(result, relax.Tuple) else [result]
    return [
        max(_behind(field, made, lowered.kernels), key=lambda key: flops.get(key, 0.0), default="") for field in fields
    ]


def _behind(value: Any, made: Mapping[Any, Any], kernels: Mapping[str, str]) -> list[str]:
    """The keys of the kernels that a value is made by."""
    call = made.get(value)
    if isinstance(call, relax.Var):
        return _behind(call, made, kernels)
    if not isinstance(call, Call):
        return []
    if not is_call_tir(call):  # a view
        return [key for argument in call.args for key in _behind(argument, made, kernels)]
    own = [kernels[call.args[0].name_hint]] if call.args[0].name_hint in kernels else []
    return own + [key for argument in call.args[1].fields for key in _behind(argument, made, kernels)]
