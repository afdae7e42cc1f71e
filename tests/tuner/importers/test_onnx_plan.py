"""What of a model is tuned, what stays with ONNX Runtime and why, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.tuner.importers.graphs import save
from tests.tuner.importers.islands import ALL, IMAGES, model, value, weights
from tuner import importers
from tuner.errors import MissingPackage, ModelError
from tuner.importers.onnx_relax import CONVERTERS
from tuner.importers.onnx_relax.node import Unsupported
from tuner.models import ImportedModel
from tuner.process.worker import Child

TUNED = "tuned"


def load(proto: onnx.ModelProto, folder: Path) -> ImportedModel:
    onnx.checker.check_model(proto)
    return importers.load(save(proto, folder), None, {}, "original", 0)


def order(found: ImportedModel) -> list[str]:
    """The parts in order: TUNED, or the operators that made an island."""
    assert found.plan is not None
    return [
        TUNED if segment.island is None else ", ".join(node.operator for node in segment.nodes if not node.follows)
        for segment in found.plan.segments
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("detector", [TUNED, "NonMaxSuppression"]),
        ("positions", [TUNED, "NonZero", TUNED]),
        ("branches", [TUNED, "If", TUNED]),
        ("refined", [TUNED, "Loop", TUNED]),
        ("sequences", [TUNED, "SplitToSequence, SequenceAt", TUNED]),
        ("words", ["ai.onnx.ml.LabelEncoder, ai.onnx.ml.Scaler", TUNED, "Gather, ai.onnx.ml.ZipMap"]),
    ],
)
def test_what_is_around_an_island_is_tuned(name: str, expected: list[str], tmp_path: Path) -> None:
    found = load(ALL[name](), tmp_path)
    assert order(found) == expected
    assert found.plan is not None
    main, tuned = found.module["main"], found.plan.tuned
    assert len(main.params) == sum(len(segment.inputs) for segment in tuned)
    known = {spec.name for spec in found.inputs}
    for segment in found.plan.segments:
        assert known.issuperset(segment.inputs)
        known.update(segment.outputs)
        if segment.island is not None:
            onnx.checker.check_model(onnx.load_from_string(segment.island))
    assert known.issuperset(spec.name for spec in found.plan.outputs)


def test_reasons_name_the_node_and_what_follows_from_it(tmp_path: Path) -> None:
    plan = load(ALL["detector"](), tmp_path).plan
    assert plan is not None
    first, *others = map(str, plan.segments[1].nodes)
    assert first == "NonMaxSuppression of node 'nms': the shape of 'chosen' depends on the data"
    assert all("is known only when the model runs" in reason or "too small" in reason for reason in others)
    assert [(spec.name, spec.shape, spec.dtype) for spec in plan.outputs] == [
        ("picked", (None, 4), "float32"), ("chosen", (None, 3), "int64"), ("scores", (1, 2, 64), "float32"),
    ]  # fmt: skip


def test_a_model_without_islands_has_no_plan(tmp_path: Path) -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [4])], [value("y", [4])], {})
    assert load(proto, tmp_path).plan is None


_EMPTY: dict[str, Any] = {}
_NONZERO = helper.make_node("NonZero", ["x"], ["y"], name="nz")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([_NONZERO], "operator NonZero of node 'nz' is not supported: the shape of 'y' depends on the data"),
        (
            [helper.make_node("Reshape", ["x", "s"], ["r"]), helper.make_node("NonZero", ["r"], ["y"])],
            "operator NonZero of the node that makes 'y'",
        ),
        (
            [helper.make_node("NonZero", ["x"], ["n"]), helper.make_node("Neg", ["n"], ["y"])],
            "operator NonZero of the node that makes 'n'",
        ),
    ],
)
def test_without_anything_to_tune_a_model_is_refused_by_name(
    nodes: list[onnx.NodeProto], words: str, tmp_path: Path
) -> None:
    stored = {"s": np.array([4, 2])} if len(nodes[0].input) > 1 else _EMPTY
    proto = model(nodes, [value("x", [2, 4])], [value("y", [2, None], TensorProto.INT64)], stored)
    with pytest.raises(ModelError, match=words) as caught:
        importers.load(save(proto, tmp_path), None, {}, "original", 0)
    assert "no part of the model is left that can be tuned" in caught.value.hint


def _with_softplus() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Softplus", ["c"], ["s"], name="soft"),
        helper.make_node("Conv", ["s", "v"], ["y"]),
    ]
    stored = {"w": weights(8, 3, 3, 3), "v": weights(8, 8, 3, 3)}
    return model(nodes, [value("x", [1, 3, 12, 12])], [value("y", IMAGES)], stored)


def test_what_a_converter_refuses_is_an_island(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(node: Any) -> Any:
        raise Unsupported("not this form of it")

    monkeypatch.setitem(CONVERTERS, ("", "Softplus"), refuse)
    found = load(_with_softplus(), tmp_path)
    assert order(found) == [TUNED, "Softplus", TUNED]
    assert found.plan is not None
    assert str(found.plan.segments[1].nodes[0]) == "Softplus of node 'soft': not this form of it"


def test_what_onnxruntime_refuses_as_well_is_an_error(tmp_path: Path) -> None:
    proto = _with_softplus()
    with pytest.raises(ModelError, match="operator Conv of the node that makes 'c'"):
        importers.load(save(proto, tmp_path), None, {"x": (1, 4, 12, 12)}, "original", 0)


class Importing:
    """A service whose child imports a model: ONNX Runtime is asked there."""

    def op_order(self, path: str) -> list[str]:
        return order(importers.load(f"onnx:{path}", None, {}, "original", 0))


def test_children_import_models_too(tmp_path: Path) -> None:
    source = save(ALL["words"](), tmp_path)
    with Child(f"{__name__}:Importing") as child:
        found = child.call("order", 120.0, path=source.removeprefix("onnx:"))
    assert found == order(importers.load(source, None, {}, "original", 0))


def test_types_that_numpy_has_not_are_not_handed_over(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Cast", ["y"], ["narrow"], to=TensorProto.BFLOAT16),
        helper.make_node("Mul", ["narrow", "narrow"], ["square"]),
        helper.make_node("NonZero", ["square"], ["where"], name="nz"),
    ]
    outputs = [value("where", [2, None], TensorProto.INT64)]
    proto = model(nodes, [value("x", [4, 4])], outputs, {"w": weights(4, 4)})
    with pytest.raises(ModelError, match="NonZero of node 'nz'") as caught:
        importers.load(save(proto, tmp_path), None, {}, "original", 0)
    assert "'square' would be handed from part to part in bfloat16" in caught.value.hint


def test_without_onnxruntime_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match="onnxruntime"):
        load(ALL["positions"](), tmp_path)


def test_outputs_that_are_constants_or_inputs(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("NonZero", ["y"], ["where"])]
    outputs = [value("where", [2, None], TensorProto.INT64), value("w", [4, 4]), value("x", [4, 4])]
    found = load(model(nodes, [value("x", [4, 4])], outputs, {"w": weights(4, 4)}), tmp_path)
    assert found.plan is not None
    assert [spec.name for spec in found.plan.outputs] == ["where", "w", "x"]
    assert "w" in found.plan.segments[1].outputs
    assert "a constant" in {node.reason for node in found.plan.segments[1].nodes}


def test_texts_are_drawn_from_those_in_the_model(tmp_path: Path) -> None:
    found = load(ALL["words"](), tmp_path)
    drawn = importers.model_inputs(found.inputs, found.model_spec, 0)[0]
    assert drawn.shape == (4, 4)
    assert set(drawn.flat) <= {"a", "b", "ü", "cat", "dog", "übel"}
    assert len(set(drawn.flat)) > 1
