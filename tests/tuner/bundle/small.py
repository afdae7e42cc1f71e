"""A small bundle made by hand: one task (y = 2 x), one kernel of a few bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from kernels.launch_plan import Argument, Launch, LaunchPlan
from kernels.tensors import TensorSpec, seeded_inputs
from tuner.bundle import expect, write
from tuner.bundle.expected import to_bytes

SHAPE = (3, 5)
KEY = "0123456789abcdef"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def plan() -> dict[str, Any]:
    arguments = (Argument(SHAPE, "float32"), Argument(SHAPE, "float32"))
    return LaunchPlan((Launch("main_kernel", (0, 1), (1, 1, 1), (15, 1, 1)),), arguments).to_json()


def content(candidates: int = 3) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Manifest and blobs, as `write` takes them; the first candidate is the default."""
    [drawn] = seeded_inputs((TensorSpec(SHAPE, "float32"),), 7)
    values, sums = to_bytes(expect(2.0 * drawn.astype(np.float64), 1e-6, 1e-6))
    assert sums is None
    cubins = [b"\x7fELF" + bytes([number]) for number in range(candidates)]
    blobs = {digest(b): b for b in (values, *cubins)}
    task = {
        "key": KEY, "name": "double", "weight": 2, "flops": 15.0, "seed": 7,
        "args": [{"shape": list(SHAPE), "dtype": "float32"}] * 2, "inputs": [digest(drawn.tobytes())],
        "expected": [{"values": digest(values), "rtol": 1e-6, "atol": 1e-6}],
    }  # fmt: skip
    items = [
        {"task": KEY, "candidate": f'[{number - 1},[],""]', "proposer": "random" if number else "default",
         "cubin": digest(cubin), "plan": plan(), "build": 1.5, "usage": {"registers": 32}}
        for number, cubin in enumerate(cubins)
    ]  # fmt: skip
    manifest = {"created_by": "a test", "target": '{"kind":"cuda"}', "arch": "sm_90a", "protocol": 1, "mode": "cold",
                "tasks": [task], "items": items}  # fmt: skip
    return manifest, blobs


def bundle(path: Path, candidates: int = 3) -> Path:
    write(path, *content(candidates))
    return path
