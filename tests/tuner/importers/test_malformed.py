"""Broken and hostile models: each is one ModelError that names the file and what is wrong with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.tuner.importers import graphs
from tuner import importers
from tuner.errors import ModelError

Make = Callable[[Path], object]


def _write(content: bytes) -> Make:
    return lambda folder: (folder / "model.onnx").write_bytes(content)


def _graph(*arguments: object, **named: object) -> Make:
    return lambda folder: graphs.save(graphs.model(*arguments, **named), folder)  # type: ignore[arg-type]


def _truncated(folder: Path) -> None:
    whole = graphs.conv_net().SerializeToString()
    (folder / "model.onnx").write_bytes(whole[: len(whole) // 2])


def _external(location: str, *, offset: str = "0", length: str | None = None, prepare: Make | None = None) -> Make:
    def make(folder: Path) -> None:
        proto = graphs.model(
            [helper.make_node("Add", ["x", "w"], ["out"])], {"x": [1, 4]}, {"w": np.ones(4, np.float32)}
        )
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            if value is not None:
                tensor.external_data.add(key=key, value=value)
        (folder.parent / "secret.bin").write_bytes(bytes(16))
        (folder / "data.bin").write_bytes(bytes(16))
        if prepare:
            prepare(folder)
        graphs.save(proto, folder)

    return make


def _cyclic(folder: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Add", ["a", "x"], ["b"]),
             helper.make_node("Add", ["a", "b"], ["out"])]  # fmt: skip
    graphs.save(graphs.model(nodes, {"x": [1, 4]}), folder)


def _lying_initializer(folder: Path) -> None:
    proto = graphs.conv_net()
    proto.graph.initializer[0].dims[:] = [2**20, 2**15, 3, 3]
    graphs.save(proto, folder)


def _custom(folder: Path) -> None:
    proto = graphs.model([helper.make_node("FusedMatMul", ["x", "x"], ["out"], domain="com.example")], {"x": [4, 4]})
    proto.opset_import.add(domain="com.example", version=1)
    graphs.save(proto, folder)


RELU = helper.make_node("Relu", ["x"], ["out"])


def _without_shape(folder: Path) -> None:
    proto = graphs.model([RELU], {"x": [1]})
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    graphs.save(proto, folder)


def _sequence_input(folder: Path) -> None:
    proto = graphs.model([RELU], {"x": [1]})
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [1]))
    proto.graph.input[0].CopyFrom(helper.make_value_info("x", kind))
    graphs.save(proto, folder)


def _no_text(folder: Path) -> None:
    content = graphs.model([RELU], {"only_input": [1, 4]}).SerializeToString()
    (folder / "model.onnx").write_bytes(content.replace(b"only_input", b"only\xff\xfenput"))


SHAPE = {"shape": np.array([2**16, 2**16])}

CASES: dict[str, tuple[Make, str]] = {
    "not a tensor": (_sequence_input, "input 'x' is not a tensor of numbers"),
    "a tensor of no known type": (_graph([RELU], {"x": [1]}, dtype=65), "input 'x' is not a tensor of numbers"),
    "text input": (_graph([RELU], {"x": [1]}, dtype=onnx.TensorProto.STRING), "input 'x' is not|do not fit"),
    "missing": (lambda folder: None, "no such file"),
    "a folder": (lambda folder: (folder / "model.onnx").mkdir(), "is a folder"),
    "a pipe": (lambda folder: os.mkfifo(folder / "model.onnx"), "not a regular file"),
    "empty": (_write(b""), "empty"),
    "text": (_write(b"# not a model\n" * 20), "not an ONNX file"),
    "zeros": (_write(bytes(100)), "not an ONNX file|no ONNX graph"),
    "names that are no text": (_no_text, "not UTF-8"),
    "truncated": (_truncated, "not an ONNX file|not a valid"),
    "no graph": (_write(onnx.ModelProto(ir_version=8).SerializeToString()), "no ONNX graph"),
    "a cycle": (_cyclic, "not a valid ONNX model"),
    "unknown operator": (_graph([helper.make_node("Frobnicate", ["x"], ["out"])], {"x": [1, 4]}), "Frobnicate"),
    "operator TVM lacks": (
        _graph([helper.make_node("RandomUniformLike", ["x"], ["out"])], {"x": [1, 4]}),
        "operator RandomUniformLike",
    ),
    "operator TVM cannot convert": (
        _graph([helper.make_node("TopK", ["x", "k"], ["out", "where"])], {"x": [1, 4]}, {"k": np.array([[2]])}),
        "TopK|do not fit",
    ),
    "custom domain": (_custom, "com.example.FusedMatMul"),
    "unfit shapes": (
        _graph([helper.make_node("MatMul", ["x", "w"], ["out"])], {"x": [1, 4]}, {"w": np.ones((5, 2), np.float32)}),
        "do not fit together",
    ),
    "dynamic input": (_graph([RELU], {"x": ["batch", 3, "height", None]}), "input 'x'.*height.*\n.*model.inputs.x"),
    "unknown rank": (
        _without_shape,
        "not a valid ONNX model.*shape",
    ),
    "huge initializer": (_lying_initializer, "w1.*\n.*2\\*\\*31"),
    "huge constant": (
        _graph([helper.make_node("ConstantOfShape", ["shape"], ["c"]), helper.make_node("Add", ["x", "c"], ["out"])],
               {"x": [1, 1]}, SHAPE),
        "tensor 'c'.*\n.*2\\*\\*31",
    ),
    "huge activation": (
        _graph([helper.make_node("Expand", ["x", "shape"], ["y"]), helper.make_node("Relu", ["y"], ["out"])],
               {"x": [1, 1]}, SHAPE),
        "tensor 'y'.*\n.*2\\*\\*31",
    ),
    "huge input": (_graph([RELU], {"x": [1, 2**20, 2**20]}), "tensor 'x'"),
    "external: absolute": (_external("/etc/passwd"), "'/etc/passwd'.*leaves"),
    "external: parent": (_external("../secret.bin"), "leaves"),
    "external: hidden parent": (_external("data/../../secret.bin"), "leaves"),
    "external: backslashes": (_external("..\\secret.bin"), "leaves"),
    "external: drive": (_external("C:\\secret.bin"), "leaves"),
    "external: link": (
        _external("link.bin", prepare=lambda folder: (folder / "link.bin").symlink_to(folder.parent / "secret.bin")),
        "is a link",
    ),
    "external: linked folder": (
        _external("sub/secret.bin", prepare=lambda folder: (folder / "sub").symlink_to(folder.parent)),
        "is a link",
    ),
    "external: missing": (_external("nowhere.bin"), "does not exist"),
    "external: folder": (_external("."), "not a regular file"),
    "external: short": (_external("data.bin", offset="8"), "16 bytes at 8"),
    "external: long": (_external("data.bin", length="99999999999"), "are not in its external data"),
    "external: not a number": (_external("data.bin", offset="x"), "not a number"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_clear_error(case: str, tmp_path: Path) -> None:
    make, words = CASES[case]
    folder = tmp_path / "models"
    folder.mkdir()
    make(folder)
    source = f"onnx:{folder / 'model.onnx'}"
    begun = time.process_time()
    with pytest.raises(ModelError, match=words) as caught:
        importers.load(source, 1, {}, "random", 0)
    assert caught.value.source == source
    assert caught.value.exit_code == 2
    assert len(str(caught.value).splitlines()) <= 2
    assert time.process_time() - begun < 10, "it went on reading or importing"


def test_external_data_inside_the_folder_is_read(tmp_path: Path) -> None:
    _external("data.bin", prepare=lambda folder: (folder / "data.bin").write_bytes(np.arange(4, dtype="f4").tobytes()))(
        tmp_path
    )
    proto = importers.onnx_bytes(importers.make_model_spec(f"onnx:{tmp_path / 'model.onnx'}", 1, {}, "original", 0))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(proto.graph.initializer[0]), np.arange(4))


@pytest.mark.parametrize(
    ("source", "batch", "inputs", "weights", "words"),
    [
        ("resnet50", 1, {}, "random", "onnx: or torch:"),
        ("keras:resnet", 1, {}, "random", "no importer for 'keras'"),
        ("onnx:", 1, {}, "random", "not a model source"),
        ("onnx:light_resnet51", 1, {}, "random", "light_resnet50"),
        ("onnx:light_squeezenet", 0, {}, "random", "batch of 0"),
        ("onnx:light_squeezenet", 1, {"data": (1, 3, 224, 224)}, "random", "did you mean 'data_0'"),
        ("onnx:light_squeezenet", 1, {"data_0": (1, 3, 224)}, "random", "3 dimensions, the model has 4"),
        ("onnx:light_squeezenet", 1, {"data_0": (1, 4, 224, 224)}, "random", "operator Conv"),
        ("onnx:light_squeezenet", 1, {"data_0": (1, 3, -1, 224)}, "random", "no extent is negative"),
        (
            "onnx:light_squeezenet",
            2,
            {"data_0": (1, 3, 224, 224)},
            "random",
            r"write model.inputs.data_0: \[2, 3, 224, 224\]",
        ),
        ("onnx:light_squeezenet", 1, {}, "trained", "random or original"),
    ],
)
def test_senseless_requests(
    source: str, batch: int, inputs: dict[str, tuple[int, ...]], weights: str, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        importers.load(source, batch, inputs, weights, 0)
