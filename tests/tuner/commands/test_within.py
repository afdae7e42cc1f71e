"""A run within a total budget: when it ends, what a resumed one has left, and winners that are wrong in the model."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from kernels.space import Candidate
from tests import null_device
from tests.null_device import FASTEST_S, Null, NullModel
from tests.test_null_device import Ran, config_of, run, store_model
from tuner import config as run_files
from tuner.commands import show, within
from tuner.config import MeasureConfig, RunConfig
from tuner.errors import ConfigError, UserError
from tuner.measure.models import TUNED, EntrySpec
from tuner.models import ImportedModel
from tuner.progress import Progress
from tuner.records import Status
from tuner.store import SqlStore
from tuner.tuning.total import TotalBudget


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("within")
    store_model(made / "tiny.onnx")
    with pytest.MonkeyPatch.context() as patch:
        null_device.install(patch)
        patch.setattr("tuner.measure.comparison.PAUSE_S", (0.0, 0.0))
        yield made


def limited(config: RunConfig, seconds: float) -> RunConfig:
    return dataclasses.replace(config, total_budget_s=seconds)


# --- the run file -----------------------------------------------------------------------------------

LEAST = "model: {source: 'onnx:m.onnx'}\n"


def test_a_total_budget_bounds_the_search_where_nothing_else_does() -> None:
    assert run_files.parse(LEAST, "c").total_budget_s is None
    config = run_files.parse(LEAST, "c", {"total_budget": "5m"})
    assert (config.total_budget_s, config.search.time_budget_s) == (300.0, 300.0)
    assert run_files.parse(run_files.to_yaml(config), "c") == config
    both = run_files.parse(LEAST + "total_budget: 1h\nsearch: {time_budget: 90s}\n", "c")
    assert (both.total_budget_s, both.search.time_budget_s) == (3600.0, 90.0)
    assert run_files.parse(LEAST + "total_budget: auto\n", "c").search.time_budget_s == 600.0


@pytest.mark.parametrize("wrong", ["soon", "-5", "0", "[1]"])
def test_a_wrong_total_budget_is_named(wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_files.parse(f"{LEAST}total_budget: {wrong}\n", "c")
    assert caught.value.path == "total_budget"


def test_no_build_and_no_call_may_take_a_large_part_of_it() -> None:
    usual = MeasureConfig()
    assert within.patience(usual, TotalBudget()) == usual
    short = within.patience(usual, TotalBudget(30.0))
    assert (short.build_timeout_s, short.run_timeout_s) == (5.0, 5.0)
    assert within.patience(usual, TotalBudget(3600.0)) == usual


def test_baselines_have_what_the_tuned_model_leaves() -> None:
    """With TVM's own kernels a call takes 40 s, of the tuned model one: what was reserved is free for baselines."""
    now = [0.0]
    total = TotalBudget(300.0, clock=lambda: now[0])
    now[0], total.reserved_s = 200.0, within.verifying_s(40.0)
    starting = within.Starting(total, ())
    assert starting("tuned") > 100.0
    now[0] = 201.0
    given = starting("onnxruntime")
    assert given == pytest.approx(0.15 / 0.30 * (99.0 - 5.0))
    now[0] += given / 2
    assert starting("torch") == pytest.approx(given / 2), "all start within that time"
    now[0] += given
    assert starting("openvino") == 0.0


def test_one_that_verifies_is_waited_for() -> None:
    now = [0.0]
    total = TotalBudget(60.0, clock=lambda: now[0])
    now[0] = 59.0
    starting = within.Starting(total, ("torch", "onnxruntime"))
    assert starting("tuned") > 0.0
    assert starting("onnxruntime") == 60.0
    assert starting("torch") < 1.0


# --- a run ------------------------------------------------------------------------------------------


def test_a_run_ends_within_its_budget_and_says_so(folder: Path) -> None:
    """Twenty million trials would take longer."""
    config = limited(config_of(folder, "limited", trials=2_000_000), 10.0)
    config = dataclasses.replace(config, search=dataclasses.replace(config.search, early_stop=2_000_000, batch=2))
    ran = run(config)
    assert ran.exit_code == 0
    assert ran.summary["search"]["wall_s"] < 10.0, "how long the rest takes depends on what else the machine does"
    assert ran.summary["end_to_end"]["verified"] is True
    assert any(note.startswith("the total budget of 10 s was ") for note in ran.summary["notes"])
    stored = within.read(ran.folder)
    assert stored is not None
    assert stored["total_s"] == 10.0
    assert stored["spent_s"] > 0


def test_without_one_an_estimate_is_told(folder: Path) -> None:
    text = io.StringIO()
    config = config_of(folder, "unlimited")
    with SqlStore(config.measure.database) as store:
        budget = within.opened(config, None, store, Progress(text, live=True))
        assert not budget.limited
        within.opened(limited(config, 300.0), None, store, Progress(text, live=True))
    assert "expected to end by " in text.getvalue()
    assert " at the latest: the total budget is 05:00" in text.getvalue()


