"""What may fail after a search is tried before it; what fails after it all the same costs itself only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import null_device
from tests.null_device import NullAssembly
from tests.test_null_device import config_of, run, store_model
from tuner.errors import ModelError
from tuner.tuning import tune


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    store_model(tmp_path / "tiny.onnx")
    with pytest.MonkeyPatch.context() as patch:
        null_device.install(patch)
        patch.setattr("tuner.measure.comparison.PAUSE_S", (0.0, 0.0))
        yield tmp_path


def test_a_model_that_does_not_compile_is_told_before_the_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise RuntimeError("no legalization of an operator")

    searched: list[Any] = []
    monkeypatch.setattr(NullAssembly, "assemble", fails)
    monkeypatch.setattr(tune, "tune_model", lambda *arguments: searched.append(arguments))
    with pytest.raises(ModelError, match="does not compile: no legalization of an operator"):
        run(config_of(folder, "early"))
    assert not searched


def test_an_assembly_that_fails_after_the_search_leaves_records_and_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assemble = NullAssembly.assemble

    def fails_with_winners(self: NullAssembly, graph: Any, parts: Any) -> Any:
        if parts:
            raise RuntimeError("two kernels of one name")
        return assemble(self, graph, parts)

    monkeypatch.setattr(NullAssembly, "assemble", fails_with_winners)
    ran = run(config_of(folder, "late"))
    assert ran.exit_code == 3
    assert any("two kernels of one name" in line for line in ran.lines)
    assert f"--resume {ran.folder.name}" in ran.lines[-1]
    assert ran.records
    assert (ran.folder / "report.md").exists()
    assert any("two kernels of one name" in note for note in ran.summary["notes"])
