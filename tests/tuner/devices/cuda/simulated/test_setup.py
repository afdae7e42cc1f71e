"""What `make setup` says about the simulated GPU where it cannot be set up. It is built in the setup itself."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from tests import simulated_cuda
from tuner.devices.cuda.simulated import native, setup


@pytest.fixture
def without_pycuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(setup, "_has_driver", lambda: False)


def test_a_host_with_a_driver_is_told_what_to_install(without_pycuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_has_driver", lambda: True)
    assert "pip install -e '.[cuda]'" in setup.set_up()


def test_a_host_without_a_compiler_is_told_so(
    without_pycuda: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = setup.set_up()
    assert (
        said == "the simulated GPU is not set up, and its tests are skipped; missing: a C++ compiler (g++ or clang++)"
    )


def test_a_pip_that_fails_is_quoted(without_pycuda: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unavailable() -> Path:
        raise native.Unavailable("CUDA's headers")

    monkeypatch.setattr(native, "headers", unavailable)
    monkeypatch.setattr(setup, "_HEADER_WHEELS", ("no such package",))
    assert "missing: PyCUDA, which pip cannot install: " in setup.set_up()


def test_a_pycuda_that_cannot_be_imported_is_installed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated_cuda.require()
    commands: list[list[str]] = []
    problems = iter(["PyCUDA that can be imported", ""])
    monkeypatch.setattr(setup, "_has_driver", lambda: False)
    monkeypatch.setattr(setup, "pycuda_problem", functools.cache(lambda: next(problems)))
    monkeypatch.setattr(setup, "_wheel", lambda libraries: Path("pycuda.whl"))
    monkeypatch.setattr(setup, "_run", commands.append)
    assert setup.set_up().startswith("PyCUDA was built for the simulated GPU; ")
    assert [command[-1] for command in commands] == ["pycuda.whl", "pycuda.whl"]
    assert "--force-reinstall" in commands[1]


def test_the_version_is_the_pinned_one() -> None:
    assert setup._pinned().startswith("pycuda==")  # noqa: SLF001 - the line of constraints.txt


def test_the_constraints_leave_cudas_own_packages_to_torch() -> None:
    """Its CUDA builds require versions of their own: another one beside them, and pip installs nothing at all."""
    lines = setup._CONSTRAINTS.read_text("utf-8").splitlines()  # noqa: SLF001 - where it lies
    assert [line for line in lines if line.startswith("nvidia-")] == []
