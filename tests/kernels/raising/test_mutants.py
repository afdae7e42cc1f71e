"""Broken IR in the confined child: findings or a typed error, and the next file is read."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")

from tests.kernels.raising.mutants import mutant
from tests.kernels.raising.test_ir import LOOP, TYPED
from tuner.importers.llvm_service import scan
from tuner.process.limits import Limits
from tuner.process.worker import Child, ChildDied, ChildError


def test_mutants_give_findings_or_a_typed_error(tmp_path: Path) -> None:
    rng = random.Random(5)
    file = tmp_path / "mutant.ll"
    outcomes: Counter[str] = Counter()
    child: Child | None = None
    for number in range(60):
        file.write_text(mutant((LOOP, TYPED)[number % 2], rng))
        if child is None or not child.alive():
            limits = Limits(memory_bytes=4 << 30, open_files=256, may_fork=False, may_leave=False)
            child = Child("tuner.importers.llvm_service:LlvmService", limits=limits)
        try:
            child.call("scan", 30.0, path=str(file))
            outcomes["read"] += 1
        except ChildError as error:
            outcomes[error.kind] += 1
        except ChildDied:  # LLVM gave up: the caller's error is a ModelError
            outcomes["died"] += 1
    if child is not None:
        child.close()
    assert outcomes.keys() <= {"read", "MalformedIr", "died"}
    assert outcomes["read"] > 15


def test_a_function_of_many_instructions_is_read_or_left_alone(tmp_path: Path) -> None:
    terms = " + ".join(f"x[i] * {n}" for n in range(3000))
    file = tmp_path / "long.c"
    file.write_text(f"void f(int n, float *x, float *y) {{ for (int i = 0; i < n; i++) y[i] = {terms}; }}\n")
    [finding] = scan(file)
    assert finding["reason"] == "too-large"
