"""What ONNX graphs tell of their inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.tuner.importers import graphs
from tuner import importers
from tuner.importers.onnx import clean_proto
from tuner.importers.onnx_uses import input_uses
from tuner.importers.use import MASKED, Use
from tuner.models import InputSpec

INT, FLOAT, BOOL = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL
node = helper.make_node


def graph(nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[int]]], **constants: Any) -> onnx.ModelProto:
    proto = graphs.model(nodes, {name: shape for name, (_, shape) in inputs.items()}, constants)
    for value in proto.graph.input:
        value.type.tensor_type.elem_type = inputs[value.name][0]
    return proto


def uses(folder: Path, proto: onnx.ModelProto) -> dict[str, Use]:
    return input_uses(clean_proto(importers.make_model_spec(graphs.save(proto, folder), None, {}, "original", 0)))


TABLE = np.zeros((50, 4), np.float32)


def ids_by(*steps: onnx.NodeProto, shape: tuple[int, ...] = (2, 8), **constants: Any) -> onnx.ModelProto:
    """`ids` through `steps`, whose last result `i` counts rows of a table."""
    nodes = [*steps, node("Gather", ["table", "i"], ["out"])]
    return graph(nodes, {"ids": (INT, list(shape))}, table=TABLE, **constants)


@pytest.mark.parametrize(
    ("proto", "low", "high"),
    [
        (ids_by(node("Identity", ["ids"], ["i"])), 0, 49),
        (ids_by(node("Add", ["ids", "two"], ["i"]), two=np.array(2)), -2, 47),
        (ids_by(node("Sub", ["ids", "two"], ["i"]), two=np.array(2)), 2, 51),
        (ids_by(node("Sub", ["last", "ids"], ["i"]), last=np.array(49)), 0, 49),
        (ids_by(node("Mul", ["ids", "two"], ["i"]), two=np.array(2)), 0, 24.5),
        (ids_by(node("Div", ["ids", "two"], ["i"]), two=np.array(2)), 0, 98),
        (ids_by(node("Add", ["ids", "steps"], ["i"]), steps=np.arange(8)), 0, 42),
        (
            ids_by(
                node("Cast", ["ids"], ["c"], to=TensorProto.INT32),
                node("Reshape", ["c", "flat"], ["r"]),
                node("Slice", ["r", "one", "nine"], ["s"]),
                node("Concat", ["s", "s"], ["k"], axis=0),
                node("Unsqueeze", ["k", "zero"], ["i"]),
                flat=np.array([-1]), one=np.array([1]), nine=np.array([9]), zero=np.array([0]),
            ),
            0, 49,
        ),
    ],
)  # fmt: skip
def test_an_index_stays_in_what_it_counts(tmp_path: Path, proto: onnx.ModelProto, low: float, high: float) -> None:
    found = uses(tmp_path, proto)["ids"]
    assert (found.low, found.high) == (low, high)


def test_clipping_and_the_rest_of_a_division_ensure_a_range(tmp_path: Path) -> None:
    clipped = ids_by(node("Clip", ["ids", "low", "high"], ["i"]), low=np.array(0), high=np.array(49))
    assert uses(tmp_path, clipped)["ids"] == Use()
    assert uses(tmp_path, ids_by(node("Mod", ["ids", "n"], ["i"]), n=np.array(50)))["ids"].high == np.inf


def softmax_of(*steps: onnx.NodeProto, kind: int, **constants: Any) -> onnx.ModelProto:
    """`m` through `steps`, whose result `s` is what a softmax is taken of."""
    nodes = [node("MatMul", ["x", "w"], ["h"]), *steps, node("Softmax", ["s"], ["out"])]
    inputs = {"x": (FLOAT, [1, 8, 16]), "m": (kind, [1, 8, 16])}
    return graph(nodes, inputs, w=np.eye(16, dtype=np.float32), **constants)


BIG, ONE, INFINITE = (np.array(value, np.float32) for value in (-1e4, 1.0, -np.inf))


@pytest.mark.parametrize(
    ("proto", "levels"),
    [
        (softmax_of(node("Where", ["m", "h", "big"], ["s"]), kind=BOOL, big=INFINITE), (1, 0)),
        (softmax_of(node("Where", ["m", "big", "h"], ["s"]), kind=BOOL, big=INFINITE), (0, 1)),
        (
            softmax_of(
                node("Not", ["m"], ["n"]), node("Where", ["n", "h", "big"], ["s"]), kind=BOOL, big=BIG
            ),
            (0, 1),
        ),
        (
            softmax_of(
                node("Equal", ["m", "zero"], ["n"]), node("Where", ["n", "big", "h"], ["s"]), kind=INT, big=BIG,
                zero=np.array(0),
            ),
            (1, 0),
        ),
        (
            softmax_of(
                node("Greater", ["m", "half"], ["n"]), node("Where", ["n", "h", "big"], ["s"]), kind=FLOAT, big=BIG,
                half=np.array(0.5, np.float32),
            ),
            (1, 0),
        ),
        (
            softmax_of(
                node("Cast", ["m"], ["f"], to=FLOAT), node("Sub", ["one", "f"], ["n"]),
                node("Mul", ["n", "big"], ["b"]), node("Add", ["h", "b"], ["s"]), kind=INT, one=ONE, big=BIG,
            ),
            (1, 0),
        ),
        (
            softmax_of(
                node("Cast", ["m"], ["f"], to=FLOAT), node("Sub", ["f", "one"], ["n"]),
                node("Mul", ["n", "big"], ["b"]), node("Add", ["h", "b"], ["s"]), kind=INT, one=ONE, big=-BIG,
            ),
            (1, 0),
        ),
        (
            softmax_of(
                node("Cast", ["m"], ["f"], to=BOOL), node("Where", ["f", "h", "big"], ["s"]), kind=INT, big=BIG
            ),
            (1, 0),
        ),
    ],
)  # fmt: skip
def test_a_mask_keeps_by_the_value_that_its_graph_takes(
    tmp_path: Path, proto: onnx.ModelProto, levels: tuple[int, int]
) -> None:
    found = uses(tmp_path, proto)["m"]
    assert found.levels == levels
    model_spec = {"uses": {"m": found.to_json()}}
    dtype = helper.tensor_dtype_to_np_dtype(proto.graph.input[1].type.tensor_type.elem_type)
    specs = [InputSpec("x", (1, 8, 16), "float32"), InputSpec("m", (1, 8, 16), str(dtype))]
    [out] = graphs.by_onnxruntime(proto, importers.model_inputs(specs, model_spec, 0))
    assert np.isfinite(out).all(), "no row is wholly masked"
    assert (out == 0).any(), "some elements are"


def test_an_additive_mask_is_known_by_its_name(tmp_path: Path) -> None:
    proto = softmax_of(node("Add", ["h", "m"], ["s"]), kind=FLOAT)
    found = uses(tmp_path, proto)["m"]
    [mask] = importers.model_inputs([InputSpec("mask", (2, 9), "float32")], {"uses": {"mask": found.to_json()}}, 0)
    assert set(np.unique(mask)) == {0, MASKED}


@pytest.mark.parametrize(
    ("op", "low"), [("Log", 0.1), ("Sqrt", 0.0), ("Reciprocal", 0.1)],
)  # fmt: skip
def test_what_a_root_or_a_logarithm_is_taken_of_is_positive(tmp_path: Path, op: str, low: float) -> None:
    assert uses(tmp_path, graph([node(op, ["x"], ["out"])], {"x": (FLOAT, [2, 8])}))["x"].low == low


def test_divisors_bases_and_shares_are_in_range(tmp_path: Path) -> None:
    divided = graph([node("Div", ["x", "y"], ["out"])], {"x": (FLOAT, [2, 8]), "y": (FLOAT, [2, 8])})
    assert uses(tmp_path, divided)["y"].low > 0
    raised = graph([node("Pow", ["x", "half"], ["out"])], {"x": (FLOAT, [2, 8])}, half=np.array(0.5, np.float32))
    assert uses(tmp_path, raised)["x"].low > 0
    squared = graph([node("Pow", ["x", "two"], ["out"])], {"x": (FLOAT, [2, 8])}, two=np.array(2, np.float32))
    assert uses(tmp_path, squared)["x"] == Use()
    entropy = [node("Log", ["x"], ["a"]), node("Sub", ["one", "x"], ["n"]), node("Log", ["n"], ["b"]),
               node("Add", ["a", "b"], ["out"])]  # fmt: skip
    share = uses(tmp_path, graph(entropy, {"x": (FLOAT, [2, 8])}, one=ONE))["x"]
    assert (share.low, share.high) == pytest.approx((0.1, 0.9))


def test_lengths_stay_within_their_axis_and_indices_apart(tmp_path: Path) -> None:
    lengths = [node("Less", ["steps", "n"], ["m"]), node("Where", ["m", "x", "zero"], ["out"])]
    proto = graph(lengths, {"x": (FLOAT, [2, 8]), "n": (INT, [2, 1])}, steps=np.arange(8), zero=np.array(0, np.float32))
    found = uses(tmp_path, proto)["n"]
    assert (found.low, found.high) == (1, 8)
    scattered = graph(
        [node("ScatterND", ["x", "i", "u"], ["out"])],
        {"x": (FLOAT, [4, 5, 6]), "i": (INT, [3, 2]), "u": (FLOAT, [3, 6])},
    )
    assert uses(tmp_path, scattered)["i"] == Use(0, 3, columns=(4, 5), distinct=True)
    few = graph([node("TopK", ["x", "k"], ["out", "i"])], {"x": (FLOAT, [2, 8]), "k": (INT, [1])})
    assert (uses(tmp_path, few)["k"].low, uses(tmp_path, few)["k"].high) == (1, 8)


def test_a_graph_inside_a_graph_tells_of_what_it_sees(tmp_path: Path) -> None:
    def body(name: str, made: str, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(made, FLOAT, [2, 8, 4])])

    either = node(
        "If", ["c"], ["out"],
        then_branch=body("then", "t", [node("Gather", ["table", "ids"], ["t"])]),
        else_branch=body("else", "e", [node("Gather", ["table", "ids"], ["g"]), node("Neg", ["g"], ["e"])]),
    )  # fmt: skip
    proto = graph([either], {"c": (BOOL, []), "ids": (INT, [2, 8])}, table=TABLE)
    found = uses(tmp_path, proto)
    assert (found["ids"].low, found["ids"].high) == (0, 49)
