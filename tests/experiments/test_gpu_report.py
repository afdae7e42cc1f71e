"""The table of a GPU's kernels: the most careful measurement counts, and only baselines of the same precision."""

from __future__ import annotations

from experiments.gpu.report import best_by_task, step_lines, table
from tuner.bundle import Manifest, TaskEntry
from tuner.bundle.measurements import Row
from tuner.records import Fidelity, Measurement, Status

TASKS = tuple(TaskEntry(key, f"kernel {key}", 3, 1.0, (), 0, (), ()) for key in ("a", "b"))
MANIFEST = Manifest(1, "tests", "{}", "sm_90a", 1, "cold", TASKS, (), {})


def row(task: str, candidate: str, fidelity: Fidelity, seconds: float, status: Status = Status.OK) -> Row:
    samples = (seconds,) if status is Status.OK else ()
    return Row(task, task, candidate, "test", 0, "gpu", "", Measurement(status, samples, fidelity))


def test_the_most_careful_fidelity_counts_and_then_the_time() -> None:
    best = best_by_task([
        row("a", "screened", Fidelity.SCREEN, 1e-6),
        row("a", "slower", Fidelity.CERTIFY, 4e-6),
        row("a", "certified", Fidelity.CERTIFY, 3e-6),
        row("a", "wrong", Fidelity.CERTIFY, 1e-6, Status.WRONG_RESULT),
        row("b", "failed", Fidelity.SCREEN, 1e-6, Status.RUN_FAILED),
    ])  # fmt: skip
    assert {task: row.candidate for task, row in best.items()} == {"a": "certified"}


def test_baselines_of_another_precision_are_left_out() -> None:
    best = {"a": row("a", "certified", Fidelity.CERTIFY, 3e-6)}
    lines = table(MANIFEST, best, {"a": {"cudnn": 6e-6, "cudnn_tf32": 1e-6}})
    assert lines[2:4] == ["| kernel a | 3 | 3.00 | cudnn | 6.00 | 2.00 |", "| kernel b | 3 | nan | none | | |"]
    assert lines[4].endswith("over 1 kernels: 2.000")


def test_every_step_has_a_section() -> None:
    lines = list(step_lines({"tests": {"seconds": 1.0, "result": {"exit_code": 0}}}))
    assert lines[1] == "## tests, 1 s"
    assert '"exit_code": 0' in lines[4]
