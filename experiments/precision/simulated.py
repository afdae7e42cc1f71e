"""Do small models in every precision of a GPU come out right, by kernels that are executed?

    python experiments/precision/simulated.py [--trials 8] --out results/DEVICE/precision_simulated.json

Each model and precision is one `tuner run` on the simulated GPU: searched, verified against float64, exported. What is
in the file is not run again. About a minute a run. Its times are estimates, and not in the file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ROOT, write_json

MODELS = {"convolutions": "small_convnet", "transformer block": "small_block", "dense layers": "small_dense"}
"""By their names in the table: those of `configs.models`."""

PRECISIONS = ("float16", "bfloat16", "int8", "auto", "float32")

CONFIG = """
model: {{source: "torch:configs.models:{model}"}}
target: simulated_cuda
precision: {precision}
search: {{effort: quick, trials: {trials}, time_budget: 20m}}
baselines: {{models: [untuned], kernels: false}}
measure: {{database: "sqlite:///{folder}/records.db"}}
out: {folder}/runs
"""


def run(model: str, precision: str, trials: int) -> dict[str, Any]:
    """What one run came to."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.yaml"
        file.write_text(CONFIG.format(model=MODELS[model], precision=precision, trials=trials, folder=folder))
        command = [sys.executable, "-m", "tuner", "run", str(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        found = sorted((Path(folder) / "runs").glob("*/summary.json"))
        if not found:
            raise SystemExit(f"{model} in {precision}: {done.stderr[-2000:]}")
        summary = json.loads(found[-1].read_text())
    known = summary.get("precision") or {}
    quality = known.get("quality") or {}
    kernels = [kernel for kernel in summary["kernels"] if kernel["candidate"]]
    return {
        "model": model, "precision": precision, "trials": trials, "exit_code": done.returncode,
        "verified": summary["end_to_end"]["verified"], "exported": summary["export"] is not None,
        "layers": dict(Counter(layer["precision"] for layer in known.get("layers", ()))),
        "relative_error": max((error["relative"] or 0.0 for error in quality.get("errors", ())), default=None),
        "kernels": len(summary["kernels"]),
        "on_tensor_cores": sum(kernel["arithmetic"].endswith("on tensor cores") for kernel in kernels),
        "failed": summary["search"]["failed"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8, help="of each run")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = json.loads(args.out.read_text()) if args.out.exists() else []
    for model in MODELS:
        for precision in PRECISIONS:
            if any((row["model"], row["precision"]) == (model, precision) for row in rows):
                continue
            rows.append(run(model, precision, args.trials))
            write_json(args.out, rows)
            print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
