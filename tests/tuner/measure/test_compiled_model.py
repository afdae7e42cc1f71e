"""A model that this program compiled, in the suite that everything that can be timed passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tvm.target import Target

from tests.contracts.device import tiny_model, tiny_outputs
from tests.contracts.launchable import LaunchableContract
from tuner.graph import build_untuned
from tuner.measure.compiled_model import Loaded
from tuner.protocols import Array, Launchable, Prepared


@dataclass(frozen=True)
class Library:
    """A library as something that can be timed."""

    path: Path
    key: str = "library"

    def prepare(self, inputs: Sequence[Array]) -> Prepared:
        return Loaded(str(self.path), inputs)


class TestLoaded(LaunchableContract):
    @pytest.fixture(scope="class")
    @classmethod
    def launchable(cls, tmp_path_factory: pytest.TempPathFactory) -> Launchable:
        path = tmp_path_factory.mktemp("library") / "model.so"
        build_untuned(tiny_model().module, Target({"kind": "llvm", "num-cores": 1})).export_library(str(path))
        return Library(path)

    @pytest.fixture(scope="class")
    @classmethod
    def inputs(cls) -> list[Array]:
        return [np.random.default_rng(1).standard_normal((4, 8), dtype=np.float32)]

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, inputs: list[Array]) -> list[Array]:
        return [tiny_outputs(inputs[0])]
