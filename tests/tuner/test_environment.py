"""What is recorded of the machine, what must match for a record to be used again, and the pinned pair."""

from __future__ import annotations

import importlib.metadata
import json
import os
import tomllib
from pathlib import Path

import pytest

from tuner import environment
from tuner.errors import InfrastructureError

ROOT = Path(__file__).parents[2]


def test_capture_is_json_and_knows_this_machine() -> None:
    found = environment.capture()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["cpu"]
    assert 1 <= found["cores_usable"] <= found["cores_total"]
    assert found["memory_bytes"] > found["memory_available_bytes"] > 2**20
    assert found["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert found["time_utc"].endswith("+00:00")


def test_capture_names_no_place_and_no_person() -> None:
    said = json.dumps(environment.capture())
    assert str(ROOT) not in said
    assert str(Path.home()) not in said


def test_usable_threads_follow_the_affinity() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert environment.usable_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("quota", "expected"), [("50000 100000", 1), ("max 100000", None), ("junk", None), ("", None)])
def test_usable_threads_follow_the_quota(quota: str, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_lines", lambda path: quota.splitlines())
    assert environment.usable_threads() == (expected or len(os.sched_getaffinity(0)))


def test_scope_changes_with_whatever_a_time_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    base = environment.scope_key('{"kind":"llvm"}', 2, "hot")
    assert base == environment.scope_key('{"kind":"llvm"}', 2, "hot")
    scopes = {
        base,
        environment.scope_key('{"kind":"cuda"}', 2, "hot"),
        environment.scope_key('{"kind":"llvm"}', 1, "hot"),
        environment.scope_key('{"kind":"llvm"}', 2, "cold"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(environment, "cpu_model", lambda: "another CPU")
        scopes.add(environment.scope_key('{"kind":"llvm"}', 2, "hot"))
    with monkeypatch.context() as patch:
        patch.setattr(environment, "PROTOCOL_VERSION", 10**6)
        scopes.add(environment.scope_key('{"kind":"llvm"}', 2, "hot"))
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: "9.9")
        scopes.add(environment.scope_key('{"kind":"llvm"}', 2, "hot"))
    assert len(scopes) == 7


def test_the_pinned_pair_is_the_one_that_is_installed_and_required() -> None:
    environment.check_versions()
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {f"{name}=={version}" for name, version in environment.PINNED.items()} <= set(required)


def test_another_pair_is_refused_with_the_command_that_repairs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "apache-tvm":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1.15.post2"

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(InfrastructureError) as caught:
        environment.check_versions()
    assert "apache-tvm is not installed and apache-tvm-ffi is 0.1.15.post2" in caught.value.message
    assert caught.value.hint == "pip install 'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1'"
    assert caught.value.exit_code == 3


def test_what_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_lines", lambda path: [])
    found = environment.capture()
    assert (found["governor"], found["smt"], found["memory_bytes"]) == (None, None, None)
    assert found["cpu"]
