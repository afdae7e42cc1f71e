"""Run files and ceilings: whole samples, and how the program opens them."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path

import numpy as np

from tests.fuzzing.base import ROOT, Files, Refused


@functools.cache
def run_files() -> Files:
    return {
        path.name: path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml")) if path.stem != "nightly"
    }


def open_run_file(folder: Path, name: str) -> None:
    from tuner import config

    loaded = config.load(str(folder / name))
    assert config.parse(config.to_yaml(loaded), name) == loaded


@functools.cache
def ceiling_files() -> Files:
    ceilings = {
        "peak_flops_per_s": 1e11, "bandwidth_bytes_per_s": 1e10, "cache_bytes": 1048576, "method": "a loop",
        "peaks": {"float32": 1e11}, "levels": [{"name": "L1", "bytes": 32768, "bytes_per_s": 1e11}],
        "cpu": "a CPU", "threads": 2, "load_before": 0.1, "measured_at": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    return {"ceilings.json": json.dumps(ceilings).encode()}


def open_ceilings(folder: Path, name: str) -> None:
    from tuner.devices.cpu import machine
    from tuner.progress import Progress

    ceilings = machine.read(folder / name, Progress(stream=io.StringIO()))
    if ceilings is None:
        raise Refused("measured again")
    assert np.isfinite([ceilings["peak_flops_per_s"], ceilings["bandwidth_bytes_per_s"]]).all()
