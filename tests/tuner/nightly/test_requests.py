"""A wrong request is refused before the night, with file, cell and key; a device that is not here is no wrong one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tuner import cli
from tuner.errors import ConfigError, MissingDevice
from tuner.nightly import keys, requests
from tuner.nightly.config import parse

ROOT = Path(__file__).resolve().parents[3]
SPACE = "tests/tuner/simulate/recorded/pnpoly-RTX_3090.json.gz"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cells' files are, some of them wrong."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "good": "model: {source: 'onnx:light_squeezenet'}\ntarget: {spec: llvm, threads: 1}",
        "key": "model: {source: 'onnx:light_squeezenet'}\nsaerch: {}",
        "value": "model: {source: 'onnx:light_squeezenet'}\nsearch: {trials: -1}",
        "yaml": "model: [",
        "list": "[1]",
        "empty": "",
        "target": "model: {source: 'onnx:light_squeezenet'}\ntarget: 5",
        "source": "model: {source: 'onnx:nowhere.onnx'}",
        "light": "model: {source: 'onnx:light_squeeze'}",
        "module": "model: {source: 'torch:no_such_module:f'}",
        "callable": "model: {source: 'torch:models:matmull'}",
        "c": "model: {source: 'llvm:nowhere.c', function: f}",
        "data": "model: {source: 'onnx:light_squeezenet', data: nowhere.npz}",
        "unexported": "model: {source: 'onnx:light_squeezenet'}\nexport: {enabled: false}",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text + "\n")
    (tmp_path / "models.py").write_text("import not_installed\n\ndef matmul():\n    return None\n")
    (tmp_path / "torn.json.gz").write_bytes(gzip.compress(b'{"format": "replay-space/1"')[:-9])
    return tmp_path


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("run: nowhere.yaml", "run: nowhere.yaml: no such file"),
        ("run: .", "run: .: not a regular file"),
        ("run: key.yaml", "run: key.yaml: saerch: unknown key"),
        ("run: value.yaml", "run: value.yaml: search.trials"),
        ("run: yaml.yaml", "run: yaml.yaml: not valid YAML"),
        ("run: list.yaml", "run: list.yaml"),
        ("run: empty.yaml", "run: empty.yaml"),
        ("run: target.yaml", "run: target.yaml: target"),
        ("run: source.yaml", "run: source.yaml: onnx:nowhere.onnx: no such file"),
        ("run: light.yaml", "run: light.yaml: onnx:light_squeeze"),
        ("run: module.yaml", "run: module.yaml: torch:no_such_module:f: there is no module"),
        ("run: callable.yaml", "matmull does not exist in models"),
        ("run: c.yaml", "run: c.yaml: llvm:nowhere.c: no such file"),
        ("run: data.yaml", "run: data.yaml: model.data: nowhere.npz"),
        ("run: unexported.yaml", "run: unexported.yaml: export.enabled"),
        ("run: good.yaml, set: {target.threds: 1}", "set: target.threds: unknown key"),
        ("run: good.yaml, set: {target.spec: cudaa}", "set: target.spec: expected"),
        ("run: good.yaml, set: {target.spec: {kind: llvm, mcpu: cpu-of-nobody}}", "set: target.spec.mcpu"),
        ("run: good.yaml, set: {sarch.trials: 1}", "set: sarch"),
        ("run: good.yaml, set: {search.trials: many}", "set: search.trials"),
        ("run: good.yaml, set: {model.source: 'onnx:nowhere.onnx'}", "set: onnx:nowhere.onnx: no such file"),
        ("kind: space, space: nowhere.json.gz", "space: nowhere.json.gz: No such file"),
        ("kind: space, space: torn.json.gz", "space: torn.json.gz: cannot be read"),
        (f"kind: space, space: {ROOT / SPACE}, strategy: guidde", "strategy: no strategy 'guidde'"),
    ],
)
def test_what_is_wrong_with_a_cell_is_named(folder: Path, cell: str, words: str) -> None:
    config = parse(f"cells: [{{name: good, run: good.yaml}}, {{name: other, {cell}}}]", "night.yaml")
    with pytest.raises(ConfigError) as refused:
        requests.keys_of(config.cells, "night.yaml")
    assert refused.value.message.startswith("night.yaml: cell other: ")
    assert words in refused.value.message
    requests.keys_of(config.cells[:1], "night.yaml")


def test_all_wrong_cells_are_refused_at_once_and_no_night_begins(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = "[{name: a, run: nowhere.yaml}, {name: b, run: good.yaml}, {name: c, kind: space, space: x.json.gz},"
    cells += "{name: d, run: x, seeds: 3}]"
    (folder / "night.yaml").write_text(f"cells: {cells}\nout: out\ndatabase: sqlite:///h.db\n")
    assert cli.main(["nightly", "night.yaml"]) == 2
    said = capsys.readouterr().err
    assert (
        "night.yaml: 3 things are wrong" in said
        and "cell d: seeds" in said
        and "cell a: run: nowhere.yaml" in said
        and "cell c: space" in said
    )
    assert not (folder / "out").exists() and not (folder / "h.db").exists()


def test_a_module_that_makes_its_names_is_left_to_tell_by_itself(folder: Path) -> None:
    (folder / "models.py").write_text("from somewhere import *\n")
    requests.keys_of(parse("cells: [{name: a, run: callable.yaml, set: {target: llvm}}]", "n").cells, "n")


@pytest.mark.parametrize("target", ["{target.spec: cuda}", "{target.spec: llvm, target.threads: 4096}"])
def test_a_cell_without_its_device_stays_missing(folder: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    cells = parse(f"cells: [{{name: a, run: good.yaml, set: {target}}}]", "n").cells
    if "cuda" in target:  # there may be one here

        def gone(*_: object) -> str:
            raise MissingDevice("target cuda: missing here: a GPU")

        monkeypatch.setattr(keys, "_device", gone)
    key, why = requests.keys_of(cells, "n")["a"]
    assert key.device == "" and ("missing here" in why or "4096" in why)
