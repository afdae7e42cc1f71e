import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from costmodel.base import CostModel
from costmodel.dataset import CandidateOutcome
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
    features = synthetic(300, seed=9)[0]
    return features[~fails(features)]


def test_orders_unseen_vectors() -> None:
    assert rank_correlation(trained(400).predict(unseen()), synthetic_seconds(unseen())) > 0.7


def test_learns_something_from_few_vectors() -> None:
    assert rank_correlation(trained(100).predict(unseen()), synthetic_seconds(unseen())) > 0.35


def test_failures_are_avoided() -> None:
    features = synthetic(300, seed=9)[0]
    scores = trained(300).predict(features)
    assert scores[fails(features)].max() < np.median(scores[~fails(features)])


def test_round_trip(tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path / "model.ubj")
    loaded = XgbRanker.load(tmp_path / "model.ubj", "test/1")
    assert loaded is not None
    features = synthetic(50, seed=2)[0]
    assert loaded.predict(features).tolist() == model.predict(features).tolist()


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
def test_what_was_ignored_is_trained_again_and_replaced(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "model.ubj"
    trained().save(path)
    path.write_bytes(damage(path.read_bytes()))
    model = XgbRanker.load(path, "test/1") or trained()
    model.save(path)
    reloaded = XgbRanker.load(path, "test/1")
    assert reloaded is not None
    assert reloaded.predict(unseen()).tolist() == trained().predict(unseen()).tolist()


def test_an_untrained_model_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="untrained"):
        XgbRanker("test/1").save(tmp_path / "model.ubj")


def test_vectors_of_another_length_are_rejected() -> None:
    with pytest.raises(ValueError, match="trained on 40"):
        trained().predict(np.zeros((2, 41), dtype=np.float32))


def test_the_validity_head_knows_what_fails() -> None:
    features = synthetic(300, seed=9)[0]
    model = trained(400)
    assert model.has_validity
    probability = model.validity(features)
    assert ((probability > 0) & (probability < 1)).all()
    assert probability[fails(features)].mean() < 0.5 < probability[~fails(features)].mean()


def test_without_failures_everything_is_predicted_to_be_valid() -> None:
    model = XgbRanker("test/1")
    model.fit(np.zeros((20, 3), dtype=np.float32), [CandidateOutcome(seconds=1.0)] * 20, np.zeros(20, dtype=np.int64))
    assert not model.has_validity
    assert model.validity(np.zeros((2, 3), dtype=np.float32)).tolist() == [1.0, 1.0]


def test_members_disagree_more_where_less_is_known() -> None:
    features, outcomes, groups = synthetic(200)
    seen = features[:, 0] < 6
    model = XgbRanker("test/1")
    model.fit(features[seen], [o for o, s in zip(outcomes, seen, strict=True) if s], groups[seen])
    few = XgbRanker("test/1")
    few.fit(features[:16], outcomes[:16], groups[:16])
    assert model.uncertainty(features).min() >= 0
    assert model.uncertainty(features).mean() > 0
    assert XgbRanker("test/1").uncertainty(features).tolist() == [0.0] * 200


def test_heavier_vectors_count_more() -> None:
    """The same features twice, with contradicting outcomes: the heavier ones prevail."""
    features = np.repeat(np.arange(8, dtype=np.float32)[:, None], 8, axis=0)
    rising = [CandidateOutcome(seconds=1.0 + float(r[0])) for r in features]
    falling = [CandidateOutcome(seconds=9.0 - float(r[0])) for r in features]
    both, outcomes = np.concatenate([features, features]), rising + falling
    weights = np.concatenate([np.full(64, 1.0), np.full(64, 0.1)]).astype(np.float32)
    model = XgbRanker("test/1")
    model.fit(both, outcomes, np.zeros(128, dtype=np.int64), weights)
    scores = model.predict(np.array([[0.0], [7.0]], dtype=np.float32))
    assert scores[0] > scores[1]


def test_a_model_without_validity_head_is_saved_too(tmp_path: Path) -> None:
    model = XgbRanker("test/1")
    features = synthetic(20)[0]
    model.fit(features, [CandidateOutcome(seconds=1.0 + i) for i in range(20)], np.zeros(20, dtype=np.int64))
    model.save(tmp_path / "model.ubj")
    loaded = XgbRanker.load(tmp_path / "model.ubj", "test/1")
    assert loaded is not None
    assert not loaded.has_validity
    assert loaded.uncertainty(features).tolist() == model.uncertainty(features).tolist()


