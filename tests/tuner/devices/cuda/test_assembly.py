"""Whole models for a GPU, compiled without one: the winners are in them, and everything else is scheduled too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm.target import Target

from kernels.space import DesignSpace, InvalidCandidate, TraceApplier, generate
from tuner.devices.cuda.assembly import assemble_gpu
from tuner.graph import GraphConfig, clean, lower
from tuner.graph.lower import Lowered
from tuner.importers import load

TARGET = Target({"tag": "nvidia/nvidia-h100"})


@pytest.fixture(scope="module")
def lowered() -> object:
    model = load("torch:tests.tuner.graph.test_graph:small", 1, {}, "random", 0)
    return lower(clean(model.module), GraphConfig("NCHW"), TARGET)


def scheduled(task: object) -> tvm.tirx.PrimFunc:
    """Some legal candidate of a task, as a scheduled function."""
    space: DesignSpace = generate(task.workload, TARGET, ["unroll"])  # type: ignore[attr-defined]
    applier, rng = TraceApplier(task.workload, space, TARGET), np.random.default_rng(0)  # type: ignore[attr-defined]
    for _ in range(300):
        try:
            return applier.apply(space.sample(rng)).mod["main"]
        except InvalidCandidate:
            continue
    raise AssertionError("no legal candidate in 300 draws")


def sources(executable: object) -> str:
    """All CUDA source in a compiled model."""
    found, waiting = [], [executable.mod]  # type: ignore[attr-defined]
    while waiting:
        module = waiting.pop()
        if module.kind == "cuda":
            found.append(module.inspect_source())
        waiting.extend(module.imports)
    return "\n".join(found)


def test_convolutions_in_plain_layout_know_where_they_came_from(lowered: Lowered) -> None:
    origins = [task.workload.origin for task in lowered.tasks if "conv2d" in task.name]
    assert origins
    for origin in origins:
        assert origin["op"] == "conv2d"
        assert {"data", "weight", "strides", "padding", "dilation", "groups", "epilogue"} <= origin.keys()


def test_a_model_for_a_gpu_holds_the_winners_and_a_graph(lowered: Lowered, tmp_path: Path) -> None:
    winners = {task.key: scheduled(task) for task in lowered.tasks}
    tuned = assemble_gpu(lowered, winners, TARGET)
    default = assemble_gpu(lowered, {}, TARGET)
    assert "__global__" in sources(tuned)
    assert sources(tuned) != sources(default)
    for name in lowered.kernels:
        assert f"{name}_kernel" in sources(tuned), "a kernel that is not on the GPU"
    assert "cuda_graph" in tuned.as_text()
    tuned.export_library(str(tmp_path / "model.so"))
    assert (tmp_path / "model.so").stat().st_size > 0
