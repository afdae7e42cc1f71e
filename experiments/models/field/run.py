"""Models of the field, imported from PyTorch and from ONNX, built without a search and verified.

    python experiments/models/field/run.py check [NAME ...] [--by torch onnx] [--out FILE] [--again]
    python experiments/models/field/run.py tune [NAME ...] [--by torch onnx] [--out FILE] [--options "--trials 9"]

`check` builds without a search; `tune` puts those that are right through `tuner run`, and adds what came of it.

A name is a function of models.py beside this file, or any `torch:` source.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from experiments.common import ROOT, write_json
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

SERVICE = "experiments.models.field.service:FieldModel"
MODELS = "experiments.models.field.models"
TIMEOUT_S = 240.0

Result = dict[str, Any]


class Checker:
    """A child that checks one model after another, and is started anew after a crash or a hang."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._folder = tempfile.TemporaryDirectory(prefix="field-")
        self._child: Child | None = None

    def run(self, source: str, by: str) -> Result:
        if self._child is None:
            self._child = Child(SERVICE, {"folder": self._folder.name}, env=thread_env(1))
        try:
            return dict(self._child.call("run", self._timeout_s, source=source, by=by))
        except (ChildDied, ChildError, ChildTimeout) as error:
            self.close()
            return {"class": "error", "reason": f"{type(error).__name__}: {error}"[:600], "notes": [], "seconds": {}}

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None


def check(sources: Sequence[str], ways: Sequence[str], out: Path, again: bool, timeout_s: float) -> dict[str, Result]:
    """The results by `NAME by WAY`; those that `out` has are taken from it."""
    results: dict[str, Result] = json.loads(out.read_text("utf-8")) if out.exists() else {}
    checker = Checker(timeout_s)
    for source in sources:
        for by in ways:
            key = f"{source.rpartition(':')[2]} by {by}"
            if key in results and not again:
                continue
            began = time.monotonic()
            results[key] = checker.run(source, by)
            write_json(out, results)
            found = results[key]
            print(f"{key}: {found['class']} {found['reason'][:300]} ({time.monotonic() - began:.1f} s)", flush=True)
    checker.close()
    return results


def names() -> list[str]:
    """Every model of models.py."""
    return list(importlib.import_module(MODELS).MODELS)


def tuned(source: str, by: str, folder: Path, options: Sequence[str], timeout_s: float) -> Result:
    """One model through `tuner run`: whether it was verified and exported, and the seconds that all of it took."""
    if by == "onnx":
        name = source.rpartition(":")[2]
        with Child(SERVICE, {"folder": str(folder)}, env=thread_env(1)) as child:
            source = "onnx:" + child.call("export", timeout_s, source=source, path=str(folder / f"{name}.onnx"))
    config = folder / "config.yaml"
    config.write_text(
        f"model: {{source: {json.dumps(source)}, weights: {'original' if by == 'onnx' else 'random'}}}\n"
        f"search: {{effort: quick}}\nbaselines: {{models: [untuned, torch], kernels: false}}\n"
        f'measure: {{database: "sqlite:///{folder / "records.db"}"}}\n'
    )
    command = [sys.executable, "-m", "tuner", "run", str(config), "--out", str(folder / "runs"), *options]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)
    result: Result = {"exit": done.returncode, "wall_s": round(time.monotonic() - began, 1)}
    path = next((folder / "runs").glob("*/summary.json"), None)
    if path is None:
        return {**result, "verified": None, "exported": False, "reason": done.stderr.strip()[-300:]}
    summary = json.loads(path.read_text("utf-8"))
    whole = summary["end_to_end"] or {}
    why = next((note for note in summary["notes"] if note.startswith("not exported: ")), "")
    return {**result, "verified": whole.get("verified"), "exported": summary["export"] is not None, "reason": why}


def tune(sources: Sequence[str], ways: Sequence[str], out: Path, options: Sequence[str], timeout_s: float) -> None:
    """Add `tuned` to the results that `out` has; those that have it already are left out."""
    results: dict[str, Result] = json.loads(out.read_text("utf-8"))
    for source in sources:
        for by in ways:
            key = f"{source.rpartition(':')[2]} by {by}"
            if results.get(key, {}).get("class") not in ("right", "unverified") or "tuned" in results[key]:
                continue
            with tempfile.TemporaryDirectory(prefix="field-") as folder:
                try:
                    results[key]["tuned"] = tuned(source, by, Path(folder), options, timeout_s)
                except subprocess.TimeoutExpired:
                    results[key]["tuned"] = {"exit": None, "reason": f"not done within {timeout_s:.0f} s"}
            write_json(out, results)
            print(key, results[key]["tuned"], flush=True)


