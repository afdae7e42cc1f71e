"""If, Loop and Scan that are known at import, checked against ONNX Runtime; what is not known is refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.tuner.importers import graphs
from tests.tuner.importers.onnx_relax.running import by_converter, by_runtime
from tuner import importers
from tuner.importers.onnx import clean_proto, load

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def _value(name: str, shape: tuple[int, ...] = (3, 4), kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: list[onnx.NodeProto],
    stored: Mapping[str, object],
    outputs: dict[str, tuple[int, ...]],
    inputs: tuple[onnx.ValueInfoProto, ...] = (_value("x"),),
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "control",
        list(inputs),
        [_value(name, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _check(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The cleaned model, which must answer as ONNX Runtime answers for the first one."""
    spec = importers.make_model_spec(graphs.save(model, folder), 3, {}, "original", 0)
    cleaned = clean_proto(spec)
    for right, made in zip(by_runtime(model, {"x": X}), by_converter(cleaned, {"x": X}), strict=True):
        assert made.shape == right.shape
        np.testing.assert_allclose(made, right, rtol=1e-5, atol=1e-6)
    return cleaned


def _if(condition: str, operators: tuple[str, str] = ("Relu", "Neg"), captured: str = "x") -> onnx.NodeProto:
    """Both branches give the same names to what they compute."""
    branches = [
        helper.make_graph(
            [helper.make_node("Identity", [captured], ["same"]), helper.make_node(operator, ["same"], ["t"])],
            operator,
            [],
            [_value("t")],
        )
        for operator in operators
    ]
    return helper.make_node("If", [condition], ["y"], then_branch=branches[0], else_branch=branches[1])


@pytest.mark.parametrize("taken", [True, False])
def test_a_stored_condition_chooses(taken: bool, tmp_path: Path) -> None:
    cleaned = _check(_model([_if("c")], {"c": np.array(taken)}, {"y": (3, 4)}), tmp_path)
    assert cleaned.graph.node[0].op_type == ("Relu" if taken else "Neg")


def test_a_condition_on_a_shape_chooses(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["extent"]),
        helper.make_node("Equal", ["extent", "four"], ["c"]),
        _if("c"),
    ]
    cleaned = _check(_model(nodes, {"one": np.array(1), "four": np.array(4)}, {"y": (3, 4)}), tmp_path)
    assert "If" not in {node.op_type for node in cleaned.graph.node}


def test_branches_read_through_a_removed_identity(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["same_x"]), _if("c", captured="same_x")]
    _check(_model(nodes, {"c": np.array(False)}, {"y": (3, 4)}), tmp_path)


def test_a_condition_on_the_data_is_not_tuned(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["c"]),
        _if("c"),
    ]
    source = graphs.save(_model(nodes, {"zero": np.array(0, np.float32)}, {"y": (3, 4)}), tmp_path)
    plan = load(importers.make_model_spec(source, 3, {}, "original", 0)).plan
    assert plan is not None
    [node] = plan.segments[-1].nodes
    assert re.match(r"If of the node that makes 'y'.*not known at import", str(node))


@pytest.mark.parametrize("opset", [11, 17])
def test_loops_of_a_stored_count_are_unrolled(opset: int, tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes"]),
            helper.make_node("Mul", ["state", "half"], ["scaled"]),
            helper.make_node("Add", ["scaled", "x"], ["next"]),
            helper.make_node("Neg", ["next"], ["row"]),
        ],
        "body",
        [_value("i", (), TensorProto.INT64), _value("go", (), TensorProto.BOOL), _value("state")],
        [_value("goes", (), TensorProto.BOOL), _value("next"), _value("row")],
        [numpy_helper.from_array(np.array(0.5, np.float32), "half")],
    )
    node = helper.make_node("Loop", ["n", "c", "x"], ["y", "rows"], body=body)
    stored = {"n": np.array(3, np.int64), "c": np.array(True)}
    cleaned = _check(_model([node], stored, {"y": (3, 4), "rows": (3, 3, 4)}, opset=opset), tmp_path)
    assert [node.op_type for node in cleaned.graph.node].count("Mul") == 3
    assert sum(tensor.name.endswith("half") for tensor in cleaned.graph.initializer) == 1


def test_scans_run_over_any_axis_and_backwards(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "slice"], ["next"]), helper.make_node("Identity", ["next"], ["row"])],
        "body",
        [_value("state", (3,)), _value("slice", (3,))],
        [_value("next", (3,)), _value("row", (3,))],
    )
    node = helper.make_node(
        "Scan",
        ["zero", "x"],
        ["last", "rows"],
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_input_directions=[1],
        scan_output_axes=[1],
    )
    _check(_model([node], {"zero": np.zeros(3, np.float32)}, {"last": (3,), "rows": (3, 4)}), tmp_path)
