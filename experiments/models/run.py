"""The models of this project's run files, tuned and compared with everything that a user could install: one table.

    python experiments/models/run.py tune [NAME ...] [--time-budget 10m] [--out results/models]
    python experiments/models/run.py table [FOLDER] [--json FILE]

`tune` runs `tuner run configs/NAME.yaml` for each model, one after the other, on an otherwise idle machine. `table`
reads the newest finished run of each model in the folder. Nothing is measured twice: a model with a run is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ROOT, write_json

MODELS = (
    "resnet", "resnet18", "vgg19", "densenet121", "inception_v1", "inception_v2", "squeezenet", "alexnet", "zfnet512",
    "shufflenet", "mobilenet_v2", "vit_small", "bert_base", "convnext_tiny", "gpt2",
)  # fmt: skip
"""Names of run files in configs/."""

NARROWER = ("resnet_bf16", "resnet_int8", "bert_bf16", "bert_int8")
"""The same in other precisions, tuned where they are named."""

Row = dict[str, Any]


def tune(names: Sequence[str], out: Path, options: Sequence[str]) -> int:
    """The number of models whose run failed."""
    failed = 0
    for name in names:
        if newest(out / name) is not None:
            print(f"{name}: has a run", flush=True)
            continue
        command = [
            sys.executable,
            "-m",
            "tuner",
            "run",
            str(ROOT / "configs" / f"{name}.yaml"),
            "--out",
            str(out / name),
        ]
        print(f"{name}: {' '.join(command[1:])}", flush=True)
        failed += subprocess.run([*command, *options], cwd=ROOT).returncode != 0
    return failed


def newest(folder: Path) -> Path | None:
    """The summary of the newest finished run in a folder of runs."""
    return max(folder.glob("*/summary.json"), key=lambda path: path.stat().st_mtime, default=None)


def rows(out: Path) -> Iterator[Row]:
    """One row for each model and state of the machine."""
    for name in (*MODELS, *NARROWER):
        path = newest(out / name)
        if path is None:
            continue
        summary = json.loads(path.read_text(encoding="utf-8"))
        whole = summary["end_to_end"]
        account = summary.get("account") or {}
        certified = sum(k["weight"] * (k["tuned_s"] or k["untuned_s"] or 0.0) for k in summary["kernels"])
        for state, view in (whole.get("states") or {}).items():
            if "tuned" not in view["entries"]:
                continue
            speedups = {
                entry: 1.0 / found["ratio"]
                for entry, found in view["entries"].items()
                if entry not in ("tuned", "untuned") and found["ratio"]
            }
            best = min(speedups, key=speedups.__getitem__, default=None)
            yield {
                "model": name, "state": state, "threads": summary["target"]["threads"],
                "tuned_s": view["entries"]["tuned"]["median_s"], "best": best,
                "speedup": None if best is None else speedups[best],
                "verdict": None if best is None else view["entries"][best]["verdict"],
                "speedups": speedups, "noise_floor": view["noise_floor"], "verified": whole["verified"],
                "first_call": _first_call(whole), "certified_s": certified, "inside_s": account.get("end_to_end_s"),
                "load_s": whole.get("load_s"), "peak_bytes": whole.get("peak_bytes"),
            }  # fmt: skip


def _first_call(whole: Mapping[str, Any]) -> float | None:
    """The least speedup of the first call after a rest, over all baselines."""
    found = [e["ratio"] for name, e in (whole.get("first_calls") or {}).items() if name not in ("tuned", "untuned")]
    return min((1.0 / ratio for ratio in found if ratio), default=None)


def table(found: Sequence[Row]) -> str:
    """Markdown: a line for each row."""
    head = "| model | state | tuned | best baseline | speedup | verdict | first call | certified / inside | others |"
    lines = [head, "|:--|:--|--:|:--|--:|:--|--:|--:|:--|"]
    for row in found:
        inside = row["inside_s"]
        rest = sorted((speedup, name) for name, speedup in row["speedups"].items() if name != row["best"])
        others = ", ".join(f"{name} {speedup:.3g}" for speedup, name in rest)
        cells = [
            row["model"], row["state"], f"{1e3 * row['tuned_s']:.4g} ms", row["best"] or "none",
            _ratio(row["speedup"]), row["verdict"] or "", _ratio(row["first_call"]),
            "" if not inside else f"{row['certified_s'] / inside:.3f}", others,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_speedup(found: Sequence[Row]) -> float | None:
    """The geometric mean of the models' speedups over their best baselines, each in the state where it is least."""
    least: dict[str, float] = {}
    for row in found:
        if row["speedup"]:
            least[row["model"]] = min(least.get(row["model"], math.inf), row["speedup"])
    return math.exp(sum(map(math.log, least.values())) / len(least)) if least else None


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    tuning = commands.add_parser("tune")
    tuning.add_argument("names", nargs="*", metavar="NAME", default=MODELS)
    tuning.add_argument("--time-budget", default="10m")
    tuning.add_argument("--out", type=Path, default=ROOT / "results" / "models")
    showing = commands.add_parser("table")
    showing.add_argument("folder", nargs="?", type=Path, default=ROOT / "results" / "models")
    showing.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.command == "tune":
        if unknown := sorted(set(args.names) - {*MODELS, *NARROWER}):
            parser.error(f"no such models: {', '.join(unknown)}; there are {', '.join((*MODELS, *NARROWER))}")
        return tune(args.names, args.out.resolve(), ["--time-budget", args.time_budget])
    found = list(rows(args.folder))
    print(table(found))
    print(f"\nGeometric mean of the speedups over the best baselines: {_ratio(mean_speedup(found))}")
    if args.json:
        write_json(args.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
