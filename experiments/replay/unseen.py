"""Spaces that no setting was chosen by, from the analytical (roofline) model: `unseen.py FOLDER`. See README.md.

Four kernels on two GPUs each. The model's seconds are multiplied by an effect of every pair of values and by noise;
some configurations fail. They stand for spaces that nobody looked at, not for any real kernel.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from numpy.typing import NDArray

from kernels.gpus import GPUS
from kernels.roofline import Work, estimate

PAIR_EFFECT = 0.035
"""Deviation of the logarithm for each pair of values: what a roofline does not know, 0.1 to 0.2 in all."""

NOISE = 0.025
FAILING = 0.01
LAUNCHABLE = 0.4
"""The share of what cannot be launched that stays in the space, as a failure: authors restrict most of it away."""

MOST_POINTS = 16000

Config = Mapping[str, Any]
Kernel = tuple[dict[str, list[Any]], Callable[[Config], bool], Callable[[Config], Work]]


def _registers(wanted: int, threads: int) -> tuple[int, int]:
    """Registers that a thread has, and how many of those it wants are spilled."""
    granted = min(wanted, 255, 65536 // max(threads, 32) // 8 * 8)
    return granted, wanted - granted


def product() -> Kernel:
    """A tiled matrix product, 2048 x 1024 x 1024."""
    m, n, k = 2048, 1024, 1024
    powers = [16, 32, 64, 128, 256]
    values = {"BM": powers, "BN": powers, "BK": [8, 16, 32], "TM": [1, 2, 4, 8], "TN": [1, 2, 4, 8],
              "V": [1, 2, 4], "S": [1, 2, 3], "PAD": [0, 1]}  # fmt: skip

    def legal(c: Config) -> bool:
        threads = c["BM"] // c["TM"] * (c["BN"] // c["TN"])
        return bool(32 <= threads <= 1024 and c["V"] <= c["TN"] and threads * 4 <= c["BM"] * c["BK"] * 2)

    def work(c: Config) -> Work:
        rows, columns, threads = c["TM"], c["TN"], c["BM"] // c["TM"] * (c["BN"] // c["TN"])
        steps, tile = k // c["BK"], (c["BM"] + c["BN"]) * c["BK"]
        registers, spilled = _registers(26 + rows * columns + rows + columns + 4 * c["S"], threads)
        return Work(
            blocks=m // c["BM"] * (n // c["BN"]), threads=threads, registers=registers, spilled=spilled,
            shared_memory=4 * tile * c["S"] + c["PAD"] * 64 * c["S"], flops=2.0 * c["BM"] * c["BN"] * k,
            l2_bytes=4.0 * (tile * steps + c["BM"] * c["BN"]),
            shared_bytes=4.0 * (threads * k * (rows / 4 + columns / 2 / c["V"] + 0.5) + 2 * tile * steps),
            least_dram_bytes=4.0 * (m * k + n * k + m * n), steps=steps, in_flight=c["S"], independent=rows * columns,
            conflicts=1.0 if c["PAD"] else 1 + 0.25 * min(rows, 4), coalesced=min(1.0, c["BK"] * c["V"] / 32 + 0.25),
            overhead=1 + (rows + columns / c["V"]) / (rows * columns),
        )  # fmt: skip

    return values, legal, work


def stencil() -> Kernel:
    """A stencil over 4096 x 4096 that makes `t` steps in time for each pass."""
    size = 4096
    values = {"bx": [16, 32, 64, 128, 256, 512], "by": [1, 2, 4, 8, 16, 32], "tx": [1, 2, 3, 4, 6, 8, 10],
              "ty": [1, 2, 3, 4, 5, 6, 8, 10], "t": [1, 2, 3, 4, 5, 6], "sh": [0, 1], "ro": [0, 1]}  # fmt: skip

    def legal(c: Config) -> bool:
        wide = c["bx"] * c["tx"] > 2 * c["t"] and c["by"] * c["ty"] > 2 * c["t"]
        return bool(wide and 32 <= c["bx"] * c["by"] <= 1024 and c["tx"] * c["ty"] <= 40)

    def work(c: Config) -> Work:
        w, h, t, tile, threads = c["bx"] * c["tx"], c["by"] * c["ty"], c["t"], c["tx"] * c["ty"], c["bx"] * c["by"]
        out_w, out_h = w - 2 * t, h - 2 * t
        registers, spilled = _registers(20 + 3 * tile + (6 if c["ro"] else 0), threads)
        reread = 1 if c["sh"] else 1 + 0.7 * t * (0.7 if c["ro"] else 1)
        return Work(
            blocks=-(-size // out_w) * -(-size // out_h), threads=threads, registers=registers, spilled=spilled,
            shared_memory=8 * w * h if c["sh"] else 0, flops=15.0 * w * h * t,
            l2_bytes=8.0 * w * h * reread / t + 4 * out_w * out_h, shared_bytes=4.0 * w * h * t * (5 if c["sh"] else 8),
            least_dram_bytes=6.0 * size * size / t * min(w * h / (out_w * out_h), 3), steps=t, independent=min(tile, 8),
            coalesced=min(1.0, c["bx"] / 32), overhead=(1.2 if c["sh"] else 1.6) + 1.5 / tile,
            conflicts=1.0 if c["tx"] % 2 or c["tx"] == 1 else 1.25,
        )  # fmt: skip

    return values, legal, work


def reduction() -> Kernel:
    """Reductions of 4096 rows of 3072, by shuffles, shared memory or atomics."""
    rows, columns = 4096, 3072
    values = {"block": list(range(32, 1025, 32)), "items": [1, 2, 3, 4, 6, 8, 12, 16], "vec": [1, 2, 4],
              "rows": [1, 2, 4, 8], "method": [0, 1, 2], "ldg": [0, 1]}  # fmt: skip

    def legal(c: Config) -> bool:
        return bool(c["items"] % c["vec"] == 0 and c["block"] * c["items"] <= 8192)

    def work(c: Config) -> Work:
        per = c["block"] * c["items"]
        rounds, sync = -(-columns // per), (1.0, 1.6, 2.4)[c["method"]]
        waste = rounds * per / columns
        registers, spilled = _registers(18 + 3 * c["items"] + (8 if c["method"] == 0 else 0), c["block"])
        return Work(
            blocks=rows // c["rows"], threads=c["block"], registers=registers, spilled=spilled,
            shared_memory=0 if c["method"] == 0 else 4 * c["block"] * c["rows"],
            flops=48.0 * columns * c["rows"] * waste, l2_bytes=4.0 * columns * c["rows"] * waste,
            shared_bytes=sync * c["block"] * c["rows"] * 64.0, least_dram_bytes=8.0 * rows * columns,
            steps=int(rounds * c["rows"] * sync) + 1, in_flight=min(c["items"], 8), independent=c["items"],
            coalesced=min(1.0, 0.55 + 0.15 * c["vec"]), overhead=1.0 + 1.0 / c["vec"] + (0 if c["ldg"] else 0.15),
        )  # fmt: skip

    return values, legal, work


def bodies() -> Kernel:
    """All pairs of 32768 bodies."""
    n = 32768
    values: dict[str, list[Any]] = {
        "bs": [32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024], "outer": [1, 2, 3, 4, 5, 6, 7, 8],
        "un1": [0, 1, 2, 4, 8, 16, 32], "un2": [0, 1, 2, 4], "soa": ["aos", "soa"], "local": [0, 1], "vec": [1, 2, 4],
    }  # fmt: skip

    def legal(c: Config) -> bool:
        unrolled = c["outer"] % max(c["un2"], 1) == 0 and (c["local"] or c["un1"] <= 8)
        return bool(unrolled and not (c["soa"] == "aos" and c["vec"] == 2))

    def work(c: Config) -> Work:
        unroll, soa = max(c["un1"], 1), c["soa"] == "soa"
        wanted = 22 + 6 * c["outer"] + min(unroll, 8) * (2 if c["vec"] > 1 else 1) + (8 if c["un1"] == 0 else 0)
        registers, spilled = _registers(wanted, c["bs"])
        layout = 1.3 / c["vec"] + 0.4 if soa else 1.0
        return Work(
            blocks=-(-n // (c["bs"] * c["outer"])), threads=c["bs"], registers=registers, spilled=spilled,
            shared_memory=16 * c["bs"] if c["local"] else 0, flops=20.0 * n * c["bs"] * c["outer"],
            l2_bytes=16.0 * n * (1 if c["local"] else 1 + c["bs"] / 128),
            shared_bytes=16.0 * n * c["bs"] / 32 * (1 if c["local"] else 3) * layout, least_dram_bytes=32.0 * n,
            steps=n // c["bs"], independent=c["outer"] * (2 if unroll > 2 else 1),
            coalesced=min(1.0, 0.4 + 0.15 * c["vec"]) if soa else (0.5 if c["vec"] < 4 else 1.0),
            overhead=1.05 + 0.5 / unroll + 0.4 / c["outer"] + (0.02 * unroll if unroll > 16 else 0),
        )  # fmt: skip

    return values, legal, work


KERNELS: Mapping[str, tuple[Callable[[], Kernel], tuple[str, str]]] = {
    "hgemm": (product, ("A100", "L40")),
    "hstencil": (stencil, ("V100", "H200")),
    "hreduce": (reduction, ("L40", "RTX 2080 Ti")),
    "hnbody": (bodies, ("B200", "RTX A4000")),
}


Configurations = list[tuple[tuple[int, ...], Config]]
"""Indices of values, and the values by name."""


def configurations(values: Mapping[str, list[Any]], legal: Callable[[Config], bool]) -> Configurations:
    """All that are legal."""
    every = itertools.product(*(range(len(v)) for v in values.values()))
    named = [(i, {name: v[j] for (name, v), j in zip(values.items(), i, strict=True)}) for i in every]
    return [(indices, config) for indices, config in named if legal(config)]


def pair_effects(choices: NDArray[np.int64], sizes: Sequence[int], rng: np.random.Generator) -> NDArray[np.float64]:
    """For each configuration the sum of the effects of its pairs of values, on the logarithm of the time."""
    effects = np.zeros(len(choices))
    for b, a in sorted(itertools.combinations(range(len(sizes)), 2), key=lambda pair: pair[::-1]):
        effects += (PAIR_EFFECT * rng.standard_normal((sizes[a], sizes[b])))[choices[:, a], choices[:, b]]
    return effects


def space(kernel: str, number: int, which: int) -> dict[str, Any]:
    """What the file of a kernel on one of its GPUs holds."""
    make, gpus = KERNELS[kernel]
    values, legal, work = make()
    legal_ones, gpu = configurations(values, legal), gpus[which]
    rng = np.random.default_rng([77, number, which])
    choices = np.array([indices for indices, _ in legal_ones])
    time_ms = np.array([1e3 * estimate(work(config), GPUS[gpu]).seconds for _, config in legal_ones])
    effects = pair_effects(choices, [len(v) for v in values.values()], rng)
    time_ms *= np.exp(effects + NOISE * rng.standard_normal(len(legal_ones)))
    stays = np.isfinite(time_ms) | (rng.random(len(legal_ones)) >= 1 - LAUNCHABLE)
    time_ms[~np.isfinite(time_ms) | (rng.random(len(legal_ones)) < FAILING)] = np.nan
    rows = np.flatnonzero(stays)
    if len(rows) > MOST_POINTS:
        rows = np.sort(rng.choice(rows, MOST_POINTS, replace=False))
    return {
        "format": "replay-space/1", "name": f"{kernel}-{gpu.replace(' ', '_')}", "kernel": kernel, "device": gpu,
        "constants": {}, "params": [{"name": name, "values": v} for name, v in values.items()], "restrictions": None,
        "configs": choices[rows].T.tolist(),
        "time_ms": [None if math.isnan(t) else float(t) for t in time_ms[rows]],
    }  # fmt: skip


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for number, (kernel, (_, gpus)) in enumerate(KERNELS.items()):
        for which in range(len(gpus)):
            recorded = space(kernel, number, which)
            with gzip.open(folder / f"{recorded['name']}.json.gz", "wt") as file:
                json.dump(recorded, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
