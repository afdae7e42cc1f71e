"""How well does the analytical model order measured kernels? Reads recorded spaces, prints rank correlations.

    python experiments/roofline/run.py FOLDER_OF_RECORDED_SPACES

A recorded space is one kernel on one GPU with every configuration measured (format "replay-space/1").
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kernels.gpus import GPUS
from kernels.roofline import Work, estimate

Config = Mapping[str, int]


def clblast_gemm(c: Config) -> Work:
    """CLBlast's Xgemm, 4096 x 4096 x 4096 in float32: MWG x NWG tiles, MDIMC x NDIMC threads, KWG steps."""
    size, f = 4096, 4
    threads = c["MDIMC"] * c["NDIMC"]
    rows, columns = c["MWG"] // c["MDIMC"], c["NWG"] // c["NDIMC"]
    tile_a, tile_b = c["MWG"] * c["KWG"], c["NWG"] * c["KWG"]
    steps = size // c["KWG"]
    depth = size
    staging = c["SA"] * tile_a * steps + c["SB"] * tile_b * steps
    # an unstaged operand is fetched by every warp for itself; L1 serves what a warp shares
    fetched = float((tile_a + tile_b) * steps * f)
    fetched += 0.25 * (0 if c["SA"] else tile_a * steps * f * max(c["NDIMC"] * c["MDIMC"] // 32 - 1, 0) / 4)
    fetched += 0.25 * (0 if c["SB"] else tile_b * steps * f * max(c["NDIMC"] * c["MDIMC"] // 32 - 1, 0) / 4)
    vector = min(c["VWM"], 4)
    return Work(
        blocks=(size // c["MWG"]) * (size // c["NWG"]),
        threads=threads,
        registers=24 + rows * columns + rows + columns,
        shared_memory=f * (c["SA"] * tile_a + c["SB"] * tile_b),
        flops=2.0 * c["MWG"] * c["NWG"] * size,
        l2_bytes=fetched + c["MWG"] * c["NWG"] * f,
        shared_bytes=(_broadcast(c, rows, columns) * depth + 2 * staging) * f,
        least_dram_bytes=3.0 * size * size * f,
        steps=steps if c["SA"] or c["SB"] else steps // 4,
        independent=rows * columns,
        coalesced=min(1.0, c["MDIMC"] * vector * f / 64),
        overhead=1.0 + (rows / min(c["VWM"], 4) + columns / min(c["VWN"], 4)) / (rows * columns),
    )


def _broadcast(c: Config, rows: int, columns: int) -> float:
    """Elements that shared memory or L1 delivers for one step of the reduction.

    Lanes that read one address are served at once. A thread's rows are contiguous, so lanes are `rows` elements apart,
    and vectors shorter than that leave banks idle.
    """
    warps = c["MDIMC"] * c["NDIMC"] / 32
    apart = rows / min(c["VWM"], 4, rows)
    return warps * (32 * rows * apart / 2 + max(32 // c["MDIMC"], 1) * columns * 4 / min(c["VWN"], 4))


def convolution(c: Config) -> Work:
    """A 15 x 15 filter over a 4096 x 4096 image in float32, tiles of block_size x tile_size."""
    size, f = 4096, 4
    width, height = c["block_size_x"] * c["tile_size_x"], c["block_size_y"] * c["tile_size_y"]
    fw, fh = c["filter_width"], c["filter_height"]
    threads = c["block_size_x"] * c["block_size_y"]
    tile = c["tile_size_x"] * c["tile_size_y"]
    halo = (width + fw - 1) * (height + fh - 1)
    guarded = not c["use_shmem"] and (size % width or size % height)  # every read is checked, none is held in registers
    rows = c["tile_size_y"] * fh if guarded else c["tile_size_y"] + fh - 1  # shared by a column's outputs, in registers
    reads = c["tile_size_x"] * rows * fw * threads
    conflicts = 1.0
    if c["use_shmem"] and not c["use_padding"] and c["block_size_x"] % 32:
        conflicts = 1.3  # a warp spans rows of the tile, which begin in banks that overlap
    return Work(
        blocks=-(-size // width) * -(-size // height),
        threads=threads,
        registers=24 + 2 * tile,
        shared_memory=halo * f if c["use_shmem"] else 0,
        flops=2.0 * width * height * fw * fh,
        l2_bytes=halo * f + width * height * f,
        shared_bytes=(reads + (halo if c["use_shmem"] else 0)) * f,
        least_dram_bytes=2.0 * size * size * f,
        independent=tile,
        conflicts=conflicts,
        overhead=(2.0 if guarded else 1.0) + 1.5 / tile,
    )


SPACES: Mapping[str, tuple[str, Callable[[Config], Work]]] = {
    "gemm_clblast-RTX_2080_Ti": ("RTX 2080 Ti", clblast_gemm),
    "gemm_clblast-RTX_Titan": ("TITAN RTX", clblast_gemm),
    "convolution_milo-A4000": ("RTX A4000", convolution),
}


def load(path: Path) -> tuple[list[Config], np.ndarray[Any, Any]]:
    """Every valid configuration and its milliseconds."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    values = [[p["values"][i] for i in column] for p, column in zip(data["params"], data["configs"], strict=True)]
    names = [p["name"] for p in data["params"]]
    configs = [{**data["constants"], **dict(zip(names, row, strict=True))} for row in zip(*values, strict=True)]
    times = np.array([np.nan if t is None else t for t in data["time_ms"]], float)
    valid = np.isfinite(times) & (times > 0)
    return [config for config, is_valid in zip(configs, valid, strict=True) if is_valid], times[valid]


def ranks(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.argsort(np.argsort(x, kind="stable"), kind="stable").astype(float)


def assess(name: str, folder: Path) -> str:
    """One line of the table for a recorded space."""
    gpu, work = SPACES[name]
    configs, times = load(folder / f"{name}.json.gz")
    predicted = np.array([estimate(work(c), GPUS[gpu]).seconds for c in configs])
    rho = float(np.corrcoef(ranks(predicted), ranks(times))[0, 1])
    order = np.argsort(predicted, kind="stable")
    best = times.min()
    picks = " ".join(f"{best / times[order[:n]].min():.3f}" for n in (1, 10, 50))
    rng = np.random.default_rng(0)
    chance = " ".join(
        f"{np.mean([best / times[rng.choice(len(times), n, replace=False)].min() for _ in range(300)]):.3f}"
        for n in (1, 10, 50)
    )
    slow = predicted > np.median(predicted)
    lost = float(np.mean(slow[np.argsort(times)[: max(len(times) // 100, 1)]]))
    return f"| {name} | {len(times)} | {rho:.2f} | {picks} | {chance} | {lost:.1%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print("| space | kernels | rank correlation | best / best of the first 1, 10, 50 by the model |"
          " the same at random | best 1 % in the model's slower half |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    for name in SPACES:
        if (folder / f"{name}.json.gz").exists():
            print(assess(name, folder))


if __name__ == "__main__":
    main()
