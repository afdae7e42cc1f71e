"""Which cubin loads on which GPU, and one tuner a GPU at a time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tuner.devices.cuda.bench import runs

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("cubin", "gpu", "loads"),
    [
        ("sm_80", "sm_80", True),
        ("sm_80", "sm_86", True),
        ("sm_86", "sm_80", False),
        ("sm_80", "sm_90", False),
        ("sm_90a", "sm_90", True),
        ("sm_90", "sm_90", True),
        ("sm_90a", "sm_100", False),
        ("sm_100a", "sm_100", True),
        ("sm_100a", "sm_103", False),
        ("sm_100", "sm_103", True),
        ("sm_120", "sm_100", False),
    ],
)
def test_a_cubin_loads_on_its_own_major_and_no_older_minor(cubin: str, gpu: str, loads: bool) -> None:
    assert runs(cubin, gpu) == loads


HOLD = """
import sys, time
from tuner.devices.gpu.bench import locked
with locked("0000:3B:00.0"):
    print(time.monotonic(), flush=True)
    time.sleep(0.5)
    print(time.monotonic(), flush=True)
"""


def test_two_processes_do_not_measure_on_one_gpu_at_once() -> None:
    both = [subprocess.Popen([sys.executable, "-c", HOLD], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in (0, 1)]
    times = sorted(tuple(map(float, process.communicate(timeout=30)[0].split())) for process in both)
    assert times[0][1] <= times[1][0] + 0.01


def test_the_lock_of_a_dead_process_is_free() -> None:
    owner = subprocess.Popen([sys.executable, "-c", HOLD.replace("0.5", "60")], cwd=ROOT, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    owner.stdout.readline()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", HOLD], cwd=ROOT, check=True, capture_output=True, timeout=20)
    assert time.monotonic() - began < 15