# --- named columns ----------------------------------------------------------------------------------

NAMES = tuple(f"f{i}" for i in range(40))


def named(columns: Sequence[str] = NAMES, seed: int = 0) -> XgbRanker:
    """A model trained on the columns of those names of the synthetic data."""
    features, outcomes, groups = synthetic(300, seed=seed)
    model = XgbRanker("test/2", columns=columns)
    model.fit(features[:, [NAMES.index(name) for name in columns]], outcomes, groups)
    return model


@settings(max_examples=10, deadline=None)
@given(st.permutations(NAMES), st.integers(0, 15))
def test_a_saved_model_survives_columns_that_are_added_or_moved(order: list[str], added: int) -> None:
    """It predicts from its own columns, wherever they are."""
    columns = tuple(order[added:])
    model = named(columns)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "model.ubj"))
        loaded = XgbRanker.load(Path(folder, "model.ubj"), "test/2", columns=NAMES)
    assert loaded is not None
    assert loaded.columns == NAMES
    assert loaded.trained_columns == columns
    features = synthetic(50, seed=2)[0]
    own = features[:, [NAMES.index(name) for name in columns]]
    for question in ("predict", "uncertainty", "validity"):
        assert getattr(loaded, question)(features).tolist() == getattr(model, question)(own).tolist()


def test_a_loaded_model_is_saved_with_the_columns_it_was_trained_on(tmp_path: Path) -> None:
    model = named(NAMES[:30])
    model.save(tmp_path / "first.ubj")
    loaded = XgbRanker.load(tmp_path / "first.ubj", "test/2", columns=NAMES)
    assert loaded is not None
    loaded.save(tmp_path / "second.ubj")
    assert (tmp_path / "second.ubj").read_bytes() == (tmp_path / "first.ubj").read_bytes()


def test_a_loaded_model_that_is_fitted_uses_all_columns(tmp_path: Path) -> None:
    named(NAMES[:30]).save(tmp_path / "model.ubj")
    loaded = XgbRanker.load(tmp_path / "model.ubj", "test/2", columns=NAMES)
    assert loaded is not None
    loaded.fit(*synthetic(300))
    assert loaded.trained_columns == NAMES
    assert loaded.predict(unseen()).tolist() == named().predict(unseen()).tolist()


def test_a_model_with_a_column_that_is_gone_is_ignored(tmp_path: Path) -> None:
    named().save(tmp_path / "model.ubj")
    assert XgbRanker.load(tmp_path / "model.ubj", "test/2", columns=NAMES[1:]) is None
    assert XgbRanker.load(tmp_path / "model.ubj", "test/2") is None


def test_a_model_without_names_is_loaded_by_what_its_schema_meant(tmp_path: Path) -> None:
    path = tmp_path / "model.ubj"
    trained().save(path)
    wanted = ("new", *NAMES)
    loaded = XgbRanker.load(path, "test/2", columns=wanted, earlier={"test/1": NAMES})
    assert loaded is not None
    assert (loaded.schema, loaded.trained_columns) == ("test/2", NAMES)
    features = synthetic(50, seed=2)[0]
    wider = np.column_stack([np.full(50, 7.0), features]).astype(np.float32)
    assert loaded.predict(wider).tolist() == trained().predict(features).tolist()
    assert XgbRanker.load(path, "test/2", columns=wanted, earlier={"test/0": NAMES}) is None
    assert XgbRanker.load(path, "test/2", columns=wanted, earlier={"test/1": NAMES[1:]}) is None, "another length"


@pytest.mark.parametrize("columns", ['"abc"', "3", "[1, 2]", "null", "[[]]", "[]", '{"a": 1}'])
def test_damaged_column_names_are_ignored(tmp_path: Path, columns: str) -> None:
    path = tmp_path / "model.ubj"
    named().save(path)
    line, _, body = path.read_bytes().partition(b"\n")
    header = json.loads(line) | {"columns": json.loads(columns)}
    path.write_bytes(json.dumps(header).encode() + b"\n" + body)
    assert XgbRanker.load(path, "test/2", columns=NAMES) is None


def test_vectors_must_have_the_named_columns() -> None:
    features, outcomes, groups = synthetic(20)
    with pytest.raises(ValueError, match="40 features for 39 columns"):
        XgbRanker("test/2", columns=NAMES[1:]).fit(features, outcomes, groups)
