"""Compiling for the CPU: what is left out changes no byte, and each candidate has its own symbol."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.devices.test_build_service import ENTRY, service_of
from tests.tuner.devices.test_builder import TARGET, matmul
from tuner.devices.cpu.codegen import linker
from tuner.errors import InfrastructureError
from tuner.protocols import Task


@pytest.fixture
def task() -> Task:
    return Task(matmul(), TARGET)


def test_the_passes_left_out_change_no_byte(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    service, drawn = service_of(tmp_path, task)
    without = [service.op_build(task.key, text, ENTRY).get("sha256") for text in drawn]
    monkeypatch.setattr("tuner.devices.cpu.codegen._UNNEEDED", ())
    assert [service.op_build(task.key, text, ENTRY).get("sha256") for text in drawn] == without
    assert any(without)


def test_the_object_lies_beside_a_library_with_the_entry(tmp_path: Path, task: Task) -> None:
    service, drawn = service_of(tmp_path, task)
    built = next(b for b in (service.op_build(task.key, text, ENTRY) for text in drawn) if "path" in b)
    assert Path(built["path"]).with_suffix(".o").exists()
    assert built["resources"]["loops"].keys() == {"vector", "unrolled", "scalar"}
    assert f"\0__tvm_ffi_{ENTRY}\0".encode() in Path(built["path"]).read_bytes()


def test_without_a_linker_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InfrastructureError, match="no linker") as caught:
        linker()
    assert "gcc" in caught.value.hint
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if name == "cc" else None)
    assert linker() == ["/bin/cc", "-shared"]
