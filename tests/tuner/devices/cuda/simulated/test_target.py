"""What the simulated GPU needs is tried before anything is promised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import simulated_cuda
from tuner.config import ModelConfig, RunConfig, TargetConfig
from tuner.devices import resolve
from tuner.devices.cuda.simulated import SIMULATED_CUDA, setup
from tuner.devices.cuda.simulated.bench import SimulatedBench
from tuner.devices.cuda.simulated.target import pycuda_problem
from tuner.devices.finding import State
from tuner.errors import TargetError


@pytest.fixture
def broken_pycuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyCUDA is there, and cannot be imported."""
    simulated_cuda.require()
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").write_text("raise ImportError('libcudart.so.99: no such file')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    pycuda_problem.cache_clear()
    yield
    pycuda_problem.cache_clear()


def test_a_pycuda_that_cannot_be_imported_is_missing_for_a_run_and_for_the_doctor(broken_pycuda: None) -> None:
    with pytest.raises(TargetError, match=r"missing here: PyCUDA that can be imported .*libcudart\.so\.99") as caught:
        resolve.resolve(TargetConfig("simulated_cuda"))
    assert caught.value.hint.startswith("`make setup` builds what is missing")
    assert not SIMULATED_CUDA.is_here() and not SIMULATED_CUDA.devices()
    for wanted, state in (("simulated_cuda", State.BROKEN), ("llvm", State.NOTE)):
        [finding] = SIMULATED_CUDA.findings(RunConfig(ModelConfig("onnx:any"), target=TargetConfig(wanted)))
        assert finding.state is state
        assert "libcudart.so.99" in finding.found and "`make setup`" in finding.advice
    with pytest.raises(TargetError, match="libcudart") as caught:
        SimulatedBench.count()
    assert "`make setup`" in caught.value.hint


def test_a_pycuda_that_works_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated_cuda.require()
    monkeypatch.setattr(setup, "_has_driver", lambda: False)
    assert setup.set_up().startswith("PyCUDA is installed; the simulated driver is in ")
