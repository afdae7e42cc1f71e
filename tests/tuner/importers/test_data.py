"""Inputs from files: what fits the model is used, what does not is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.tuner.importers import graphs
from tuner import importers
from tuner.errors import ConfigError
from tuner.importers import data
from tuner.models import ImportedModel
from tuner.protocols import Array

Change = Callable[[dict[str, Array]], None]
Values = dict[str, Array]


def values(batch: int = 2, length: int = 5) -> Values:
    rng = np.random.default_rng(batch + length)
    return {"ids": rng.integers(0, 11, (batch, length)), "mask": rng.integers(0, 2, (batch, length))}


def source(folder: Path) -> str:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Cast", ["mask"], ["weights"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "axis"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["out"]),
    ]
    proto = graphs.model(
        nodes, {"ids": ["batch", "length"], "mask": ["batch", "length"]},
        {"table": np.ones((11, 4), np.float32), "axis": np.array([2])}, dtype=onnx.TensorProto.INT64,
    )  # fmt: skip
    return graphs.save(proto, folder)


def load(folder: Path, path: Path, **more: object) -> ImportedModel:
    given = {"batch": None, "inputs": {}, "weights": "original", "seed": 0, "data": str(path), **more}
    return importers.load(source(folder), **given)  # type: ignore[arg-type]


def npz(path: Path, **arrays: Array) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_set(folder: Path, arrays: Values, output: Array | None = None, names: bool = True) -> Path:
    folder.mkdir(parents=True)
    for index, (name, array) in enumerate(arrays.items()):
        tensor = numpy_helper.from_array(array, name if names else "")
        (folder / f"input_{index}.pb").write_bytes(tensor.SerializeToString())
    if output is not None:
        (folder / "output_0.pb").write_bytes(numpy_helper.from_array(output, "out").SerializeToString())
    return folder


test_set.__test__ = False  # type: ignore[attr-defined]  # no test, though ONNX calls it so


def test_a_file_fixes_the_shapes_and_is_the_input(tmp_path: Path) -> None:
    path = npz(tmp_path / "two.npz", **values())
    model = load(tmp_path, path)
    assert [spec.shape for spec in model.inputs] == [(2, 5), (2, 5)]
    [one] = importers.input_sets(model.inputs, model.model_spec, 0)
    assert one.name == "two.npz"
    assert all((got == want).all() for got, want in zip(one.arrays, values().values(), strict=True))
    told = importers.provenance(model.inputs, model.model_spec, 0)
    assert told == {"sets": ["two.npz"], "data": {"path": str(path), "sha256": data.read(str(path)).sha256}}
    swapped = npz(tmp_path / "swapped.npz", mask=values()["mask"], ids=values()["ids"])
    [again] = importers.input_sets(model.inputs, load(tmp_path, swapped).model_spec, 0)
    assert (again.arrays[0] == one.arrays[0]).all(), "by name, not by order"


def test_arrays_without_names_are_in_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", *values().values())
    model = load(tmp_path, tmp_path / "plain.npz")
    [one] = importers.input_sets(model.inputs, model.model_spec, 0)
    assert (one.arrays[1] == values()["mask"]).all()


@pytest.mark.parametrize("names", [True, False])
def test_all_sets_of_a_folder_are_read_with_their_outputs(tmp_path: Path, names: bool) -> None:
    for number in (0, 2, 10):
        test_set(tmp_path / "case" / f"test_data_set_{number}", values(), np.full((2, 5, 4), number), names)
    model = load(tmp_path, tmp_path / "case")
    sets = importers.input_sets(model.inputs, model.model_spec, 0)
    assert [one.name for one in sets] == ["test_data_set_0", "test_data_set_2", "test_data_set_10"]
    assert [one.expected[0].flat[0] for one in sets if one.expected] == [0, 2, 10]
    single = load(tmp_path, tmp_path / "case" / "test_data_set_2")
    assert [one.name for one in importers.input_sets(single.inputs, single.model_spec, 0)] == ["test_data_set_2"]


def test_of_several_shapes_each_has_its_own_sets(tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    folder.mkdir()
    for length in (5, 7):
        npz(folder / f"{length}.npz", **values(2, length))
    with pytest.raises(ConfigError, match=r"'ids' is \[2, 5\] in 5.npz and \[2, 7\] in 7.npz"):
        load(tmp_path, folder)
    seven = load(tmp_path, folder, dims={"length": 7}, one_of_several=True)
    assert [one.name for one in importers.input_sets(seven.inputs, seven.model_spec, 0)] == ["7.npz"]
    nine = load(tmp_path, folder, dims={"length": 9, "batch": 2}, one_of_several=True)
    assert [spec.shape for spec in nine.inputs] == [(2, 9), (2, 9)]
    names = [one.name for one in importers.input_sets(nine.inputs, nine.model_spec, 3)]
    assert names == ["inputs of seed 3", "inputs of seed 4"], "drawn where no set has the shape"


def rename(arrays: Values) -> None:
    arrays["msk"] = arrays.pop("mask")


def remove(arrays: Values) -> None:
    del arrays["mask"]


def narrow(arrays: Values) -> None:
    arrays["ids"] = arrays["ids"].astype(np.int32)


def cut(arrays: Values) -> None:
    arrays["mask"] = arrays["mask"][:, 1:]


def flatten(arrays: Values) -> None:
    arrays["ids"] = arrays["ids"][0]


def pickle(arrays: Values) -> None:
    arrays["ids"] = np.array([{"a": 1}], dtype=object)


def write(arrays: Values) -> None:
    arrays["ids"] = np.array(["a", "b"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rename, r"the model has no input 'msk'\n  did you mean 'mask'\?"),
        (remove, "input 'mask' is missing\n  the model takes ids, mask; there is ids"),
        (narrow, "input 'ids' is int32, the model takes int64\n  store it as such"),
        (cut, "length is 4 for input 'mask' in in.npz and 5 elsewhere"),
        (flatten, r"input 'ids' is \[5\] in in.npz, the model takes \['batch', 'length'\]"),
        (pickle, "'ids' holds Python objects, which are not unpickled"),
        (write, "input 'ids' is string, the model takes int64"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Change, words: str) -> None:
    arrays = values()
    change(arrays)
    with pytest.raises(ConfigError, match=words) as caught:
        load(tmp_path, npz(tmp_path / "in.npz", **arrays))
    assert str(tmp_path / "in.npz") in caught.value.message
    assert caught.value.path == "model.data"


def test_what_the_run_file_says_otherwise_is_named(tmp_path: Path) -> None:
    path = npz(tmp_path / "in.npz", **values())
    with pytest.raises(ConfigError, match=r"length is 5 for input 'ids' in in.npz, model.dims says 6"):
        load(tmp_path, path, dims={"length": 6})
    with pytest.raises(ConfigError, match=r"input 'ids' is \[2, 5\] in in.npz, and model.inputs says \[2, 6\]"):
        load(tmp_path, path, inputs={"ids": (2, 6)})


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = npz(tmp_path / "whole.npz", **values()).read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2], whole[:150] + b"x" * 9 + whole[159:]):
        (tmp_path / "in.npz").write_bytes(content)
        with pytest.raises(ConfigError, match=r"in.npz: damaged, or no .npz file"):
            load(tmp_path, tmp_path / "in.npz")
    folder = test_set(tmp_path / "test_data_set_0", values())
    for broken in (b"\xff\xff", b""):
        (folder / "input_1.pb").write_bytes(broken)
        with pytest.raises(ConfigError, match=r"input_1.pb"):
            load(tmp_path, folder)
    (folder / "input_1.pb").rename(folder / "input_2.pb")
    with pytest.raises(ConfigError, match=r"input_1.pb is missing, though there are 2"):
        load(tmp_path, folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="the folder has no test_data_set_0"):
        load(tmp_path, tmp_path / "empty")
    with pytest.raises(ConfigError, match="no such file or folder"):
        load(tmp_path, tmp_path / "nowhere.npz")


def test_a_static_extent_is_the_datas_too(tmp_path: Path) -> None:
    proto = graphs.model([helper.make_node("Relu", ["x"], ["out"])], {"x": [1, 4]})
    path = npz(tmp_path / "in.npz", x=np.ones((3, 4), np.float32))
    where = graphs.save(proto, tmp_path)
    with pytest.raises(ConfigError, match=r"input 'x' is \[3, 4\] in in.npz, the model takes \[1, 4\]"):
        importers.load(where, None, {}, "original", 0, data=str(path))
    assert importers.load(where, 3, {}, "original", 0, data=str(path)).inputs[0].shape == (3, 4)


def test_a_pytorch_model_takes_its_examples_from_the_data(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 9, (3, 4))
    path = npz(tmp_path / "in.npz", ids=ids, arg1=np.ones_like(ids))
    model = importers.load("torch:tests.tuner.importers.torch_models:encoder", None, {}, "random", 0, data=str(path))
    assert [spec.shape for spec in model.inputs] == [(3, 4), (3, 4)]
    [one] = importers.input_sets(model.inputs, model.model_spec, 0)
    assert (one.arrays[0] == ids).all()
    wrong = npz(tmp_path / "wrong.npz", ids=ids.astype(np.float32), arg1=np.ones_like(ids))
    with pytest.raises(ConfigError, match="input 'ids' is float32, the model takes int64"):
        importers.load("torch:tests.tuner.importers.torch_models:encoder", None, {}, "random", 0, data=str(wrong))
