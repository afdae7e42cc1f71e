"""How much faster raised kernels are than what clang makes of the original, on this machine, with one thread.

python experiments/raising/speed.py [--budget 60] [--only NAME,NAME] -o FILE.json

Each kernel of speed.c is one run of the program, with its own comparison and verdicts. What counts is the exported
function, with its guard and copies, beside the original on memory of `malloc`; what is not exported stays the original.
What is in the file already is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.common import ROOT, write_json

KERNELS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "gemm": ("contraction", {"n": 1024}), "product_transposed": ("contraction", {"n": 1024}),
    "batched": ("contraction", {"b": 8, "n": 384}), "gemm64": ("contraction", {"n": 768}),
    "convolution": ("convolution", {"f": 64, "c": 64, "h": 58}),
    "convolution_strided": ("convolution", {"f": 64, "c": 32, "h": 56}),
    "five_points": ("stencil", {"n": 2048}), "seven_points": ("stencil", {"n": 200}),
    "smoothed_twice": ("stencil", {"n": 2048}), "smoothed": ("stencil", {"t": 10, "n": 2048}),
    "waves": ("stencil", {"t": 10, "n": 2048}), "heat": ("stencil", {"t": 5, "n": 160}),
}  # fmt: skip
"""Group and sizes."""

FAST, PRECISE, BLAS = "original_O3_fast", "original_O3", "numpy_blas"


def measured(name: str, budget_s: int) -> dict[str, Any]:
    """One run: times, ratios (tuned by the other) and verdicts. With {"error"} where it gave none."""
    group, sizes = KERNELS[name]
    with tempfile.TemporaryDirectory() as scratch:
        config = {
            "model": {
                "source": f"llvm:{Path(__file__).with_name('speed.c')}", "function": name, "sizes": dict(sizes),
                "allow_reassociation": True,
            },
            "search": {"time_budget": f"{budget_s}s"}, "target": {"threads": 1},
            "out": str(Path(scratch, "runs")),
        }  # fmt: skip
        file = Path(scratch, "run.yaml")
        file.write_text(json.dumps(config))
        command = [sys.executable, "-m", "tuner", "run", str(file)]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=budget_s + 900)
        except subprocess.TimeoutExpired:
            return {"group": group, "error": f"no end within {budget_s + 900} s"}
        found = sorted(Path(scratch, "runs").glob("*/summary.json"))
        if not found:
            return {"group": group, "error": done.stderr.strip()[-400:]}
        summary = json.loads(found[-1].read_text())
    whole = summary["end_to_end"]
    timed = next((note for note in summary["notes"] if "with its guard and copies" in note), "")
    return {
        "relinked": {name: float(ratio) for ratio, name in re.findall(r"([\d.]+) of the time of (\w+)", timed)},
        "timed": timed,
        "group": group, "sizes": dict(sizes), "tuned_s": whole["tuned_s"], "verified": whole["verified"],
        "ratios": whole["ratios"], "verdicts": whole["verdicts"], "exported": bool(summary["export"]),
        "seconds": {key: part["median_s"] for key, part in whole["baselines"].items()},
    }  # fmt: skip


def summed_up(kernels: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Geometric means of speed-ups by group: of exported functions, 1 where the original stays; of the kernels
    themselves over numpy's BLAS."""
    found: dict[str, Any] = {}
    for group in dict.fromkeys(kind for kind, _ in KERNELS.values()):
        some = [k for k in kernels.values() if k["group"] == group and "ratios" in k]
        for other in (FAST, PRECISE):
            factors = [1 / k["relinked"].get(other, 1.0) if k["exported"] else 1.0 for k in some]
            if factors:
                found[f"{group}, times {other}"] = _mean(factors)
        if blas := [1 / k["ratios"][BLAS] for k in some if k["ratios"].get(BLAS)]:
            found[f"{group}, times {BLAS}"] = _mean(blas)
    return {**found, "not exported": [n for n, k in kernels.items() if not k.get("exported")]}


def _mean(factors: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, factors)) / len(factors))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=int, default=60, help="seconds of search for a kernel")
    parser.add_argument("--only", default=",".join(KERNELS))
    parser.add_argument("-o", dest="output", required=True)
    chosen = parser.parse_args(arguments)
    output = Path(chosen.output)
    kernels = json.loads(output.read_text())["kernels"] if output.exists() else {}
    for name in chosen.only.split(","):
        if "ratios" not in kernels.get(name, {}):
            kernels[name] = measured(name, chosen.budget)
            write_json(output, {"budget_s": chosen.budget, "summary": summed_up(kernels), "kernels": kernels})
        print(name, json.dumps(kernels[name]), flush=True)
    print(json.dumps(summed_up(kernels), indent=1))


if __name__ == "__main__":
    main()
