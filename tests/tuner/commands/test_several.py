"""A run of several shapes as a whole: budget, records, one report, one export, resumed; and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests import null_device
from tuner import cli, config
from tuner.commands import several, show
from tuner.commands.compare import of_one_shape
from tuner.commands.run import RunOutcome
from tuner.errors import ConfigError, UserError
from tuner.export import shapes
from tuner.export.library import read_manifest
from tuner.export.shapes import exports_of
from tuner.progress import Progress

WEIGHTS = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)


def model(folder: Path) -> str:
    """Rows by a matrix; their number is dynamic."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "rows",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 8])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, folder / "rows.onnx")
    return f"onnx:{folder / 'rows.onnx'}"


CONFIG = """
model: {{source: "{source}", weights: original, shapes: {shapes}}}
target: 'null'
search: {{trials: 8, time_budget: 10m, batch: 4, effort: quick}}
baselines: {{models: [untuned], kernels: false}}
measure: {{database: "sqlite:///{folder}/records.db"}}
out: {folder}/runs
"""


def run_config(folder: Path, *shapes: dict[str, Any]) -> config.RunConfig:
    """On the null device, where nothing is compiled; what an export does is tested in tests/tuner/export."""
    return config.parse(CONFIG.format(source=model(folder), shapes=json.dumps(shapes), folder=folder), "several.yaml")


@pytest.fixture(scope="module", autouse=True)
def null() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        null_device.install(patch)
        patch.setattr("tuner.measure.comparison.PAUSE_S", (0.0, 0.0))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunOutcome]:
    folder = tmp_path_factory.mktemp("several")
    return folder, several.run(run_config(folder, {"rows": 4}, {"x": [6, 8]}), "tuner run", Progress())


def test_each_shape_is_tuned_and_verified(finished: tuple[Path, RunOutcome]) -> None:
    _, outcome = finished
    assert outcome.exit_code == 0, outcome.lines
    parts = show.shapes(outcome.run_dir)
    assert list(parts) == ["rows-4", "x-6x8"]
    for part, rows in zip(parts.values(), (4, 6), strict=True):
        summary = json.loads((part / "summary.json").read_text())
        assert summary["model"]["inputs"] == {"x": [rows, 8]}
        assert summary["end_to_end"]["verified"] is True
        assert summary["run_id"] == part.name
        assert config.load(str(part / "config.yaml")).search.trials == 4, "its part of the budget"
    states = json.loads((outcome.run_dir / show.SHAPES_FILE).read_text())["shapes"]
    assert [state["exit_code"] for state in states] == [0, 0]
    assert states[0]["budget_s"] == 300.0
    assert 300.0 < states[1]["budget_s"] < 600.0, "what the first left is the second's"


def test_one_report_has_a_section_a_shape(finished: tuple[Path, RunOutcome]) -> None:
    _, outcome = finished
    for name in ("report.html", "report.md"):
        text = (outcome.run_dir / name).read_text()
        assert "Shape rows-4" in text
        assert "Shape x-6x8" in text
    rows = (outcome.run_dir / "kernels.csv").read_text().splitlines()
    assert rows[0].startswith("model_shape,")
    assert {row.partition(",")[0] for row in rows[1:]} == {"rows-4", "x-6x8"}


def test_one_export_has_every_shape_and_the_model_for_others(finished: tuple[Path, RunOutcome]) -> None:
    _, outcome = finished
    export = outcome.run_dir / "export"
    manifest = json.loads((export / "manifest.json").read_text())
    assert [shape["inputs"][0]["shape"] for shape in manifest["shapes"]] == [[4, 8], [6, 8]]
    assert list(exports_of(export)) == ["rows-4", "x-6x8"]
    for folder in exports_of(export).values():
        read_manifest(folder)
    assert onnx.load(export / "fallback.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_param == "rows"


def test_exports_are_compared_shape_by_shape(finished: tuple[Path, RunOutcome], tmp_path: Path) -> None:
    _, outcome = finished
    export = outcome.run_dir / "export"
    both = [("rows-4", export / "rows-4", export / "rows-4"), ("x-6x8", export / "x-6x8", export / "x-6x8")]
    assert of_one_shape(export, export) == both
    assert of_one_shape(export / "x-6x8", export) == [("x-6x8", export / "x-6x8", export / "x-6x8")]
    shapes.export(tmp_path / "four", {"rows-4": export / "rows-4"}, None)
    with pytest.raises(UserError, match="no shape of inputs in common"):
        of_one_shape(export / "x-6x8", tmp_path / "four")


def test_list_show_report_and_export_know_it_and_its_parts(
    finished: tuple[Path, RunOutcome], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, outcome = finished
    out = ["--out", str(folder / "runs")]
    assert cli.main(["list", *out]) == 0
    assert "2 of 2 shapes: rows-4: " in capsys.readouterr().out
    assert cli.main(["show", "latest", *out]) == 0
    shown = capsys.readouterr().out
    assert "x 4x8" in shown
    assert "x 6x8" in shown
    assert cli.main(["show", f"{outcome.run_dir.name}.x-6x8", *out]) == 0
    assert "x 4x8" not in capsys.readouterr().out
    (outcome.run_dir / "report.html").unlink()
    assert cli.main(["report", "latest", *out]) == 0
    assert (outcome.run_dir / "report.html").exists()


def test_a_resumed_run_tunes_only_what_is_missing(finished: tuple[Path, RunOutcome]) -> None:
    _, outcome = finished
    stated = config.load(str(outcome.run_dir / "config.yaml"))
    again = several.run(stated, "tuner run", Progress(), resume=outcome.run_dir.name)
    assert again.lines[:2] == ["rows-4: done before", "x-6x8: done before"]
    assert again.exit_code == 0
    assert (again.run_dir / "export" / "x-6x8" / "model.so").exists()


def test_what_is_wrong_with_one_shape_is_told_before_any_search(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"model.dims.row: the model has no such dynamic extent\n  did you mean 'rows'"):
        several.run(run_config(tmp_path, {"rows": 4}, {"row": 5}), "", Progress())
    with pytest.raises(ConfigError, match="rows-4 and x-4x8 give the model the same inputs"):
        several.run(run_config(tmp_path, {"rows": 4}, {"x": [4, 8]}), "", Progress())
    assert not list((tmp_path / "runs").glob("2*")), "no folder was made"


def test_the_names_of_shapes_are_those_of_folders(tmp_path: Path) -> None:
    stated = run_config(
        tmp_path, {"a/b": 4, "n": 2}, {"../x": [2, 3]}, {"s": [1] * 16, "t" * 30: 7}, {"\u00e9": 1}, {"\u00e8": 1}
    )
    names = list(several.named_shapes(stated))
    assert names[:2] == ["a-b-4-n-2", "x-2x3"]
    assert len(set(names)) == 5
    assert all(len(name) <= 44 for name in names)
    assert config.parse(config.to_yaml(stated), "again") == stated
