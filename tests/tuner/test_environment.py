"""What is recorded of the machine, what must match for a record to be used again, and the pinned pair."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from tuner import environment
from tuner.errors import InfrastructureError

ROOT = Path(__file__).parents[2]


def test_capture_is_json_and_knows_this_machine() -> None:
    captured = environment.capture()
    assert json.loads(json.dumps(captured, allow_nan=False)) == captured
    assert captured["cpu"]
    assert 1 <= captured["cores_usable"] <= captured["cores_total"]
    assert captured["memory_bytes"] > captured["memory_available_bytes"] > 2**20
    assert captured["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert captured["time_utc"].endswith("+00:00")


def test_capture_names_no_place_and_no_person() -> None:
    captured = json.dumps(environment.capture())
    assert str(ROOT) not in captured
    assert str(Path.home()) not in captured


def test_the_id_of_an_environment_changes_with_the_machine_and_the_installation_only() -> None:
    captured = environment.capture()
    id_ = environment.environment_id(captured)
    assert re.fullmatch("[0-9a-f]{16}", id_)
    later = {
        "time_utc": "2030-01-01T00:00:00+00:00", "load_average": [9.0, 9.0, 9.0], "memory_available_bytes": 1,
        "git_revision": "another", "memory_bytes": captured["memory_bytes"] // 2**30 * 2**30 + 2**20,
    }  # fmt: skip
    base = captured | {"memory_bytes": captured["memory_bytes"] // 2**30 * 2**30}
    assert environment.environment_id(base) == environment.environment_id(base | later)
    others = {
        "python": "4.0", "platform": "Plan9", "cpu": "another CPU", "cores_usable": 10**6, "cores_total": 10**6,
        "governor": "lazy", "smt": "unheard of", "memory_bytes": 2**50, "packages": {}, "protocol_version": 10**6,
    }  # fmt: skip
    assert set(others) | set(later) == set(captured)
    changed = {environment.environment_id(captured | {name: value}) for name, value in others.items()}
    assert len(changed | {id_}) == len(others) + 1


def test_the_id_of_an_environment_can_be_had_from_what_is_stored_of_it() -> None:
    captured = environment.capture()
    facts = environment.stable_facts(captured)
    stored = json.loads(json.dumps(facts, sort_keys=True))
    assert environment.stable_facts(stored) == facts
    assert environment.environment_id(stored) == environment.environment_id(captured)
    assert environment.stable_facts({"memory_bytes": None}) == {"memory_gib": None}


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
    captured = environment.capture()
    assert (captured["governor"], captured["smt"], captured["memory_bytes"]) == (None, None, None)
    assert captured["cpu"]
