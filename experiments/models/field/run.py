"""Models of the field, imported from PyTorch and from ONNX, built without a search and verified.

    python experiments/models/field/run.py check [NAME ...] [--by torch onnx] [--out FILE] [--again]

A name is a function of models.py beside this file, or any `torch:` source.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from experiments.common import write_json
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
            write_json(out, dict(sorted(results.items())))
            found = results[key]
            print(f"{key}: {found['class']} {found['reason'][:300]} ({time.monotonic() - began:.1f} s)", flush=True)
    checker.close()
    return results


def names() -> list[str]:
    """Every model of models.py."""
    return list(importlib.import_module(MODELS).MODELS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check")
    checking.add_argument("names", nargs="*", metavar="NAME")
    checking.add_argument("--by", nargs="*", choices=("torch", "onnx"), default=["torch", "onnx"])
    checking.add_argument("--out", type=Path, default=Path("results/field.json"))
    checking.add_argument("--again", action="store_true")
    checking.add_argument("--timeout", type=float, default=TIMEOUT_S)
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    sources = [name if ":" in name else f"torch:{MODELS}:{name}" for name in args.names or names()]
    results = check(sources, args.by, args.out, args.again, args.timeout)
    print(dict(Counter(result["class"] for result in results.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
