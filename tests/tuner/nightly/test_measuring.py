"""A real kernel searched, built again and compared; and what is made of a comparison."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.ceilings import keep_ceilings
from tuner.nightly.compared import Answer
from tuner.nightly.config import parse
from tuner.nightly.measuring import Job, Measured, ModelMeasurer, Reference, _ratios, _take
from tuner.nightly.steps import Tree
from tuner.nights import Outcome

ROOT = Path(__file__).resolve().parents[3]

NIGHT = """
compare: 1s
out: {folder}/out
cells:
  - name: softmax
    kind: kernel
    run: {folder}/softmax.yaml
    budget: 3s
    set: {{target.spec: llvm, target.threads: 1, search.trials: 3}}
"""


def job(folder: Path, reference: Reference | None = None, text: str = NIGHT) -> Job:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [16, 64]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"])], "softmax", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "s.onnx")
    (folder / "softmax.yaml").write_text(f'model: {{source: "onnx:{folder}/s.onnx"}}\n')
    config = parse(text.format(folder=folder), "night")
    (folder / "work").mkdir(exist_ok=True)
    return Job(config.cells[0], config, reference, folder / "work", lambda: 300.0)


@pytest.mark.slow
def test_what_a_search_found_is_built_again_to_the_same_code_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real search makes the reference; the night after it finds the same (which is not searched for again)."""
    monkeypatch.chdir(ROOT)
    keep_ceilings(job(tmp_path).machine, 1)
    found, why = ModelMeasurer()._search(job(tmp_path), "searched", 0)  # noqa: SLF001 - a night would compare, too
    assert found is not None, why

    class Searched(ModelMeasurer):
        def _search(self, *_: object) -> tuple[Path | None, str]:
            return found, ""

    shutil.copytree(found, tmp_path / "kept")
    measured = Searched().measure(job(tmp_path, Reference("n1", tmp_path / "kept")))
    assert (measured.outcome, measured.reason, measured.notes) == (Outcome.SAME, "", [])
    assert measured.run == found and set(measured.seconds) == {"reference", "rebuilt", "searched"}
    assert {"rebuilt/reference", "searched/rebuilt", "aa"} <= measured.ratios.keys()
    assert measured.structure["searched.kernels"] >= 1 and measured.structure["searched.trials"] >= 1
    assert measured.texts["rebuilt.code_hash"] == measured.texts["searched.code_hash"]
    assert (tmp_path / "work" / "rebuilt-export" / "model.so").is_file()


def test_a_cell_whose_search_fails_is_broken_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = NIGHT.replace("search.trials: 3", "model.source: 'onnx:nowhere.onnx'")
    measured = ModelMeasurer().measure(job(tmp_path, text=text))
    assert measured.outcome is Outcome.BROKEN
    assert "nowhere.onnx" in measured.reason


def test_a_model_that_an_earlier_commit_does_not_have_is_brought_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuner.nightly.measuring import _with_model

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "models.py").write_text("x = 1\n")
    (tmp_path / "m.onnx").write_bytes(b"")
    here = job(tmp_path)
    there = Job(here.cell, here.night, None, here.work, here.left_s, Tree(Path("/elsewhere"), "python"))
    document = {"model": {"source": "torch:mine.models:f"}}
    models = _with_model(there, document).models
    assert models is not None and (models / "mine" / "models.py").read_text() == "x = 1\n"
    assert _with_model(here, document).models is None
    document = {"model": {"source": "onnx:m.onnx"}}
    assert _with_model(there, document).models is None
    assert document["model"]["source"] == f"onnx:{tmp_path / 'm.onnx'}"


def answer(passes: int, rounds: int, change: float, seed: int = 0) -> Answer:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(passes):
        drift = np.exp(rng.standard_normal(rounds))  # of the machine: it cancels
        blocks = {"reference": drift, "rebuilt": drift * math.exp(change), "torch": 2 * drift}
        made.append(
            {
                "blocks": {name: [[r, float(s)] for r, s in enumerate(values)] for name, values in blocks.items()},
                "control": [[r, float(s)] for r, s in enumerate(drift)],
                "incumbent": "reference",
            }
        )
    return Answer(passes=made, peak_bytes={"rebuilt": 5}, dropped={"openvino": "it crashed"}, inputs=["x: float32 [1]"])


def test_ratios_are_of_pairs_so_that_the_machines_drift_cancels() -> None:
    ratios, intervals = _ratios(answer(3, 10, 0.05))
    assert ratios["rebuilt/reference"] == pytest.approx(0.05)
    assert ratios["torch/reference"] == pytest.approx(math.log(2))
    assert ratios["aa"] == 0.0
    assert intervals["rebuilt/reference"] == pytest.approx((0.05, 0.05))
    assert "searched/rebuilt" not in ratios


def test_too_few_pairs_give_no_ratio() -> None:
    assert _ratios(answer(1, 2, 0.05)) == ({}, {})


def test_of_several_comparisons_the_median_counts() -> None:
    measured = Measured()
    _take(measured, [answer(1, 6, change, seed) for seed, change in enumerate((0.01, 0.5, 0.02))])
    assert measured.ratios["rebuilt/reference"] == pytest.approx(0.02)
    low, high = measured.intervals["rebuilt/reference"]
    assert low <= 0.02 <= high
    assert len(measured.samples["rebuilt"]) == 18


def test_what_a_comparison_found_is_taken_over() -> None:
    measured = Measured()
    _take(measured, [answer(2, 4, 0.0)])
    assert set(measured.seconds) == {"reference", "rebuilt", "torch"}
    assert len(measured.samples["torch"]) == 8
    assert measured.structure["rebuilt.peak_bytes"] == 5.0
    assert measured.notes == ["openvino is not compared: it crashed"]
