"""The small model that is tuned, and its run file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RUN_FILE = """\
model: {{source: "onnx:{folder}/small.onnx"}}
target: llvm
search: {{strategy: {strategy}, trials: {trials}, time_budget: 60m, batch: 8, seed: {seed}, effort: quick}}
baselines: {{models: [onnxruntime], kernels: false}}
measure: {{database: "sqlite:///{folder}/{name}/records.db"}}
report: {{formats: [md, csv]}}
out: {folder}/{name}/runs
"""


def write_run_file(folder: Path, name: str, strategy: str, trials: int, seed: int) -> Path:
    """A run with a record database of its own, in `folder`/`name`."""
    (folder / name).mkdir()
    path = folder / f"{name}.yaml"
    path.write_text(RUN_FILE.format(folder=folder, name=name, strategy=strategy, trials=trials, seed=seed))
    return path


def write_model(folder: Path) -> None:
    """Two convolutions and a dense layer, with seeded weights, as `folder`/small.onnx."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) / 8).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    weights = [
        weight("w1", 32, 16, 3, 3), weight("b1", 32), weight("w2", 48, 32, 1, 1), weight("b2", 48),
        weight("w3", 10, 48), weight("b3", 10),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 28, 28])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "small.onnx").write_bytes(model.SerializeToString())
