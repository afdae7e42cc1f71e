"""The machine's ceilings: kept beside the runs, measured again when damaged, never lowered."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from kernels.tensors import arithmetic_dtype
from tuner import environment
from tuner.devices.cpu import machine
from tuner.devices.cpu.ceilings import (
    cache_levels,
    least_bytes,
    lower_bound_s,
    peak_flops_per_s,
)
from tuner.progress import Progress

FOUND = {
    "peak_flops_per_s": 100e9,
    "peaks": {"float32": 100e9, "float64": 50e9, "float16": 9e9},
    "bandwidth_bytes_per_s": 10e9,
    "levels": [{"name": "L1", "bytes": 32768, "probe_bytes": 16384, "bytes_per_s": 200e9}],
    "cache_bytes": 1 << 20,
    "method": "by hand",
}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts what is measured; the probes themselves have a test of their own."""
    asked: list[int] = []

    def answer(threads: int, hurried: bool) -> dict[str, Any]:
        asked.append(threads)
        return copy.deepcopy(FOUND)

    monkeypatch.setattr(machine, "_measure", answer)
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 0.1, 0.1))
    return asked


def test_known_ceilings_are_not_measured_again(tmp_path: Path, measured: list[int]) -> None:
    first = machine.ceilings(tmp_path, 2, Progress())
    assert machine.ceilings(tmp_path, 2, Progress()) == first
    assert measured == [2]
    machine.ceilings(tmp_path, 1, Progress())
    assert measured == [2, 1]
    assert first["cpu"] == environment.cpu_model()
    assert ["peak float32", "100 GFLOP/s"] in machine.rows(first)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"peak_flops_per_s": "NaN?"}', "\xff", "[" * 100_000])
def test_a_damaged_file_is_measured_anew(tmp_path: Path, measured: list[int], content: str) -> None:
    machine.ceilings(tmp_path, 2, Progress())
    [path] = (tmp_path / machine.FOLDER).iterdir()
    path.write_text(content, encoding="latin-1")
    assert machine.ceilings(tmp_path, 2, Progress())["peaks"] == FOUND["peaks"]
    assert measured == [2, 2]
    assert machine.ceilings(tmp_path, 2, Progress())["peaks"] == FOUND["peaks"]
    assert measured == [2, 2]


def test_measured_again_nothing_gets_lower(tmp_path: Path, measured: list[int]) -> None:
    machine.ceilings(tmp_path, 2, Progress())
    [path] = (tmp_path / machine.FOLDER).iterdir()
    higher = {**json.loads(path.read_text()), "peak_flops_per_s": 120e9, "bandwidth_bytes_per_s": 5e9}
    path.write_text(json.dumps(higher))
    found = machine.ceilings(tmp_path, 2, Progress(), again=True)
    assert (found["peak_flops_per_s"], found["bandwidth_bytes_per_s"]) == (120e9, 10e9)


def test_what_a_loaded_machine_gave_is_not_kept(
    tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (64.0, 64.0, 64.0))
    machine.ceilings(tmp_path, 2, Progress())
    machine.ceilings(tmp_path, 2, Progress())
    assert measured == [2, 2]


def test_half_precision_may_compute_in_float32() -> None:
    assert peak_flops_per_s(FOUND, "float16") == 100e9
    assert peak_flops_per_s(FOUND, "float64") == 50e9
    assert lower_bound_s(1e9, 0, FOUND, "float64") == pytest.approx(0.02)


def test_a_lookup_does_not_read_its_whole_table() -> None:
    table, rows = 94_000_000, 400_000
    assert least_bytes([table, 1024], rows, 4, 0.0) < 4 * rows
    assert least_bytes([1000, 2000], 4000, 4, 1e9) == 7000


def test_cache_levels_are_those_that_linux_states(tmp_path: Path) -> None:
    for number, (kind, size, level, cpus) in enumerate(
        [("Data", "32K", 1, "0"), ("Instruction", "32K", 1, "0"), ("Unified", "1024K", 2, "0"),
         ("Unified", "32M", 3, "0-7,16-23")]
    ):  # fmt: skip
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for name, value in (("type", kind), ("size", size), ("level", level), ("shared_cpu_list", cpus)):
            (folder / name).write_text(f"{value}\n")
    found = cache_levels(4, tmp_path)
    assert [(x["name"], x["bytes"]) for x in found] == [("L1", 1 << 15), ("L2", 1 << 20), ("L3", 32 << 20)]
    assert [x["probe_bytes"] for x in found] == [1 << 14, 1 << 19, 4 << 20]
    assert cache_levels(4, tmp_path / "nothing") == []


def test_operands_of_dot_products_are_held_to_their_own_peak() -> None:
    known = {"peak_flops_per_s": 100e9, "peaks": {"float32": 100e9, "bfloat16": 190e9, "int8": 380e9}}
    wanted = {"float32": 100e9, "int32": 100e9, "bfloat16": 190e9, "int8": 380e9}
    assert {dtype: peak_flops_per_s(known, dtype) for dtype in wanted} == wanted
    assert peak_flops_per_s({"peak_flops_per_s": 100e9}, "int8") == 400e9, "never measured: what fits a register"
    assert arithmetic_dtype(["uint8", "int8", "float32", "uint8"]) == "int8"
    assert arithmetic_dtype(["bfloat16", "bfloat16", "float32"]) == "bfloat16"
    assert arithmetic_dtype(["float32", "float64"]) == "float64"
    assert arithmetic_dtype(["float16", "float16", "float32"]) == "float16"


def test_what_was_measured_in_a_hurry_is_not_kept(tmp_path: Path, measured: list[int]) -> None:
    machine.ceilings(tmp_path, 2, Progress(), hurried=True)
    machine.ceilings(tmp_path, 2, Progress())
    assert machine.ceilings(tmp_path, 2, Progress(), hurried=True)["peaks"] == FOUND["peaks"]
    assert measured == [2, 2], "what is kept is taken"