def test_a_resumed_run_has_what_its_earlier_attempts_left(folder: Path) -> None:
    first = run(limited(config_of(folder, "again"), 600.0))
    at = datetime.fromisoformat(first.records[-1].created_at) - timedelta(seconds=40)
    stored = {"total_s": 600.0, "ends_by": at.isoformat(), "spent_s": 100.0, "at": at.isoformat()}
    (first.folder / within.FILE).write_text(json.dumps(stored))
    with SqlStore(first.config.measure.database) as store:
        spent_s = within.spent_s(first.folder, store)
        assert spent_s == pytest.approx(140.0, abs=0.1), "until the last record"
        budget = within.opened(limited(first.config, 600.0), first.folder, store, Progress(io.StringIO()))
        assert budget.left_s == pytest.approx(460.0, abs=5.0)
    second = run(first.config, resume=first.folder.name)
    assert second.exit_code == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ends_by": "x", "at": "y", "spent_s": 1}', '{"spent_s": null}'])
def test_a_damaged_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / within.FILE).write_text(text)
    assert within.read(tmp_path) is None


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    config = run_files.parse(LEAST, "c", {"total_budget": "90s"})
    within.keep(tmp_path, config, TotalBudget(90.0, 30.0))
    stored = within.read(tmp_path)
    assert stored is not None
    assert stored["spent_s"] == pytest.approx(30.0, abs=1.0)
    left_s = (datetime.fromisoformat(stored["ends_by"]) - datetime.now(UTC)).total_seconds()
    assert left_s == pytest.approx(60.0, abs=3.0)


def test_show_says_when_a_run_that_goes_on_is_to_end(tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    folder.mkdir()
    (folder / "config.yaml").write_text(LEAST)
    with pytest.raises(UserError) as caught:
        show.description(folder)
    assert "is to end by" not in caught.value.message
    for more, words in (({"total_budget": "90s"}, "it is to end by "), ({}, " (an estimate)")):
        config = run_files.parse(LEAST, "c", more)
        within.keep(folder, config, TotalBudget(config.total_budget_s))
        with pytest.raises(UserError, match="did not end") as caught:
            show.description(folder)
        assert words in caught.value.message


# --- winners that are wrong in the model --------------------------------------------------------------


class Suspicious(NullModel):
    """A model that is wrong with one candidate in it."""

    def __init__(self, seconds: float, library: str, wrong: str) -> None:
        super().__init__(seconds)
        self._wrong = wrong in json.loads(Path(library).read_text()).values()

    def op_outputs(self, path: str) -> int:
        if not self._wrong:
            return super().op_outputs(path)
        with open(path, "wb") as file:
            np.savez(file, np.ones(1, np.float32))
        return 1


BEST = Candidate(0, (5, 5, 5)).to_text()


@pytest.fixture(scope="module")
def suspicious() -> Iterator[None]:
    """The best kernel of each task makes a model wrong."""
    entries = Null.entries

    def with_suspicion(
        device: Null, model: ImportedModel, libraries: Mapping[str, Path], baselines: Sequence[str]
    ) -> list[EntrySpec]:
        made = entries(device, model, libraries, baselines)
        settings = {"seconds": FASTEST_S, "library": str(libraries[TUNED]), "wrong": BEST}
        return [EntrySpec(TUNED, f"{__name__}:Suspicious", settings) if e.name == TUNED else e for e in made]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Null, "entries", with_suspicion)
        yield


@pytest.fixture(scope="module")
def ran(folder: Path, suspicious: None) -> Ran:
    return run(config_of(folder, "wrong", trials=16))


def test_a_winner_that_makes_the_model_wrong_is_named_and_the_next_best_is_exported(ran: Ran) -> None:
    assert ran.exit_code == 0
    assert ran.summary["end_to_end"]["verified"] is True
    chosen = {kernel["task"]: kernel["candidate"] for kernel in ran.summary["kernels"]}
    assert BEST not in chosen.values()
    assert None not in chosen.values()
    assert json.loads((ran.folder / "export" / "model.so").read_text()) == chosen
    named = [note for note in ran.summary["notes"] if "its winner makes the whole model wrong" in note]
    assert len(named) == len(chosen)
    refused = [r for r in ran.records if r.proposer == "whole model"]
    assert {(r.candidate, r.measurement.status) for r in refused} == {(BEST, Status.WRONG_RESULT)}


def test_what_was_refused_is_not_tried_again(ran: Ran) -> None:
    second = run(ran.config)
    assert not any("makes the whole model wrong" in note for note in second.summary["notes"])
    assert [k["candidate"] for k in second.summary["kernels"]] == [k["candidate"] for k in ran.summary["kernels"]]
