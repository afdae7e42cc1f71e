"""What is refused before anything is imported, and a model quantized for a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tuner import importers
from tuner.commands import precision
from tuner.config import ModelConfig, RunConfig
from tuner.devices.target import ResolvedTarget
from tuner.errors import ConfigError, ModelError
from tuner.models import ImportedModel
from tuner.progress import Progress

SOURCE = "torch:tests.tuner.graph.test_graph:small"
CONFIG = RunConfig(ModelConfig(SOURCE), precision="int8")
CPU = ResolvedTarget("llvm", '{"kind":"llvm","num-cores":1}', 1, "a CPU", ("avx512vnni", "avx512bf16"))


def _model(source: str = SOURCE) -> ImportedModel:
    return importers.load(source, None, {}, "random", 0)


def test_what_the_target_has_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="no instructions for products in bfloat16"):
        precision.require(replace(CONFIG, precision="bfloat16"), replace(CPU, features=("avx2",)))
    with pytest.raises(ConfigError, match="is for CPUs"):
        precision.require(CONFIG, replace(CPU, kind="cuda"))
    with pytest.raises(ConfigError, match="no instructions"):
        precision.require(replace(CONFIG, precision="auto"), replace(CPU, features=()))
    precision.require(replace(CONFIG, precision="auto"), replace(CPU, features=("avxvnni",)))
    precision.require(replace(CONFIG, precision="float32"), replace(CPU, features=()))


@pytest.mark.parametrize("source", ["llvm:gemm.c", "mlir:gemm.mlir"])
def test_functions_of_programs_keep_their_types(source: str) -> None:
    with pytest.raises(ConfigError, match="keeps its types"):
        precision.require(replace(CONFIG, model=ModelConfig(source)), CPU)


def test_a_model_is_quantized_once_and_keeps_its_inputs(tmp_path: Path) -> None:
    model = _model()
    made, _ = precision.as_asked(CONFIG, CPU, model, tmp_path, Progress(live=False))
    assert made.reduced is not None and made.reduced.whole == model.model_spec
    assert {layer.precision for layer in made.reduced.layers} == {"int8"}
    assert made.inputs == model.inputs and made.model_spec["uses"] == model.model_spec["uses"]
    written = (tmp_path / "quantized.onnx").read_bytes()
    again, _ = precision.as_asked(CONFIG, CPU, model, tmp_path, Progress(live=False))
    assert (tmp_path / "quantized.onnx").read_bytes() == written and again.model_spec == made.model_spec


def test_a_model_without_layers_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    path = tmp_path / "relu.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    model = _model(f"onnx:{path}")
    for asked in ("bfloat16", "int8"):
        with pytest.raises(ModelError, match="there is no"):
            precision.as_asked(replace(CONFIG, precision=asked), CPU, model, tmp_path / asked, Progress(live=False))
