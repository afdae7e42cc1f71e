"""One ONNX node, computed by what its converter makes and by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tvm
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from tvm import relax
from tvm.target import Target

from tuner.graph.clean import clean
from tuner.importers.onnx_relax.importer import to_relax

Value = NDArray[Any]


def one_node(
    operator: str,
    inputs: Sequence[Value | None],
    constants: Sequence[int] = (),
    outputs: int = 1,
    opset: int = 17,
    domain: str = "",
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, Value]]:
    """A model of one node, and what its inputs are given. `constants`: which inputs are stored in the model."""
    names = ["" if value is None else f"x{index}" for index, value in enumerate(inputs)]
    made = [f"y{index}" for index in range(outputs)]
    node = helper.make_node(operator, names, made, domain=domain, **attributes)
    given = {name: np.asarray(value) for name, value in zip(names, inputs, strict=True) if value is not None}
    stored = [names[index] for index in constants]
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in given.items()
            if name not in stored
        ],
        [helper.make_empty_tensor_value_info(name) for name in made],
        [numpy_helper.from_array(given[name], name) for name in stored],
    )
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return model, {name: value for name, value in given.items() if name not in stored}


def by_runtime(model: onnx.ModelProto, feeds: dict[str, Value]) -> list[Value]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds)]


def by_converter(model: onnx.ModelProto, feeds: dict[str, Value], cleaned: bool = True) -> list[Value]:
    """What the untuned build answers."""
    module = to_relax(model, "one")
    target = Target("llvm")
    with target, tvm.transform.PassContext(opt_level=3):
        module = relax.backend.DispatchSortScan()(clean(module) if cleaned else module)
        built = relax.build(module, target=target)
    machine = relax.VirtualMachine(built, tvm.cpu())
    made = machine["main"](*[tvm.runtime.tensor(value) for value in feeds.values()])
    return [made.numpy()] if hasattr(made, "numpy") else [value.numpy() for value in made]


def check(
    operator: str, inputs: Sequence[Value | None], *args: Any, rtol: float = 1e-5, atol: float = 1e-5, **kwargs: Any
) -> None:
    """Raises AssertionError where the two answers differ in dtype, shape or value."""
    model, feeds = one_node(operator, inputs, *args, **kwargs)
    expected, made = by_runtime(model, feeds), by_converter(model, feeds)
    assert len(expected) == len(made)
    for right, value in zip(expected, made, strict=True):
        assert (value.dtype, value.shape) == (right.dtype, right.shape)
        if right.dtype.kind == "f":
            np.testing.assert_allclose(value.astype(np.float64), right.astype(np.float64), rtol=rtol, atol=atol)
        else:
            np.testing.assert_array_equal(value, right)
