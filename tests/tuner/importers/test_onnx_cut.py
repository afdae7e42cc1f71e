"""Cutting graphs into parts: every node once, in an order in which the parts can run, with the same values."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.tuner.importers.graphs import by_onnxruntime, close
from tests.tuner.importers.islands import model, value
from tuner.importers.onnx_cut import cut, drop_unread
from tuner.importers.onnx_parts import Part, island, parts_of, side_by_side
from tuner.importers.onnx_shapes import infer, known_shapes

_ONE = ("Relu", "Neg", "Exp", "Identity")
_TWO = ("Add", "Mul", "Max", "MatMul")
_EXTENT = 4


@st.composite
def graphs(draw: st.DrawFn) -> tuple[onnx.ModelProto, set[int]]:
    """A graph of operators with one or two operands, all of one shape, and the numbers of nodes that are kept out."""
    count = draw(st.integers(1, 12))
    names = ["x", "z", "stored"]
    nodes = []
    for number in range(count):
        operator = draw(st.sampled_from((*_ONE, *_TWO)))
        operands = [draw(st.sampled_from(names)) for _ in range(1 if operator in _ONE else 2)]
        nodes.append(helper.make_node(operator, operands, [f"v{number}"], name=f"n{number}"))
        names.append(f"v{number}")
    made = [f"v{number}" for number in range(count)]
    outputs = sorted({made[-1], *draw(st.lists(st.sampled_from(made), max_size=3))})
    shape = [_EXTENT, _EXTENT]
    stored = np.linspace(-1, 1, _EXTENT**2, dtype=np.float32).reshape(shape)
    proto = model(
        nodes, [value("x", shape), value("z", shape)], [value(name, shape) for name in outputs], {"stored": stored}
    )
    infer(proto)
    drop_unread(proto.graph)
    return proto, set(draw(st.lists(st.integers(0, len(proto.graph.node) - 1))))


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_parts_have_every_node_once_and_can_run_in_their_order(drawn: tuple[onnx.ModelProto, set[int]]) -> None:
    proto, out = drawn
    cuts = cut(proto.graph, out, known_shapes(proto.graph))
    assert sorted(number for part in cuts for number in part.nodes) == list(range(len(proto.graph.node)))
    assert all(out.isdisjoint(part.nodes) for part in cuts if part.tuned)
    assert all(one.tuned != other.tuned for one, other in itertools.pairwise(cuts))
    known = {"x", "z", "stored"}
    for part in cuts:
        for number in part.nodes:
            assert known.issuperset(proto.graph.node[number].input)
            known.update(proto.graph.node[number].output)


@settings(max_examples=25, deadline=None)
@given(graphs())
def test_parts_run_one_after_the_other_give_the_values_of_the_whole(drawn: tuple[onnx.ModelProto, set[int]]) -> None:
    proto, out = drawn
    rng = np.random.default_rng(0)
    inputs = [rng.uniform(-0.5, 0.5, (_EXTENT, _EXTENT)).astype(np.float32) for _ in range(2)]
    expected = by_onnxruntime(proto, inputs)
    parts = parts_of(proto.graph, cut(proto.graph, out, known_shapes(proto.graph)))
    values: dict[str, Any] = dict(zip(("x", "z"), inputs, strict=True))
    for part in parts:
        made = by_onnxruntime(onnx.load_from_string(island(proto, part, {})), [values[name] for name in part.inputs])
        values.update(zip(part.outputs, made, strict=True))
    wanted = [values[output.name] for output in proto.graph.output]
    if all(np.isfinite(array).all() for array in expected):
        close(wanted, expected, 1e-5)
    _together(proto, [part for part in parts if part.cut.tuned], values)


def _together(proto: onnx.ModelProto, tuned: list[Part], values: dict[str, Any]) -> None:
    """The tuned parts side by side make what each made by itself."""
    if not tuned:
        return
    both = side_by_side(proto, tuned)
    onnx.checker.check_model(both)
    assert len({given.name for given in both.graph.input}) == sum(len(part.inputs) for part in tuned)
    made = by_onnxruntime(both, [values[name] for part in tuned for name in part.inputs])
    for got, name in zip(made, (name for part in tuned for name in part.outputs), strict=True):
        np.testing.assert_allclose(got, values[name], rtol=1e-5)


def _chain(*operators: str) -> onnx.ModelProto:
    """Operators after one another on a matrix."""
    nodes, last = [], "x"
    for number, operator in enumerate(operators):
        operands = [last, "w"] if operator == "MatMul" else [last, "s"] if operator == "Reshape" else [last]
        nodes.append(helper.make_node(operator, operands, [f"v{number}"]))
        last = f"v{number}"
    stored = {"w": np.eye(64, dtype=np.float32), "s": np.array([64, 64])}
    proto = model(nodes, [value("x", [64, 64])], [value(last, [64, 64])], stored)
    infer(proto)
    return proto


@pytest.mark.parametrize(
    ("operators", "out", "expected"),
    [
        (("MatMul", "Sin", "MatMul"), {1}, [(True, (0,)), (False, (1,)), (True, (2,))]),
        (("Relu", "Sin", "MatMul"), {1}, [(False, (0, 1)), (True, (2,))]),  # too little to be worth a crossing
        (("MatMul", "Sin", "Relu", "Sin", "MatMul"), {1, 3}, [(True, (0,)), (False, (1, 2, 3)), (True, (4,))]),
        (("MatMul", "Reshape", "Sin"), {2}, [(True, (0,)), (False, (1, 2))]),  # a view goes where it is read
        (("Relu", "Sin"), {1}, [(True, (0,)), (False, (1,))]),  # little is worth it where there is no more
        (("Reshape", "Sin"), {1}, [(False, (0, 1))]),
        (("MatMul", "Relu"), set(), [(True, (0, 1))]),
    ],
)
def test_what_is_worth_a_part(operators: tuple[str, ...], out: set[int], expected: list[Any]) -> None:
    proto = _chain(*operators)
    cuts = cut(proto.graph, out, known_shapes(proto.graph))
    assert [(part.tuned, part.nodes) for part in cuts] == expected
