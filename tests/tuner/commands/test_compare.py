"""`compare`: two trials of one kernel on the null device, whose times are known, and operands that are refused."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kernels.space import Candidate
from tests import null_device
from tests.test_null_device import store_model
from tuner import config as run_files
from tuner.commands import run as running
from tuner.commands.compare import Comparison, compare
from tuner.errors import UserError
from tuner.measure.stats import Verdict
from tuner.progress import Progress
from tuner.records import Fidelity, Label, Record
from tuner.store import SqlStore

CONFIG = """
model: {{source: "onnx:{folder}/tiny.onnx"}}
target: 'null'
search: {{trials: 12, time_budget: 10m, batch: 4, effort: quick}}
baselines: {{models: []}}
export: {{enabled: false}}
report: {{formats: [md]}}
measure: {{database: "sqlite:///{folder}/records.db"}}
out: {folder}/runs
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of runs with one run in it, while the null device is known."""
    folder = tmp_path_factory.mktemp("compare")
    store_model(folder / "tiny.onnx")
    with pytest.MonkeyPatch.context() as patch:
        null_device.install(patch)
        patch.setattr("tuner.measure.comparison.PAUSE_S", (0.0, 0.0))
        running.run(run_files.parse(CONFIG.format(folder=folder), "run file"), "run", Progress(io.StringIO()), None)
        yield folder / "runs"


def trials(out: Path) -> dict[str, list[Record]]:
    """The successful screenings by task, the fastest first."""
    config = run_files.load(str(next(out.glob("2*")) / "config.yaml"))
    with closing(SqlStore(config.measure.database)) as store:
        screened = [r for r in store.read() if r.measurement.fidelity is Fidelity.SCREEN and r.measurement.ok]
    by_task: dict[str, list[Record]] = {}
    for record in sorted(screened, key=lambda r: r.measurement.median_s):
        by_task.setdefault(record.task_key, []).append(record)
    return by_task


def test_two_trials_of_one_kernel_are_measured_side_by_side(out: Path) -> None:
    listed = max(trials(out).values(), key=len)
    fast, slow = listed[0], listed[-1]
    expected = null_device.seconds_of(Candidate.from_text(fast.candidate)) / null_device.seconds_of(
        Candidate.from_text(slow.candidate)
    )
    assert expected < 0.9
    names = (f"latest:{fast.trial}", f"latest:{slow.trial}")
    rows, sentences = compare(*names, str(out), 1.0, Progress(io.StringIO()))
    assert [row[:2] for row in rows] == [["A", names[0]], ["B", names[1]]]
    assert sentences[0].startswith(f"A against B: FASTER; A takes {expected:.4f} of B's time")


def test_trials_of_two_kernels_are_not_compared(out: Path) -> None:
    first, second, *_ = trials(out).values()
    with pytest.raises(UserError, match=f"is of {first[0].task_name}") as caught:
        compare(f"latest:{first[0].trial}", f"latest:{second[0].trial}", str(out), 1.0, Progress(io.StringIO()))
    assert caught.value.hint == "compare two trials of one kernel on one target"


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ("latest", "latest", "it exported no model"),
        ("latest:99999", "latest", "no trial '99999'"),
        ("elsewhere", "latest", "elsewhere"),
    ],
)
def test_what_is_not_there_is_named(out: Path, a: str, b: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        compare(a, b, str(out), 1.0, Progress(io.StringIO()))
    assert words in caught.value.message
    assert caught.value.hint


def test_a_kernel_and_a_model_are_not_compared(out: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({}))
    trial = max(trials(out).values(), key=len)[0].trial
    with pytest.raises(UserError, match="one is a kernel's trial, the other a whole model"):
        compare(f"latest:{trial}", str(tmp_path), str(out), 1.0, Progress(io.StringIO()))


def test_too_few_pairs_are_no_verdict() -> None:
    undecided = Comparison([1e-3], [1e-3], Verdict(Label.UNDECIDED, None, None), 0.01)
    assert undecided.sentence() == "A against B: UNDECIDED (too few pairs)"
    assert [row[2] for row in undecided.rows(("x", "y"))] == ["1.00 ms, 1 samples"] * 2
