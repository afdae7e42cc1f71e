"""A raised contraction by numpy gives what it gives in C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")

from tuner.baselines.blas import BlasWorker, Product
from tuner.importers.c_source import ir_of
from tuner.importers.llvm_service import LlvmService
from tuner.protocols import Array

CODE = """void added(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) for (int k = 0; k < n; k++) C[i*n+j] += A[i*n+k] * B[j*n+k];
}
void scaled(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s -= A[i*n+k] * B[j*n+k];
    C[i*n+j] = s;
  }
}
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """How the functions are called, by their names."""
    here = tmp_path_factory.mktemp("blas")
    (here / "added.c").write_text(CODE)
    content = ir_of(here / "added.c")
    assert isinstance(content, str)
    (here / "added.ll").write_text(content)
    service = LlvmService()
    return {name: service.op_raise(str(here / "added.ll"), name, {"n": 5}, True)["c"] for name in ("added", "scaled")}


def inputs() -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((5, 5)).astype(np.float32) for _ in range(3)]


def test_a_contraction_is_computed(spec: dict[str, dict[str, Any]]) -> None:
    given = inputs()
    prepared = Product(spec["added"], given)
    prepared.launch(2)
    np.testing.assert_allclose(prepared.outputs()[0], given[2] + given[0] @ given[1].T, rtol=1e-5)


def test_what_is_more_than_a_product_has_no_formula(spec: dict[str, dict[str, Any]]) -> None:
    assert spec["added"]["formula"]["adds"]
    assert "formula" not in spec["scaled"]


def test_the_worker_is_ready_after_it_was_prepared(spec: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", *inputs())
    worker = BlasWorker(spec["added"])
    assert "numpy" in worker.op_prepare(str(tmp_path / "inputs.npz"))["settings"]
    assert worker.op_block(1)
