"""Everything that only a GPU can show, in one call of under ten minutes.

    python experiments/gpu/run.py BUNDLE [--out results] [--seconds 540] [--model configs/resnet_cuda.yaml]

Steps, each of which may fail without stopping the others: the GPU tests; the bundle's kernels; our timer against CUPTI
on ten of them; PyTorch's kernels for the same operators; and, where TVM is here too, a real `tuner run` that goes on
from them, with the whole model beside PyTorch's. Writes OUT/<device>/gpu.json after every step, and gpu.md at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tuner.bundle import Bundle, Manifest, TaskEntry  # noqa: E402 - the checkout comes before anything installed
from tuner.bundle.measurements import Row, read_measurements  # noqa: E402
from tuner.protocols import RANK  # noqa: E402
from tuner.records import Fidelity  # noqa: E402

SHARES = {"tests": 0.2, "kernels": 0.3, "timers": 0.05, "rivals": 0.1, "model": 0.35}
"""Of the seconds, by step. What one leaves over the next may use."""


def best_by_task(rows: list[Row]) -> dict[str, Row]:
    """The fastest row of each task, of the most careful tier that it has."""
    order = [Fidelity.CERTIFY, Fidelity.RANK, Fidelity.SCREEN]
    found: dict[str, Row] = {}
    for row in rows:
        if row.measurement.ok:
            held = found.get(row.task)
            key = (order.index(row.measurement.fidelity), row.measurement.median_s)
            if held is None or key < (order.index(held.measurement.fidelity), held.measurement.median_s):
                found[row.task] = row
    return found


def table(manifest: Manifest, best: Mapping[str, Row], rivals: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Markdown rows of every task with the fastest rival of the same precision, and their ratio."""
    lines = ["| kernel | weight | tuned, us | best rival | us | rival / tuned |", "|---|---|---|---|---|---|"]
    ratios = []
    for task in manifest.tasks:
        row = best.get(task.key)
        timed = {n: s for n, s in rivals.get(task.key, {}).items() if not n.endswith("_tf32")}
        tuned = row.measurement.median_s if row else math.nan
        name = min(timed, key=timed.__getitem__, default="")
        if timed and row:
            ratios.append(timed[name] / tuned)
        rival = f"{name} | {1e6 * timed[name]:.2f} | {timed[name] / tuned:.2f}" if timed else "none | |"
        lines.append(f"| {task.name} | {task.weight} | {1e6 * tuned:.2f} | {rival} |")
    if ratios:
        lines.append(f"\nGeometric mean over {len(ratios)} kernels: {statistics.geometric_mean(ratios):.3f}")
    return lines


