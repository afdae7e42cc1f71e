"""A raised function for a GPU: kernels are bundled, measured elsewhere and come back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")

from tests import simulated_cuda
from tuner import cli
from tuner.records import Fidelity, Status
from tuner.store import SqlStore

CODE = """
void product(int n, const float *a, const float *b, float *c) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += a[i * n + k] * b[k * n + j];
    c[i * n + j] = s;
  }
}
"""
CONFIG = """
model: {{source: "llvm:{folder}/code.c", function: product, sizes: {{n: 16}}, allow_reassociation: true}}
target: simulated_cuda
search: {{strategy: random}}
measure: {{database: "sqlite:///{folder}/r.db", build_timeout: 120s}}
"""


@pytest.mark.slow
def test_a_bundle_of_a_raised_function_is_measured_elsewhere_and_comes_back(tmp_path: Path) -> None:
    simulated_cuda.require()
    config, packed, results = tmp_path / "run.yaml", tmp_path / "b.tar", tmp_path / "m.jsonl"
    (tmp_path / "code.c").write_text(CODE)
    config.write_text(CONFIG.format(folder=tmp_path))
    assert cli.main(["bundle", str(config), "-n", "2", "-o", str(packed)]) == 0
    assert cli.main(["measure", str(packed), "-o", str(results)]) == 0
    assert cli.main(["import", str(results), "--database", f"sqlite:///{tmp_path}/r.db"]) == 0
    with closing(SqlStore(f"sqlite:///{tmp_path}/r.db")) as store:
        records = list(store.read())
    assert {r.measurement.status for r in records if r.measurement.fidelity is Fidelity.CERTIFY} == {Status.OK}
