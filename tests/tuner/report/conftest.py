"""A plausible run to report on: the figures are made up, their shape and spread are those of a real one."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tuner.records import Measurement, Record, Status

_SHAPES = [
    ("fused_conv2d_add_relu", "1x64x56x56 k3", 3, 231e6, 1.9e6),
    ("fused_conv2d1_add_relu", "1x256x14x14 k3", 6, 231e6, 2.8e6),
    ("fused_conv2d2_add_add_relu", "1x1024x14x14 k1", 6, 103e6, 3.1e6),
    ("fused_conv2d3_add_relu", "1x128x28x28 k3", 4, 231e6, 1.4e6),
    ("fused_conv2d4_add_relu", "1x512x7x7 k3", 3, 231e6, 9.6e6),
    ("fused_conv2d5_add_add_relu", "1x256x56x56 k1", 3, 103e6, 7.4e6),
    ("fused_conv2d6_add_relu", "1x64x112x112 k7", 1, 236e6, 3.8e6),
    ("fused_conv2d7_add_add_relu", "1x2048x7x7 k1", 3, 103e6, 4.8e6),
    ("fused_matmul_add", "1x2048x1000", 1, 4.1e6, 8.2e6),
    ("max_pool2d", "1x64x112x112", 1, 1.8e6, 4.0e6),
    ("softmax", "1x1000", 1, 0.0, 8e3),
]
_TUNED_GFLOPS = [86, 91, 74, 88, 61, 55, 63, 58, 4.1, 2.3, None]


def make_kernel(index: int) -> dict[str, Any]:
    name, shape, weight, flops, nbytes = _SHAPES[index]
    rate = _TUNED_GFLOPS[index]
    tuned = flops / (rate * 1e9) if rate else None
    untuned = tuned * (118.0 if index < 8 else 1.9) if tuned else 21e-6
    return {
        "task": f"{index:016x}",
        "name": name,
        "shape": shape,
        "weight": weight,
        "flops": flops,
        "bytes": nbytes,
        "untuned_s": untuned,
        "tuned_s": tuned,
        "interval_s": [tuned * 0.991, tuned * 1.012] if tuned else None,
        "baselines": {"torch": tuned * (1.31 - 0.05 * index), "onnxruntime": tuned * 1.04} if tuned else {},
        "verified": True if tuned else None,
        "verdict": "FASTER" if tuned else "NOT TUNED",
        "candidate": f"best-{index}" if tuned else None,
    }


@pytest.fixture
def summary() -> dict[str, Any]:
    return {
        "schema": 1,
        "run_id": "20261103-101112-resnet50",
        "command": "python -m tuner run configs/resnet.yaml --seed 0",
        "seed": 0,
        "model": {
            "name": "ResNet-50",
            "source": "onnx:light_resnet50",
            "batch": 1,
            "inputs": {"data": [1, 3, 224, 224]},
        },
        "target": {"kind": "llvm", "device": "Example CPU @ 2.50 GHz", "threads": 2, "features": ["avx2", "avx512f"]},
        "search": {
            "strategy": "guided",
            "trials": 600,
            "measured": 512,
            "reused": 40,
            "failed": {"build failed": 11, "wrong result": 2, "run timeout": 5, "censored": 130},
            "wall_s": 603.2,
            "stopped_by": "time budget",
        },
        "kernels": [make_kernel(index) for index in range(len(_SHAPES))],
        "end_to_end": {
            "untuned_s": 5.17,
            "tuned_s": 43.1e-3,
            "interval_s": [42.8e-3, 43.5e-3],
            "baselines": {
                "untuned": {"median_s": 5.17, "interval_s": [5.15, 5.2]},
                "torch": {"median_s": 71e-3, "interval_s": [70e-3, 73e-3]},
                "torch_channels_last": {"median_s": 55e-3, "interval_s": [54e-3, 56e-3]},
                "torch_compile": None,
                "onnxruntime": {"median_s": 45.2e-3, "interval_s": [44.9e-3, 45.6e-3]},
            },
            "verified": True,
            "max_abs_error": 4e-6,
            "max_rel_error": 2e-6,
        },
        "export": {"path": "export/model.so", "sha256": "ab" * 32},
        "environment": {"python": "3.11"},
        "ceilings": {"peak_flops_per_s": 105e9, "bandwidth_bytes_per_s": 11.8e9},
        "notes": ["The load average was 0.4 at the start."],
    }


@pytest.fixture
def records(summary: dict[str, Any]) -> list[Record]:
    draw = random.Random(7)
    start = datetime(2026, 11, 3, 10, 11, 12, tzinfo=UTC)
    tasks = [kernel for kernel in summary["kernels"] if kernel["tuned_s"]]
    counts = dict.fromkeys((kernel["task"] for kernel in tasks), 0)
    made = []
    for trial in range(600):
        kernel = (
            tasks[trial % len(tasks)]
            if trial < 200
            else draw.choices(tasks, [k["flops"] * k["weight"] for k in tasks])[0]
        )
        counts[kernel["task"]] += 1
        slack = draw.lognormvariate(0, 0.5) * (1 + 60 / counts[kernel["task"]] ** 1.1)
        time_s = max(kernel["tuned_s"] * (0.97 + slack * 0.1), kernel["tuned_s"])
        status = Status.BUILD_FAILED if draw.random() < 0.02 else Status.OK
        measurement = (
            Measurement(Status.OK, (time_s, time_s * 1.01, time_s * 1.02))
            if status is Status.OK
            else Measurement(status, reason="LLVM: out of registers")
        )
        made.append(
            Record(
                run_id=summary["run_id"],
                task_key=kernel["task"],
                task_name=kernel["name"],
                scope="scope",
                trial=trial,
                candidate=f"best-{int(kernel['task'], 16)}" if counts[kernel["task"]] == 12 else f"c{trial}",
                proposer=draw.choice(["seed", "tpe", "mutate"]),
                measurement=measurement,
                seed=0,
                created_at=(start + timedelta(seconds=trial + draw.random() * 0.4)).isoformat(),
            )
        )
    return made
