"""Features have names, so that what was stored outlives a new pass."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from costmodel.dataset import align
from costmodel.xgb import XgbRanker
from kernels.features import COLUMNS, DEFAULTS, EARLIER_SCHEMAS, ENCODING, FEATURE_LENGTH, SCHEMA
from kernels.passes import PASSES
from kernels.space import ENCODING_COLUMNS, ENCODING_LENGTH
from tests.contracts.cost_model import synthetic

ROOT = Path(__file__).parents[2]

[EARLIER_SCHEMA] = EARLIER_SCHEMAS


def test_every_column_has_a_name_of_its_own_and_a_default() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS) == FEATURE_LENGTH
    assert len(ENCODING_COLUMNS) == ENCODING_LENGTH
    assert COLUMNS[ENCODING] == ENCODING_COLUMNS
    assert set(DEFAULTS) == set(COLUMNS)


def test_a_pass_that_did_not_exist_was_at_its_default() -> None:
    assert DEFAULTS["pass.unroll"] == 64.0
    assert DEFAULTS["pass.register_cap"] == 0.0
    assert {name.removeprefix("pass.") for name in COLUMNS if name.startswith("pass.")} == set(PASSES)
    assert not any(value for name, value in DEFAULTS.items() if not name.startswith("pass."))


def test_stored_names_never_change() -> None:
    """Databases and cost models of earlier versions are read by these."""
    [columns] = EARLIER_SCHEMAS.values()
    digest = hashlib.sha256("\n".join(columns).encode()).hexdigest()
    assert (len(columns), digest[:16]) == (380, "7448651e00c3210d")
    assert set(columns) <= set(COLUMNS)


def aligned(
    values: Sequence[float], columns: Sequence[str], wanted: Sequence[str], defaults: Mapping[str, float]
) -> NDArray[np.float32]:
    vector = align(values, columns, wanted, defaults)
    assert vector is not None
    return vector


def test_a_cost_model_of_an_earlier_version_is_loaded(tmp_path: Path) -> None:
    features, outcomes, groups = synthetic(100, columns=380)
    model = XgbRanker(EARLIER_SCHEMA)
    model.fit(features, outcomes, groups)
    model.save(tmp_path / "model.ubj")
    loaded = XgbRanker.load(tmp_path / "model.ubj", SCHEMA, columns=COLUMNS, earlier=EARLIER_SCHEMAS)
    assert loaded is not None
    [columns] = EARLIER_SCHEMAS.values()
    wide = np.stack([aligned(vector, columns, COLUMNS, DEFAULTS) for vector in features.tolist()])
    assert loaded.predict(wide).tolist() == model.predict(features).tolist()


# --- a new pass -------------------------------------------------------------------------------------

INVENTED = '''
from dataclasses import dataclass
from typing import ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class Invented(Pass):
    """Changes nothing, and its default is not 0."""

    name: ClassVar[str] = "invented"
    level: int = 3

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return cls(5), cls(3), cls(0)
'''

SCRIPT = """
import json, sys
import numpy as np
from kernels.features import COLUMNS, DEFAULTS, FeatureExtractor
from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate
from tests.kernels.gpu_workloads import gpu, matmul
from tests.kernels.programs import llvm, small_conv
from kernels.workload import from_prim_func

texts = json.load(sys.stdin)
vectors, sampled = {}, {}
for name, workload, target in (
    ("cpu", small_conv(), llvm()), ("gpu", from_prim_func(matmul(64, 64, 64), "matmul"), gpu())
):
    space = generate(workload, target)
    applier = TraceApplier(workload, space, target)
    extractor = FeatureExtractor(workload, applier)
    rng = np.random.default_rng(0)
    sampled[name] = texts[name] if name in texts else [space.sample(rng, 0.8).to_text() for _ in range(25)]
    vectors[name] = []
    for text in sampled[name]:
        candidate = Candidate.from_text(text)
        try:
            vectors[name].append(extractor.vector(candidate, applier.apply(candidate)).tolist())
        except InvalidCandidate:
            vectors[name].append(None)
json.dump({"columns": COLUMNS, "defaults": DEFAULTS, "sampled": sampled, "vectors": vectors}, sys.stdout)
"""


def featurized(root: Path, texts: dict[str, list[str]]) -> Any:
    """Candidates and their features by the code in a folder: those given, or else random ones."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=root, env=environment, input=json.dumps(texts), capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def with_invented_pass(root: Path) -> Path:
    """A copy of the code with one more pass, added as docs/passes.md says: a file, and a line in PASSES."""
    for room in ("kernels", "costmodel", "tests/kernels"):
        shutil.copytree(ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "kernels/passes/invented.py").write_text(INVENTED)
    passes = root / "kernels/passes/__init__.py"
    source = passes.read_text()
    for line, added in (
        ("from kernels.passes.llvm_opt import LlvmOpt\n", "from kernels.passes.invented import Invented\n"),
        ("        FastMath,\n", "        Invented,\n"),
    ):
        assert source.count(line) == 1
        source = source.replace(line, line + added)
    passes.write_text(source)
    return root


@pytest.fixture(scope="module")
def before() -> Any:
    return featurized(ROOT, {})


@pytest.fixture(scope="module")
def after(before: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same candidates by code that has one more pass."""
    return featurized(with_invented_pass(tmp_path_factory.mktemp("code")), before["sampled"])


@pytest.mark.slow
def test_features_stored_before_a_pass_was_added_are_those_with_the_pass_at_its_default(
    before: Any, after: Any
) -> None:
    assert set(after["columns"]) == {*before["columns"], "pass.invented"}
    assert after["columns"].index("pass.invented") < after["columns"].index("pass.vector_math")
    compared = 0
    for device, vectors in before["vectors"].items():
        for stored, computed in zip(vectors, after["vectors"][device], strict=True):
            assert (stored is None) == (computed is None)
            if stored is not None:
                aligned = align(stored, tuple(before["columns"]), tuple(after["columns"]), after["defaults"])
                assert aligned is not None
                assert aligned.tolist() == computed
                compared += 1
    assert compared > 25


@pytest.mark.slow
def test_a_cost_model_saved_before_a_pass_was_added_is_loaded(after: Any, tmp_path: Path) -> None:
    features, outcomes, groups = synthetic(100, columns=FEATURE_LENGTH)
    model = XgbRanker(SCHEMA, columns=COLUMNS)
    model.fit(features, outcomes, groups)
    model.save(tmp_path / "model.ubj")
    columns = tuple(after["columns"])
    loaded = XgbRanker.load(tmp_path / "model.ubj", SCHEMA, columns=columns, earlier=EARLIER_SCHEMAS)
    assert loaded is not None
    wide = np.stack([aligned(vector, COLUMNS, columns, after["defaults"]) for vector in features.tolist()])
    assert loaded.predict(wide).tolist() == model.predict(features).tolist()