def table(results: Mapping[str, Result]) -> str:
    """A line for each model: how it came in from PyTorch and from ONNX, and whether what was tuned is verified."""
    searched = any("tuned" in result for result in results.values())
    lines = ["| model | kernels | from PyTorch | from ONNX |", "|:--|--:|:--|:--|"]
    if searched:
        lines = [f"{lines[0]} tuned, verified and exported |", f"{lines[1]}:--|"]
    for name in dict.fromkeys(key.rpartition(" by ")[0] for key in results):
        found = {by: results.get(f"{name} by {by}", {}) for by in ("torch", "onnx")}
        kernels = next((str(r["kernels"]) for r in found.values() if r.get("kernels")), "")
        runs = [by for by, result in found.items() if "tuned" in result]
        good = [by for by in runs if found[by]["tuned"].get("verified") and found[by]["tuned"].get("exported")]
        line = f"| {name} | {kernels} | {_cell(found['torch'])} | {_cell(found['onnx'])} |"
        lines.append(f"{line} {_ways(runs, good)} |" if searched else line)
    return "\n".join(lines)


def counts(results: Mapping[str, Result], by: str) -> str:
    """`35 models: 34 right, 1 refused`, of those that were tried by one way."""
    found = Counter(result["class"] for key, result in results.items() if key.endswith(f" by {by}"))
    return f"{sum(found.values())} models: " + ", ".join(f"{count} {kind}" for kind, count in found.most_common())


def runs(results: Mapping[str, Result]) -> str:
    """`50 runs of 25 models: 49 verified and exported, 52 to 63 s each`, of those that went through `tuner run`."""
    tried = {key: result["tuned"] for key, result in results.items() if "tuned" in result}
    if not tried:
        return "none"
    models = len({key.rpartition(" by ")[0] for key in tried})
    good = sum(bool(run.get("verified") and run.get("exported")) for run in tried.values())
    walls = [run["wall_s"] for run in tried.values() if "wall_s" in run]
    span = f", {min(walls):.0f} to {max(walls):.0f} s each" if walls else ""
    return f"{len(tried)} runs of {models} models: {good} verified and exported{span}"


def _cell(result: Mapping[str, Any]) -> str:
    by_onnx = any(note.startswith("imported by way of ONNX") for note in result.get("notes", ()))
    return f"{result.get('class', 'not tried')}{', by way of ONNX' if by_onnx else ''}"


def _ways(runs: Sequence[str], good: Sequence[str]) -> str:
    names = {"torch": "PyTorch", "onnx": "ONNX"}
    if not runs:
        return "not tried"
    failed = [names[by] for by in runs if by not in good]
    return ", ".join([names[by] for by in good] + [f"not {name}" for name in failed])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check")
    checking.add_argument("names", nargs="*", metavar="NAME")
    checking.add_argument("--by", nargs="*", choices=("torch", "onnx"), default=["torch", "onnx"])
    checking.add_argument("--out", type=Path, default=Path("results/field.json"))
    checking.add_argument("--again", action="store_true")
    checking.add_argument("--timeout", type=float, default=TIMEOUT_S)
    tuning = commands.add_parser("tune")
    tuning.add_argument("names", nargs="*", metavar="NAME")
    tuning.add_argument("--by", nargs="*", choices=("torch", "onnx"), default=["torch", "onnx"])
    tuning.add_argument("--out", type=Path, default=Path("results/field.json"))
    tuning.add_argument("--timeout", type=float, default=600.0)
    tuning.add_argument("--options", default="--time-budget 10s", help="of tuner run")
    args = parser.parse_args()
    sources = [name if ":" in name else f"torch:{MODELS}:{name}" for name in args.names or names()]
    if args.command == "tune":
        tune(sources, args.by, args.out, args.options.split(), args.timeout)
        return 0
    results = check(sources, args.by, args.out, args.again, args.timeout)
    print(dict(Counter(result["class"] for result in results.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
