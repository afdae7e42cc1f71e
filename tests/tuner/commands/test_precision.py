"""What is refused before anything is imported, and a model quantized for a run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tuner import importers
from tuner.commands import precision
from tuner.config import ModelConfig, RunConfig
from tuner.devices.target import ResolvedTarget
from tuner.errors import ConfigError, ModelError
from tuner.graph.layers import layers
from tuner.models import ImportedModel
from tuner.progress import Progress

SOURCE = "torch:tests.tuner.graph.test_graph:small"
CONFIG = RunConfig(ModelConfig(SOURCE), precision="int8")
CPU = ResolvedTarget("llvm", '{"kind":"llvm","num-cores":1}', 1, "a CPU", ("avx512vnni", "avx512bf16"))
OPENCL = ResolvedTarget("opencl", '{"kind":"opencl","model":"none of this machine"}', 1, "a device elsewhere")


def _gpu(arch: str, kind: str = "cuda") -> ResolvedTarget:
    return ResolvedTarget(kind, f'{{"arch":"{arch}","kind":"cuda"}}', 1, "a GPU", (arch,))


def _model(source: str = SOURCE) -> ImportedModel:
    return importers.load(source, None, {}, "random", 0)


def test_what_the_target_has_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="no instructions for products in bfloat16"):
        precision.require(replace(CONFIG, precision="bfloat16"), replace(CPU, features=("avx2",)))
    with pytest.raises(ConfigError, match="are for GPUs"):
        precision.require(replace(CONFIG, precision="float16"), CPU)
    with pytest.raises(ConfigError, match="no instructions"):
        precision.require(replace(CONFIG, precision="auto"), replace(CPU, features=()))
    precision.require(replace(CONFIG, precision="auto"), replace(CPU, features=("avxvnni",)))
    precision.require(replace(CONFIG, precision="float32"), replace(CPU, features=()))


@pytest.mark.parametrize("kind", ["cuda", "simulated_cuda"])
@pytest.mark.parametrize(
    ("arch", "taken"),
    [("sm_61", set()), ("sm_70", {"float16"}), ("sm_75", {"float16", "int8"}),
     ("sm_80", {"float16", "int8", "bfloat16"}), ("sm_90a", {"float16", "int8", "bfloat16"})],
)  # fmt: skip
def test_a_gpu_has_what_its_tensor_cores_multiply(kind: str, arch: str, taken: set[str]) -> None:
    target = _gpu(arch, kind)
    for asked in ("float16", "bfloat16", "int8", "fp8"):
        why = precision.why_not(asked, target)
        assert bool(why) == (asked not in taken), why
        assert asked in why or not why
    whole = replace(CONFIG, precision="auto")
    if taken:
        precision.require(whole, target)
        return
    with pytest.raises(ConfigError, match="from sm_70 on, and this is sm_61\n"):
        precision.require(whole, target)


def test_opencl_has_float16_and_says_why_nothing_else() -> None:
    precision.require(replace(CONFIG, precision="float16"), OPENCL)  # of what is not here nothing is known
    precision.require(replace(CONFIG, precision="auto"), OPENCL)
    for asked in ("bfloat16", "int8", "fp8"):
        with pytest.raises(ConfigError, match=f"{asked}: OpenCL C has no products"):
            precision.require(replace(CONFIG, precision=asked), OPENCL)


def test_layers_in_float16_but_for_those_that_overflow(tmp_path: Path) -> None:
    """Errors are measured on this machine's CPU, whatever is tuned for."""
    config = replace(CONFIG, precision="float16")
    made, module = precision.as_asked(config, _gpu("sm_90a"), _model(), tmp_path, Progress(live=False))
    assert made.reduced is not None and made.reduced.unit == 2.0**-11
    assert {layer.precision for layer in made.reduced.layers} == {"float16"}
    assert all(0 < (layer.error or 0) < 2e-3 for layer in made.reduced.layers)
    errors = json.loads((tmp_path / precision.ERRORS).read_bytes())
    (tmp_path / precision.ERRORS).write_text(json.dumps([math.inf, 0.5, *errors[2:]]))
    made, module = precision.as_asked(config, _gpu("sm_90a"), _model(), tmp_path, Progress(live=False))
    assert made.reduced is not None
    assert [layer.precision for layer in made.reduced.layers] == ["float32"] * 2 + ["float16"] * 3
    assert [layer.number for layer in layers(module)] == [0, 1]
    assert "1 of 5 layers stay in float32: float16 moves them by over 2%" in made.notes
    assert (
        "1 of 5 layers stay in float32: what they multiply comes near the largest number of float16, or above it"
        in (made.notes)
    )


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
