"""The node tests of the `onnx` package through this program's importer, an untuned build, and ONNX Runtime beside it.

    python experiments/onnx_backend/run.py [--filter REGEX] [--out FILE] [--processes 2] [--core] [--again]
    python experiments/onnx_backend/run.py --table docs/operators.md --out FILE      # only write the table

Every test is classed as right, refused (with a message), runtime (ONNX Runtime's answer, which is not the shipped
one), wrong, or error (a crash, a hang, or an exception that is no message). Tests whose result the file has already are
left out, unless `--again` is given.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import write_json
from experiments.onnx_backend.service import cases, is_core
from tuner.process.dispatch import dispatch
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

CLASSES = ("right", "refused", "runtime", "wrong", "error")
SERVICE = "experiments.onnx_backend.service:NodeTest"
SAVE_EVERY = 25

Results = dict[str, dict[str, Any]]


class Worker:
    """A child that is started anew after a crash or a hang."""

    def __init__(self, timeout_s: float, all_inputs: bool) -> None:
        self._timeout_s = timeout_s
        self._all_inputs = all_inputs
        self._child: Child | None = None

    def run(self, name: str) -> dict[str, Any]:
        if self._child is None or not self._child.alive():
            self._child = Child(SERVICE, {"all_inputs": self._all_inputs}, env=thread_env(1))
        try:
            return dict(self._child.call("run", self._timeout_s, name=name))
        except (ChildTimeout, ChildDied, ChildError) as error:
            self.close()
            return {
                "class": "error",
                "reason": f"{type(error).__name__}: {error}"[:300],
                "operators": [],
                "runtime": "?",
            }

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None


def run(names: list[str], results: Results, out: Path, workers: list[Worker]) -> None:
    """Adds the result of each test; the file is written on the way, so that a run that is cut goes on where it was."""
    lock = threading.Lock()

    def one(worker: Worker, name: str) -> None:
        result = worker.run(name)
        with lock:
            results[name] = result
            if len(results) % SAVE_EVERY == 0:
                write_json(out, results)

    try:
        dispatch(names, [1.0] * len(names), workers, one)
    finally:
        write_json(out, results)
        for worker in workers:
            worker.close()


def summary(results: Results) -> str:
    """How many of each class, of the core set and of all, and how many of those that ONNX Runtime answers rightly."""
    lines = []
    for title, chosen in (("core", {n: r for n, r in results.items() if is_core(n)}), ("all", results)):
        counts = Counter(result["class"] for result in chosen.values())
        runtime = [result for result in chosen.values() if result["runtime"] == "right"]
        both = sum(result["class"] == "right" for result in runtime)
        shares = ", ".join(f"{kind} {counts[kind]}" for kind in CLASSES)
        share = f"{100 * both / len(runtime):.1f} %" if runtime else "none"
        lines.append(f"{title}: {len(chosen)} tests: {shares}; of {len(runtime)} that ONNX Runtime has right: {share}")
    return "\n".join(lines)


def table(results: Results) -> str:
    """A line for each operator whose tests are of one node: how many are right, and why the first other one is not."""
    tests: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for result in results.values():
        if len(result["operators"]) == 1:
            tests[result["operators"][0]].append(result)
    lines = [
        "| operator | tests | right | refused | as ONNX Runtime | wrong | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for operator in sorted(tests):
        counts = Counter(result["class"] for result in tests[operator])
        numbers = " | ".join(str(counts[kind]) for kind in CLASSES)
        lines.append(f"| {operator} | {len(tests[operator])} | {numbers} |")
    return "\n".join(lines) + "\n"


HEAD = """# ONNX operators

Written by `experiments/onnx_backend/run.py --table` from the results of the node tests that the `onnx` package ships;
see its [README](../experiments/onnx_backend/README.md). A refused test ends with a message that names the operator.

"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="", help="a regular expression that names of tests must match")
    parser.add_argument("--out", type=Path, default=Path("results/onnx_backend.json"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that a test may take")
    parser.add_argument("--core", action="store_true", help="only tests of the core set")
    parser.add_argument("--again", action="store_true", help="run tests that the file has, too")
    parser.add_argument("--all-inputs", action="store_true", help="shapes and axes are inputs, too")
    parser.add_argument("--table", type=Path, help="write the table of operators into this file, and run nothing")
    options = parser.parse_args()
    results: Results = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    if options.table:
        options.table.write_text(HEAD + table(results), "utf-8")
        return 0
    names = [name for name in cases() if re.search(options.filter, name) and (is_core(name) or not options.core)]
    todo = [name for name in names if options.again or name not in results]
    run(todo, results, options.out, [Worker(options.timeout, options.all_inputs) for _ in range(options.processes)])
    shown = {name: results[name] for name in names}
    for name, result in shown.items():
        if result["class"] != "right":
            print(f"{name}: {result['class']}: {result['reason']} (ONNX Runtime: {result['runtime']})")
    print(summary(shown))
    return int(any(result["class"] in ("wrong", "error") for result in shown.values()))


if __name__ == "__main__":
    sys.exit(main())
