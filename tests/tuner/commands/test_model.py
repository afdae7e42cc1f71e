"""Models from records: what is taken, and what the command says."""

from pathlib import Path

import numpy as np
import pytest

from costmodel.xgb import XgbRanker
from kernels.features import COLUMNS, FEATURE_LENGTH, SCHEMA
from tuner import cli
from tuner.commands import model as training
from tuner.errors import UserError
from tuner.records import Fidelity, Measurement, Record, Status
from tuner.store import SqlStore
from tuner.tuning.earlier import earlier


def record(number: int, task: str = "a", scope: str = "here", names: tuple[str, ...] = COLUMNS) -> Record:
    """The first feature decides the time, a large second one is a failure; most others are always 0."""
    features = np.zeros(FEATURE_LENGTH)
    features[:40] = np.random.default_rng(number).random(40)
    measured = Measurement(Status.OK, samples_s=(1e-3 * (1 + 4 * float(features[0])),))
    if features[1] > 0.9:
        measured = Measurement(Status.RUN_FAILED, reason="on purpose")
    return Record("r", task, f"task {task}", scope, number, f"c{number}", "p", measured, 0, "t", tuple(features), names)


@pytest.fixture
def database(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    with SqlStore(url) as store:
        store.append([record(i, "ab"[i % 2]) for i in range(300)])
        store.append([record(1000, names=())])  # of an earlier version: nobody knows what its numbers are
        store.append([record(1001, names=COLUMNS[::-1])])
    return url


def test_tasks_and_scopes_are_tables_of_their_own(database: str) -> None:
    with SqlStore(database) as store:
        store.append([record(2000, "a", "elsewhere")])
        tables = training.trials_by_task(store)
        sizes = sorted((t.key, len(t.vectors)) for t in tables)
        assert sizes == [("a", 1), ("a", 151), ("b", 150)]
        assert len(earlier(store, COLUMNS, "here", {"a"})) == 151
        assert {key for key, _, _ in earlier(store, COLUMNS, "here", {"a", "b"})} == {"elsewhere a"}


def test_ranked_and_doubtful_measurements_are_left_out(tmp_path: Path) -> None:
    with SqlStore(f"sqlite:///{tmp_path / 'r.db'}") as store:
        ranked = Measurement(Status.OK, samples_s=(1.0,), fidelity=Fidelity.RANK)
        doubtful = Measurement(Status.SUSPECT)
        for measured in (ranked, doubtful):
            store.append([Record("r", "a", "a", "s", 0, "c", "p", measured, 0, "t", (0.0,) * FEATURE_LENGTH)])
        with pytest.raises(UserError, match="no record"):
            training.trials_by_task(store)


def test_other_tasks_and_first_trials_teach(database: str) -> None:
    with SqlStore(database) as store:
        known = training.trials_by_task(store)
    model = training.train(known)
    assert model.has_validity
    others = training.held_out(known, lambda: XgbRanker(SCHEMA))
    first = training.within(known, lambda: XgbRanker(SCHEMA))
    for qualities, least in ((others, 0.5), (first, 0.2)):  # one column of forty matters, and 64 trials are few
        assert len(qualities) == 2
        assert all(q.correlation > least for q in qualities.values())


def test_command(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "m" / "model.ubj")
    assert cli.main(["model", "train", "--database", database, "--file", file]) == 0
    assert "301 trials of 2 tasks" in capsys.readouterr().out
    assert cli.main(["model", "show", "--file", file]) == 0
    shown = capsys.readouterr().out
    assert SCHEMA in shown
    assert "validity head  yes" in shown
    assert cli.main(["model", "eval", "--database", database]) == 0
    assert capsys.readouterr().out.count("other tasks") == 2


def test_a_file_that_is_no_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.ubj").write_bytes(b"{}")
    for name, words in (("m.ubj", "not a whole model"), ("nowhere.ubj", "No such file")):
        assert cli.main(["model", "show", "--file", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err
