"""What every TuningDevice, and every Device, promises. A test module subclasses one of the suites."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.space import Candidate, DesignSpace
from tuner.devices.device import BaselineTiming, Device
from tuner.graph import GraphConfig, Lowered, clean, lower
from tuner.measure.models import TUNED, UNTUNED
from tuner.models import ImportedModel, InputSpec
from tuner.protocols import SCREEN, Array, Artifact, Task, TuningDevice, job_of
from tuner.records import Status

CEILINGS = {
    "peak_flops_per_s": 5e13, "peaks": {"float32": 5e13}, "bandwidth_bytes_per_s": 4e12, "levels": [], "cache_bytes": 0,
}  # fmt: skip
"""What a recording of measurements says of the machine that it is of."""


def tiny_model() -> ImportedModel:
    """relu(rows @ weight), made without a framework."""
    from tvm import relax

    rows, weight = relax.Var("rows", relax.TensorType((4, 8), "float32")), relax.const(_weight())
    builder = relax.BlockBuilder()
    with builder.function("main", [rows]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(rows, weight))
            output = builder.emit_output(relax.op.nn.relu(product))
        builder.emit_func_output(output)
    return ImportedModel("tiny", "torch:a.b:c", builder.finalize(), (InputSpec("rows", (4, 8), "float32"),), {})


def tiny_outputs(rows: Array) -> Array:
    """What it computes, in float64."""
    return np.maximum(rows.astype(np.float64) @ _weight().astype(np.float64), 0.0)


def _weight() -> Array:
    return np.random.default_rng(0).standard_normal((8, 16), dtype=np.float32)


def first_of(space: DesignSpace) -> Candidate:
    """A candidate that is not the untuned program: the one that is tried first, or any."""
    return next(iter(space.initial_candidates(1)), None) or space.sample(np.random.default_rng(0))


def hopeless(candidate: Candidate) -> Candidate:
    """The same with tile factors that no loop has: it cannot be scheduled."""
    return Candidate(candidate.sketch, tuple((7,) * len(d) if isinstance(d, tuple) else d for d in candidate.decisions))


class TuningDeviceContract:
    """Fixtures: a `device`, fresh for the class, and a `task` that it takes.

    `compiles` skips where nothing here builds for it. `outcome` is what becomes of a good kernel.
    """

    outcome = Status.OK

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls) -> TuningDevice:
        raise NotImplementedError("the implementation's test module provides the device")

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        raise NotImplementedError("the implementation's test module provides the task")

    @pytest.fixture(scope="class")
    @classmethod
    def compiles(cls) -> None:
        """Nothing is missing."""

    @pytest.fixture(scope="class")
    @classmethod
    def space(cls, device: TuningDevice, task: Task) -> DesignSpace:
        return device.builder.space(task, ())

    def test_no_kernel_can_be_faster_than_some_time(self, device: TuningDevice, task: Task) -> None:
        bound_s = device.lower_bound_s(task)
        assert 0.0 <= bound_s < math.inf
        assert device.lower_bound_s(task) == bound_s

    def test_its_bench_measures_what_its_builder_builds(
        self, compiles: None, device: TuningDevice, task: Task, space: DesignSpace, tmp_path: Path
    ) -> None:
        candidate = space.default()
        [built] = device.builder.build(task, [candidate])
        assert isinstance(built, Artifact), built
        references = device.builder.reference(task, [0, 1], tmp_path)
        assert not isinstance(references, str), references
        recheck = (1, references[1]) if device.bench.rechecks else None
        measured = device.bench.measure(job_of(task, candidate, built, 0, references[0], recheck), SCREEN)
        assert measured.status is self.outcome, measured.reason
        assert not measured.ok or measured.median_s >= device.lower_bound_s(task)


class DeviceContract(TuningDeviceContract):
    """As well: the `task` is the one of `tiny_model`, lowered for the device as `graph`."""

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls) -> Any:
        raise NotImplementedError("the implementation's test module provides the TVM target")

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> ImportedModel:
        return tiny_model()

    @pytest.fixture(scope="class")
    @classmethod
    def graph(cls, model: ImportedModel, target: Any) -> Lowered:
        return lower(clean(model.module), GraphConfig(), target)

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls, graph: Lowered) -> Task:
        [task] = graph.tasks
        return task

    def test_ceilings_are_rates(self, device: Device) -> None:
        ceilings = device.ceilings
        assert ceilings["peak_flops_per_s"] > 0
        assert ceilings["bandwidth_bytes_per_s"] > 0
        assert min(ceilings["peaks"].values()) > 0
        assert {"levels", "cache_bytes"} <= set(ceilings)

    def test_benchmark_entries_are_the_compiled_models_and_what_they_are_checked_against(
        self, device: Device, model: ImportedModel, tmp_path: Path
    ) -> None:
        libraries = {TUNED: tmp_path / "model.so", UNTUNED: tmp_path / "untuned.so"}
        entries = device.entries(model, libraries, (UNTUNED, "torch", "onnxruntime"))
        names = [entry.name for entry in entries]
        assert len(set(names)) == len(names)
        assert {TUNED, UNTUNED} <= set(names)
        assert set(device.references) & (set(names) - {TUNED, UNTUNED}), "nothing could verify a model"
        for entry in entries:
            module, colon, service = entry.service.partition(":")
            assert module.startswith(("tuner.", "tests.")) and colon and service
        alone = device.entries(model, {TUNED: libraries[TUNED]}, (UNTUNED,))
        assert UNTUNED not in {entry.name for entry in alone}, "it was not compiled"

    def test_nothing_is_timed_once_it_is_interrupted(self, device: Device, task: Task) -> None:
        notes: list[str] = []
        assert device.kernel_baselines([task], BaselineTiming(1.0, lambda: True, notes.append)) == {}
        assert notes == []

    def test_a_kernel_that_cannot_be_had_any_more_is_no_part_of_a_model(
        self, device: Device, task: Task, space: DesignSpace
    ) -> None:
        assert device.assembly.part(task, space, hopeless(first_of(space)), lambda: None) is None

    def test_a_model_is_put_together_with_its_winners_and_without(
        self, device: Device, model: ImportedModel, graph: Lowered, space: DesignSpace, tmp_path: Path
    ) -> None:
        [task], winner = graph.tasks, first_of(space)

        def built() -> Artifact | None:
            [artifact] = device.builder.build(task, [winner])
            return artifact if isinstance(artifact, Artifact) else None

        part = device.assembly.part(task, space, winner, built)
        for name, executable in (
            ("tuned", device.assembly.assemble(graph, {task.key: part})),
            ("plain", device.assembly.assemble(graph, {})),
            ("untuned", device.assembly.untuned(model, graph)),
        ):
            executable.export_library(str(tmp_path / name))
        content = {name: (tmp_path / name).read_bytes() for name in ("tuned", "plain", "untuned")}
        assert all(content.values())
        assert content["tuned"] != content["plain"], "the winner is not in the model"

    def test_it_may_be_closed_twice(self, device: Device) -> None:
        device.close()
        device.close()
