"""How much of a GPU is idle in the last wave of thread blocks, and what split-K and stream-K are predicted to change.
Nothing is run.

python experiments/gpu_passes/balance.py [--arch sm_90a] [--draws N] [--json FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tvm import te, topi
from tvm.target import Target

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import write_json
from kernels.gpus import gpu_of
from kernels.passes.base import Pass
from kernels.passes.stream_k import StreamK
from kernels.space import Candidate, DesignSpace, generate
from kernels.space.gpu import GpuModel
from kernels.space.gpu_work import divided_by, predict, work
from kernels.space.split_k import RULE
from kernels.waves import busiest, idle_share
from kernels.workload import from_prim_func

PRODUCTS = (
    (1, 4096, 4096), (16, 4096, 4096), (64, 64, 4096), (128, 128, 8192), (128, 768, 3072), (197, 384, 1536),
    (256, 256, 4096), (512, 512, 4096), (1024, 1024, 1024), (1536, 1152, 4096), (4096, 4096, 4096),
)  # fmt: skip
"""(rows, columns, depth): of transformers at batch 1, skinny ones, and some that fill a device."""

CONVOLUTIONS = ((512, 512, 7, 3), (256, 256, 14, 3), (2048, 512, 7, 1), (64, 64, 56, 3))
"""(channels, outputs, size, kernel)."""


def product(rows: int, columns: int, depth: int) -> Any:
    a, b = te.placeholder((rows, depth), name="a"), te.placeholder((depth, columns), name="b")
    return te.create_prim_func([a, b, topi.matmul(a, b)])


def convolution(channels: int, outputs: int, size: int, kernel: int) -> Any:
    data = te.placeholder((1, channels, size, size), name="data")
    weight = te.placeholder((outputs, channels, kernel, kernel), name="weight")
    return te.create_prim_func([data, weight, topi.nn.conv2d_nchw(data, weight, 1, kernel // 2, 1)])


def best(space: DesignSpace, which: str, draws: int) -> tuple[float, Candidate] | None:
    """The candidate that is predicted to be the fastest: of sketches that divide the reduction ("split"), or of the
    others, in whole tiles ("whole") or with `stream_k` ("stream")."""
    rng = np.random.default_rng(0)
    settings: Sequence[Pass] = StreamK.variants("cuda")[1:] if which == "stream" else (StreamK(),)
    found = []
    for sketch in space.sketches:
        if sketch.gpu is None or (sketch.rule == RULE) != (which == "split"):
            continue
        for candidate in (space.sample_sketch(sketch.number, rng) for _ in range(draws)):
            if candidate is None:
                continue
            for setting in settings:
                passes = candidate.passes.replace(setting)
                if divided_by(sketch.gpu, candidate.decisions, passes) is not None or which != "stream":
                    seconds = predict(sketch.gpu, candidate.decisions, passes).seconds
                    found.append((seconds, replace(candidate, passes=passes)))
    return min(found, key=lambda entry: entry[0], default=None)


def idle_of(model: GpuModel, candidate: Candidate, multiprocessors: int) -> tuple[int, float]:
    """The thread blocks of a candidate's main launch, and what part of the multiprocessors' time is idle."""
    division = divided_by(model, candidate.decisions, candidate.passes)
    if division is None:
        blocks = work(model, candidate.decisions).blocks
        return blocks, idle_share(blocks, multiprocessors)
    loads = division.loads()
    return division.blocks, 1.0 - sum(loads) / (busiest(loads, multiprocessors) * multiprocessors)


def row(name: str, function: Any, target: Target, draws: int) -> dict[str, Any]:
    space = generate(from_prim_func(function, name), target, ["unroll"])
    multiprocessors = gpu_of(str(target.arch)).multiprocessors
    found: dict[str, Any] = {"kernel": name}
    for which in ("whole", "split", "stream"):
        chosen = best(space, which, draws)
        if chosen is not None:
            seconds, candidate = chosen
            model = space.sketches[candidate.sketch].gpu
            assert model is not None
            blocks, idle = idle_of(model, candidate, multiprocessors)
            found[which] = {
                "candidate": candidate.to_text(), "blocks": blocks, "predicted_s": seconds,
                "idle_share": round(idle, 4),
            }  # fmt: skip
    for which, name in (("split", "predicted_speedup"), ("stream", "predicted_speedup_stream")):
        if which in found:
            found[name] = round(found["whole"]["predicted_s"] / found[which]["predicted_s"], 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="sm_90a")
    parser.add_argument("--draws", type=int, default=300, help="of each sketch")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    limits = {"max_threads_per_block": 1024, "max_shared_memory_per_block": 232448, "thread_warp_size": 32}
    target = Target({"kind": "cuda", "arch": arguments.arch, **limits})
    kernels = [(f"product {m} x {n} x {k}", product(m, n, k)) for m, n, k in PRODUCTS]
    kernels += [(f"conv2d {c} -> {o}, {s} x {s}, {k} x {k}", convolution(c, o, s, k)) for c, o, s, k in CONVOLUTIONS]
    rows = []
    print("| kernel | idle | idle, split-K | predicted | idle, stream-K | predicted |\n|:--|--:|--:|--:|--:|--:|")
    for name, function in kernels:
        made = row(name, function, target, arguments.draws)
        rows.append(made)
        cells = [f"{made[which]['idle_share']:.2f}" if which in made else "-" for which in ("whole", "split", "stream")]
        gains = [made.get(key, "-") for key in ("predicted_speedup", "predicted_speedup_stream")]
        print(f"| {name} | {cells[0]} | {cells[1]} | {gains[0]} | {cells[2]} | {gains[1]} |", flush=True)
    if arguments.json:
        write_json(arguments.json, {"arch": arguments.arch, "draws": arguments.draws, "kernels": rows})


if __name__ == "__main__":
    main()