class Suite:
    def __init__(self, bundle: Path, out: Path, seconds: float, model: Path) -> None:
        from tuner.devices.cuda.bench import open_gpus

        self.bundle_path, self.model, self.seconds = bundle, model, seconds
        self.work = Path(tempfile.mkdtemp(prefix="tuner-gpu-"))
        self.bundle = Bundle(bundle)
        self.manifest = self.bundle.manifest
        [bench] = open_gpus([0], self.manifest.arch, self.manifest.mode)
        self.description = bench.description
        bench.close()
        self.folder = out / re.sub(r"[^a-z0-9]+", "-", self.description["name"].lower()).strip("-")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.measurements = self.folder / "measurements.jsonl"
        self.found: dict[str, Any] = {"device": self.description, "bundle_sha256": self.bundle.sha256, "steps": {}}
        self._child: Any = None

    def run(self) -> None:
        steps: dict[str, Callable[[float], Any]] = {
            "tests": self.tests, "kernels": self.kernels, "timers": self.timers, "rivals": self.rivals,
            "model": self.whole_model,
        }  # fmt: skip
        began, share = time.monotonic(), 0.0
        for name, step in steps.items():
            share += SHARES[name]
            until = began + share * self.seconds
            start = time.monotonic()
            try:
                result = step(until)
            except Exception as error:  # noqa: BLE001 - the other steps are still worth running
                result = {"failed": f"{type(error).__name__}: {error}"[:1000]}
            self.found["steps"][name] = {"seconds": time.monotonic() - start, "result": result}
            (self.folder / "gpu.json").write_text(json.dumps(self.found, indent=1))
            print(f"{name}: {time.monotonic() - start:.0f} s: {str(result)[:300]}", flush=True)
        self.write_report()

    # --- steps: each until a moment of time.monotonic() --------------------------------------------

    def tests(self, until: float) -> Any:
        """The tests marked gpu."""
        done = self._command(until, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu")
        return {"exit_code": done.returncode, "said": done.stdout[-3000:]}

    def kernels(self, until: float) -> Any:
        """The bundle, as a user would measure it; interrupted when its time is over."""
        done = self._command(until, "-m", "tuner", "measure", str(self.bundle_path), "-o", str(self.measurements))
        return {"exit_code": done.returncode, "said": done.stdout[-3000:] + done.stderr[-1000:]}

    def timers(self, until: float) -> Any:
        """Our events against CUPTI on the ten slowest winners: the relative differences."""
        best = sorted(self._best().values(), key=lambda row: -row.measurement.median_s)[:10]
        items = {(item.task, item.candidate): item for item in self.manifest.items}
        found = {}
        for row in best:
            if time.monotonic() > until:
                break
            item, task = items[(row.task, row.candidate)], self.manifest.task(row.task)
            path = self.work / item.cubin
            path.write_bytes(self.bundle.blob(item.cubin))
            job = {
                "path": str(path), "plan": dict(item.plan), "seed": task.seed,
                "inputs": [[list(a.shape), a.dtype] for a in task.input_args],
                "outputs": [[list(a.shape), a.dtype] for a in task.output_args],
            }  # fmt: skip
            timed = self._rivals().call("timers", 60.0, job=job, policy=_policy(RANK))
            found[task.name] = {**timed, "difference": timed["events_s"] / timed["cupti_s"] - 1.0}
        return found

    def rivals(self, until: float) -> Any:
        """Seconds of each task's operator by PyTorch setting."""
        found: dict[str, Any] = {}
        for task in sorted(self.manifest.tasks, key=_heaviest):
            if time.monotonic() > until:
                break
            if task.origin:
                dtype = task.args[0].dtype
                timed = self._rivals().call("time", 60.0, origin=dict(task.origin), dtype=dtype, policy=_policy(RANK))
                found[task.key] = {name: statistics.median(samples) for name, samples in (timed or {}).items()}
        return found

    def whole_model(self, until: float) -> Any:
        """A real run, where TVM is here: from what was just measured on, for the time that is left, with its report."""
        from tuner import config as run_files

        database, runs = f"sqlite:///{self.work}/records.db", self.folder / "runs"
        config = run_files.load(str(self.model))
        config = dataclasses.replace(config, measure=dataclasses.replace(config.measure, database=database))
        chosen = self.work / "run.yaml"
        chosen.write_text(run_files.to_yaml(dataclasses.replace(config, out=str(runs))))
        self._command(until, "-m", "tuner", "import_measurements", str(self.measurements), "--database", database)
        # Half of it is for the search: compiling the model twice and comparing it take the other.
        budget = f"{max(0.5 * (until - time.monotonic()), 10.0):.0f}s"
        flags = ("--time-budget", budget, "--effort", "quick")
        done = self._command(until + 60.0, "-m", "tuner", "run", str(chosen), *flags)
        latest = max(runs.glob("*/summary.json"), default=None)
        found = None if latest is None else json.loads(latest.read_text())["end_to_end"]
        return {"exit_code": done.returncode, "end_to_end": found, "said": done.stdout[-3000:] + done.stderr[-1000:]}

    # --- helpers ---------------------------------------------------------------------------------------

    def _best(self) -> dict[str, Row]:
        return best_by_task(read_measurements(self.measurements)[1])

    def _rivals(self) -> Any:
        """A child of its own, made again when it died."""
        from tuner.process.worker import Child

        if self._child is None or not self._child.alive():
            settings = {"device": 0, "mode": self.manifest.mode, "bus_id": self.description["bus_id"]}
            self._child = Child("experiments.gpu.rivals:Rivals", settings)
        return self._child

    def _command(self, until: float, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python; what is not done by `until` is interrupted, and killed 60 s later."""
        command = [sys.executable, *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            said = process.communicate(timeout=max(until - time.monotonic(), 10.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                said = process.communicate(timeout=60.0)
            except subprocess.TimeoutExpired:
                process.kill()
                said = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, *said)

    def write_report(self) -> None:
        steps = self.found["steps"]
        rows = self._best() if self.measurements.exists() else {}
        rivals = steps["rivals"]["result"]
        rivals = {} if "failed" in rivals else rivals
        command = f"python experiments/gpu/run.py {self.bundle_path.name}"
        lines = [f"# {self.description['name']}", ""]
        lines += [f"Driver {self.description['driver']}, bundle {self.bundle.sha256[:12]}, by `{command}`.", ""]
        lines += table(self.manifest, rows, rivals)
        for name, step in steps.items():
            lines += [
                "",
                f"## {name}, {step['seconds']:.0f} s",
                "",
                "```",
                json.dumps(step["result"], indent=1)[:4000],
                "```",
            ]
        (self.folder / "gpu.md").write_text("\n".join(lines) + "\n")
        print(f"report: {self.folder / 'gpu.md'}")

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
        self.bundle.close()


def _policy(policy: Any) -> dict[str, Any]:
    return dataclasses.asdict(policy)


def _heaviest(task: TaskEntry) -> float:
    return -task.weight * (task.flops + task.bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--model", type=Path, default=ROOT / "configs" / "resnet_cuda.yaml")
    arguments = parser.parse_args()
    suite = Suite(arguments.bundle, arguments.out, arguments.seconds, arguments.model)
    try:
        suite.run()
    finally:
        suite.close()


if __name__ == "__main__":
    main()
