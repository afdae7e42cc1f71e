from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from costmodel.base import CostModel
from costmodel.metrics import rank_correlation
from costmodel.xgb import XgbRanker
from tests.contracts.cost_model import CostModelContract, fails, synthetic, synthetic_seconds


class TestXgbRanker(CostModelContract):
    def make(self, seed: int = 0) -> CostModel:
        return XgbRanker("test/1", seed=seed)


def trained(count: int = 300) -> XgbRanker:
    model = XgbRanker("test/1")
    model.fit(*synthetic(count))
    return model


def unseen() -> NDArray[np.float32]:
    rows = synthetic(300, seed=9)[0]
    return rows[~fails(rows)]


def test_orders_unseen_rows() -> None:
    assert rank_correlation(trained(400).predict(unseen()), synthetic_seconds(unseen())) > 0.7


def test_learns_something_from_few_rows() -> None:
    assert rank_correlation(trained(100).predict(unseen()), synthetic_seconds(unseen())) > 0.35


def test_failures_are_avoided() -> None:
    rows = synthetic(300, seed=9)[0]
    scores = trained(300).predict(rows)
    assert scores[fails(rows)].max() < np.median(scores[~fails(rows)])


def test_round_trip(tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path / "model.ubj")
    loaded = XgbRanker.load(tmp_path / "model.ubj", "test/1")
    assert loaded is not None
    rows = synthetic(50, seed=2)[0]
    assert loaded.predict(rows).tolist() == model.predict(rows).tolist()


def test_model_of_another_schema_is_ignored(tmp_path: Path) -> None:
    trained().save(tmp_path / "model.ubj")
    assert XgbRanker.load(tmp_path / "model.ubj", "test/2") is None


@pytest.mark.parametrize("content", [b"", b"{}", b"no model at all", b"\x80\x04\x95pickle", b"[" * 100_000])
def test_file_that_is_no_model_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.ubj").write_bytes(content)
    assert XgbRanker.load(tmp_path / "model.ubj", "test/1") is None


def test_torn_file_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "model.ubj"
    trained().save(path)
    path.write_bytes(path.read_bytes()[:1000])
    assert XgbRanker.load(path, "test/1") is None


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: c.replace(b"test/1", b"test/2", 1), lambda c: b"\x80" + c]
)
def test_what_was_ignored_is_learned_anew_and_replaced(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "model.ubj"
    trained().save(path)
    path.write_bytes(damage(path.read_bytes()))
    model = XgbRanker.load(path, "test/1") or trained()
    model.save(path)
    again = XgbRanker.load(path, "test/1")
    assert again is not None
    assert again.predict(unseen()).tolist() == trained().predict(unseen()).tolist()


def test_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing has been learned"):
        XgbRanker("test/1").save(tmp_path / "model.ubj")


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="trained on 40"):
        trained().predict(np.zeros((2, 41), dtype=np.float32))
