"""How a report says where its model stands since last night."""

from __future__ import annotations

from pathlib import Path

from tests.tuner.nightly import synthetic
from tests.tuner.nightly.synthetic import Synthetic
from tests.tuner.nightly.test_night import run
from tuner.commands.last_night import since_last_night
from tuner.store import SqlStore
from tuner.store.history import History

SUMMARY = {"model": {"source": "onnx:light_squeezenet"}, "end_to_end": {"tuned_s": 1.1e-3}}


def test_a_model_with_a_cell_is_told_where_its_history_is(tmp_path: Path) -> None:
    run(synthetic.config(tmp_path, "squeezenet"), Synthetic(seconds=1e-3))
    [sentence] = since_last_night(f"sqlite:///{tmp_path / 'h.db'}", SUMMARY)
    assert "1.10 ms here, 1.00 ms there, +10.0%" in sentence
    assert sentence.endswith("python -m tuner history show squeezenet")
    assert since_last_night(f"sqlite:///{tmp_path / 'h.db'}", SUMMARY | {"model": {"source": "onnx:other"}}) == []
    assert since_last_night(f"sqlite:///{tmp_path / 'h.db'}", SUMMARY | {"end_to_end": None}) == ()


def test_a_database_without_nights_stays_without(tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    assert since_last_night(f"sqlite:///{file}", SUMMARY) == () and not file.exists()
    SqlStore(f"sqlite:///{file}").close()
    assert since_last_night(f"sqlite:///{file}", SUMMARY) == ()
    assert not History.is_in(f"sqlite:///{file}")
    assert since_last_night("postgresql+psycopg://nobody@/x?host=/nonexistent", SUMMARY) == ()
