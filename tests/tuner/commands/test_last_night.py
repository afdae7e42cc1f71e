"""How a report says where its model stands since last night."""

from __future__ import annotations

from pathlib import Path

from tests.tuner.nightly import synthetic
from tests.tuner.nightly.synthetic import Synthetic
from tests.tuner.nightly.test_night import run
from tuner.commands.last_night import since_last_night
from tuner.site import after_night
from tuner.store import SqlStore
from tuner.store.history import History

SUMMARY = {"model": {"source": "onnx:light_squeezenet"}, "end_to_end": {"tuned_s": 1.1e-3}}


def test_a_model_with_a_cell_is_told_where_its_history_is(tmp_path: Path) -> None:
    run(synthetic.config(tmp_path, "squeezenet"), Synthetic(seconds=1e-3))
    database, folder = f"sqlite:///{tmp_path / 'h.db'}", tmp_path / "runs" / "one"
    [since] = since_last_night(database, SUMMARY, folder)
    assert "1.10 ms here, 1.00 ms there, +10.0%" in since.sentence
    assert since.sentence.endswith("python -m tuner history show squeezenet")
    assert since.page == "", "no site was written"
    after_night(str(tmp_path / "night.yaml"))
    [since] = since_last_night(database, SUMMARY, folder)
    assert since.page.startswith("../../out/site/cells/") and (folder / since.page).resolve().is_file()
    assert since_last_night(database, SUMMARY | {"model": {"source": "onnx:other"}}, folder) == []
    assert since_last_night(database, SUMMARY | {"end_to_end": None}, folder) == ()


def test_a_database_without_nights_stays_without(tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    assert since_last_night(f"sqlite:///{file}", SUMMARY, tmp_path) == () and not file.exists()
    SqlStore(f"sqlite:///{file}").close()
    assert since_last_night(f"sqlite:///{file}", SUMMARY, tmp_path) == ()
    assert not History.is_in(f"sqlite:///{file}")
    assert since_last_night("postgresql+psycopg://nobody@/x?host=/nonexistent", SUMMARY, tmp_path) == ()
