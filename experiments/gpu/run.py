"""Everything that only a GPU can show, in one call of under ten minutes.

    python experiments/gpu/run.py BUNDLE [--out results] [--seconds 540] [--model configs/resnet_cuda.yaml]

Steps, each of which may fail without stopping the others: the GPU tests; the bundle's kernels; this program's timer
against CUPTI on ten of them; PyTorch's kernels for the same operators; and, where TVM is here too, a real `tuner run`
that continues from them, with the whole model beside PyTorch's. Writes OUT/<device>/gpu.json after every step, and
gpu.md at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout comes before anything installed

from experiments.common import ROOT, write_json
from experiments.gpu.report import best_by_task, step_lines, table
from tuner.bundle import Bundle, Item, TaskEntry
from tuner.bundle.measurements import Row, read_measurements
from tuner.protocols import RANK, Job

SHARES = {"tests": 0.2, "kernels": 0.3, "timers": 0.05, "baselines": 0.1, "model": 0.35}
"""Of the seconds, by step. What one leaves over the next may use."""

TIMED_TWICE = 10
"""Kernels, the slowest winners, that are timed by CUPTI too."""

_CALL_TIMEOUT_S = 60.0
_GRACE_S = 60.0
"""Between interrupting a command and killing it."""


class Suite:
    """The steps, on the first GPU. Each is given the moment of time.monotonic() until which it may work."""

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
        self.results: dict[str, Any] = {
            "device": self.description, "bundle_sha256": self.bundle.sha256, "steps": {},
        }  # fmt: skip
        self._child: Any = None

    def run(self) -> None:
        steps: dict[str, Callable[[float], Any]] = {
            "tests": self.tests, "kernels": self.kernels, "timers": self.timers, "baselines": self.baselines,
            "model": self.whole_model,
        }  # fmt: skip
        began, share = time.monotonic(), 0.0
        for name, step in steps.items():
            share += SHARES[name]
            start = time.monotonic()
            try:
                result = step(began + share * self.seconds)
            except Exception as error:  # noqa: BLE001 - the other steps are still worth running
                result = {"failed": f"{type(error).__name__}: {error}"[:1000]}
            self.results["steps"][name] = {"seconds": time.monotonic() - start, "result": result}
            write_json(self.folder / "gpu.json", self.results)
            print(f"{name}: {time.monotonic() - start:.0f} s: {str(result)[:300]}", flush=True)
        self.write_report()

    # --- steps --------------------------------------------------------------------------------------

    def tests(self, until: float) -> Any:
        """The tests marked gpu."""
        done = self._command(until, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu")
        return {"exit_code": done.returncode, "output": done.stdout[-3000:]}

    def kernels(self, until: float) -> Any:
        """The bundle, as a user would measure it; interrupted when its time is over."""
        done = self._command(until, "-m", "tuner", "measure", str(self.bundle_path), "-o", str(self.measurements))
        return {"exit_code": done.returncode, "output": done.stdout[-3000:] + done.stderr[-1000:]}

    def timers(self, until: float) -> Any:
        """Events against CUPTI on the slowest winners: the relative differences."""
        slowest = sorted(self._best().values(), key=lambda row: -row.measurement.median_s)[:TIMED_TWICE]
        items = {(item.task, item.candidate): item for item in self.manifest.items}
        results = {}
        for row in slowest:
            if time.monotonic() > until:
                break
            task = self.manifest.task(row.task)
            job = self._job(task, items[(row.task, row.candidate)])
            timed = self._baselines().call("timers", _CALL_TIMEOUT_S, job=job.to_json(), policy=RANK.to_json())
            results[task.name] = {**timed, "difference": timed["events_s"] / timed["cupti_s"] - 1.0}
        return results

    def baselines(self, until: float) -> Any:
        """Seconds of each task's operator by PyTorch setting, the heaviest tasks first."""
        results: dict[str, Any] = {}
        for task in sorted(self.manifest.tasks, key=lambda task: -task.weight * (task.flops + task.bytes)):
            if time.monotonic() > until:
                break
            if task.origin:
                asked = {"origin": dict(task.origin), "dtype": task.args[0].dtype, "policy": RANK.to_json()}
                timed = self._baselines().call("time", _CALL_TIMEOUT_S, **asked)
                results[task.key] = {name: statistics.median(samples) for name, samples in (timed or {}).items()}
        return results

    def whole_model(self, until: float) -> Any:
        """A real run, where TVM is here: from what was just measured, for the time that is left, with its report."""
        from tuner import config as run_files

        database, runs = f"sqlite:///{self.work}/records.db", self.folder / "runs"
        config = run_files.load(str(self.model))
        config = dataclasses.replace(config, measure=dataclasses.replace(config.measure, database=database))
        chosen = self.work / "run.yaml"
        chosen.write_text(run_files.to_yaml(dataclasses.replace(config, out=str(runs))))
        self._command(until, "-m", "tuner", "import", str(self.measurements), "--database", database)
        # Half of it is for the search: compiling the model twice and comparing it take the other.
        budget = f"{max(0.5 * (until - time.monotonic()), 10.0):.0f}s"
        flags = ("--time-budget", budget, "--effort", "quick")
        done = self._command(until + 60.0, "-m", "tuner", "run", str(chosen), *flags)
        latest = max(runs.glob("*/summary.json"), default=None)
        end_to_end = None if latest is None else json.loads(latest.read_text())["end_to_end"]
        output = done.stdout[-3000:] + done.stderr[-1000:]
        return {"exit_code": done.returncode, "end_to_end": end_to_end, "output": output}

    # --- helpers ------------------------------------------------------------------------------------

    def _best(self) -> dict[str, Row]:
        return best_by_task(read_measurements(self.measurements)[1])

    def _job(self, task: TaskEntry, item: Item) -> Job:
        """The job of a bundle's item, its cubin unpacked; its outputs were checked by `tuner measure`."""
        path = self.work / item.cubin
        path.write_bytes(self.bundle.blob(item.cubin))
        inputs, outputs = (tuple(a.spec for a in args) for args in (task.input_args, task.output_args))
        return Job(task.key, item.candidate, path, "", inputs, outputs, task.seed, resources={"plan": dict(item.plan)})

    def _baselines(self) -> Any:
        """A child of its own, started again when it died."""
        from tuner.process.worker import Child

        if self._child is None or not self._child.alive():
            settings = {"device": 0, "mode": self.manifest.mode, "bus_id": self.description["bus_id"]}
            self._child = Child("experiments.gpu.baselines:GpuBaselines", settings)
        return self._child

    def _command(self, until: float, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python; what is not done by `until` is interrupted, and killed some time later."""
        command = [sys.executable, *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            output = process.communicate(timeout=max(until - time.monotonic(), 10.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                output = process.communicate(timeout=_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                output = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, *output)

    def write_report(self) -> None:
        steps = self.results["steps"]
        best = self._best() if self.measurements.exists() else {}
        baselines = steps["baselines"]["result"]
        command = f"python experiments/gpu/run.py {self.bundle_path.name}"
        lines = [f"# {self.description['name']}", ""]
        lines += [f"Driver {self.description['driver']}, bundle {self.bundle.sha256[:12]}, by `{command}`.", ""]
        lines += table(self.manifest, best, {} if "failed" in baselines else baselines)
        path = self.folder / "gpu.md"
        path.write_text("\n".join([*lines, *step_lines(steps)]) + "\n")
        print(f"report: {path}")

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
        self.bundle.close()


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
