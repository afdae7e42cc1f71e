"""The round trip of a cache line between CPUs, measured here, and what Linux states of caches."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tuner import environment
from tuner.devices.cpu import machine
from tuner.devices.cpu.round_trip import FixedState, RoundTripProbe, open_probe, shared_cache_state
from tuner.measure.states import states_of
from tuner.records import CpuState

CPUS = sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(len(CPUS) < 2, reason="one CPU only")
def test_a_round_trip_is_measured_and_kept(tmp_path: Path) -> None:
    probe = RoundTripProbe(CPUS[:2], tmp_path)
    seen = [probe.round_trip_s() for _ in range(10)]
    probe.close()
    measured = [s for s in seen if s is not None]
    assert measured, "not one of ten was undisturbed"
    assert all(5e-9 < s < 50e-6 for s in measured)
    assert set(measured) & set(machine.read_round_trips(tmp_path, 2))
    assert machine.read_round_trips(tmp_path, 3) == []
    again = RoundTripProbe(CPUS[:2], tmp_path)
    again.close()
    assert set(measured) & set(again.known_s)


@pytest.mark.skipif(len(CPUS) < 2, reason="one CPU only")
def test_a_probe_whose_child_died_says_that_it_does_not_know(tmp_path: Path) -> None:
    probe = RoundTripProbe(CPUS[:2], tmp_path)
    probe.round_trip_s()
    assert probe._child is not None  # noqa: SLF001 - a child is killed from outside
    os.kill(probe._child.pid, signal.SIGKILL)  # noqa: SLF001
    assert probe.round_trip_s() is None
    assert probe.round_trip_s() is None
    probe.close()


def test_one_thread_has_no_state(tmp_path: Path) -> None:
    assert open_probe(1, tmp_path) is None
    assert open_probe(len(CPUS) + 1, tmp_path) is None


def test_what_linux_states_is_believed_where_the_machine_is_not_virtual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if len(CPUS) < 2 or shared_cache_state(CPUS[:2]) is None:
        pytest.skip("Linux does not state the caches of two CPUs")
    monkeypatch.setattr(environment, "virtual", lambda: False)
    probe = open_probe(2, tmp_path)
    assert isinstance(probe, FixedState)
    assert (probe.fixed, probe.round_trip_s()) == (shared_cache_state(CPUS[:2]), None)


@pytest.mark.parametrize(
    ("shared", "state"), [(("0-1", "0-1"), CpuState.TOGETHER), (("0,2", "1,3"), CpuState.APART), (("0-1", None), None)]
)
def test_cpus_in_one_list_share_a_cache(tmp_path: Path, shared: tuple[str | None, ...], state: CpuState | None) -> None:
    for cpu, shared_by in enumerate(shared):
        for index, (level, text) in enumerate({"1": str(cpu), "3": shared_by}.items()):
            folder = tmp_path / f"devices/system/cpu/cpu{cpu}/cache/index{index}"
            folder.mkdir(parents=True)
            (folder / "level").write_text(level)
            if text is not None:
                (folder / "shared_cpu_list").write_text(f"{text}\n")
    assert shared_cache_state((0, 1), tmp_path) == state


def test_both_states_are_remembered(tmp_path: Path) -> None:
    near, far = [54e-9 + i * 1e-11 for i in range(500)], [340e-9 + i * 1e-11 for i in range(4)]
    machine.keep_round_trips(tmp_path, 2, near + far)
    kept = machine.read_round_trips(tmp_path, 2)
    assert len(kept) <= 70
    states = states_of(kept)
    assert [states.of(s) for s in (54e-9, 340e-9)] == [CpuState.TOGETHER, CpuState.APART]
    assert sorted(s for s in kept if states.of(s) == CpuState.APART) == far


@pytest.mark.parametrize("content", ["", "{}", "[null]", '["x"]', "[" * 100_000])
def test_a_damaged_file_of_round_trips_is_as_none(tmp_path: Path, content: str) -> None:
    machine.keep_round_trips(tmp_path, 2, [54e-9])
    [path] = (tmp_path / machine.FOLDER).iterdir()
    path.write_text(content)
    assert machine.read_round_trips(tmp_path, 2) == []
