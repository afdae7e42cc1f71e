"""A finished run whose every number is made up and fixed, in the types of a real one: what `summarize` is given.

No device, no compiler and no clock takes part, so that the summary and the report are the same on every machine.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, cast

from kernels.space import Candidate, DesignSpace
from kernels.workload import TensorSpec, Workload
from tests.null_device import Null
from tuner.commands.summarize import RunFacts
from tuner.config import SETTINGS, ModelConfig, RunConfig
from tuner.devices.target import ResolvedTarget
from tuner.graph import GraphConfig, Lowered
from tuner.measure.comparison import CONTROL, ComparisonResult
from tuner.measure.models import TUNED, UNTUNED, ModelComparison
from tuner.measure.pooled import pool_processes, with_noise_floor
from tuner.measure.stats import StopRule
from tuner.models import ImportedModel, InputSpec
from tuner.protocols import Task
from tuner.records import Conditions, CpuState, Fidelity, Measurement, Record, Status
from tuner.tuning.budget import SearchEnd
from tuner.tuning.ledger import Ledger
from tuner.tuning.session import TaskSession
from tuner.tuning.tune import SearchResult

RUN_ID = "20260102-030405-golden"
_SPACE = DesignSpace("llvm", ())
_DEFAULT = _SPACE.default()
_PROCESSES, _ROUNDS = 3, 12
_NOISE_FLOOR = 0.002
_COUNTS = Counter({"candidates": 8, "untuned": 2, "certify": 4})
_NOTHING = cast(Any, None)  # what a session needs for searching, which is over


def candidate(number: int) -> Candidate:
    return Candidate.from_text(f'[0,[{number}],""]')


def _task(number: int, name: str, weight: int, rows: int, flops: float, origin: str = "") -> Task:
    args = (TensorSpec((rows, 512), "float32"), TensorSpec((512, 256), "float32"), TensorSpec((rows, 256), "float32"))
    workload = Workload(name, f"{number:016x}", "", args, 1, flops, {"operator": origin} if origin else {})
    return Task(workload, "llvm", weight)


def _screening(median_s: float) -> Measurement:
    samples = (median_s, median_s * 1.01, median_s * 0.99)
    return Measurement(
        Status.OK,
        samples,
        Fidelity.SCREEN,
        StopRule.ENOUGH_SAMPLES,
        conditions=Conditions(details={"load_before": 0.25}),
    )


def _certified(median_s: float, noise: int, session_id: str) -> Measurement:
    """A measurement in several processes. All of one session share the drift of its rounds; `noise` is the kernel's."""
    by_process = [_in_process(median_s, noise, process) for process in range(_PROCESSES)]
    return with_noise_floor(pool_processes(by_process, session_id), _NOISE_FLOOR)


def _in_process(median_s: float, noise: int, process: int) -> Measurement:
    samples = tuple(median_s * _drift(process, r) * (1 + 0.0008 * ((r * (noise + 3)) % 7 - 3)) for r in range(_ROUNDS))
    details = {
        "mode": "hot", "threads": "TVM_NUM_THREADS=2", "cpus": [0, 1], "load_before": 0.25 + process, "wall_s": 0.5,
        "cpu_s": 0.99, "involuntary_switches": process, "samples_preempted": 1, "samples_dropped": 1, "smt": False,
        "clock_share": 2e-5, "frequency_mhz": 2500.0,
    }  # fmt: skip
    return Measurement(
        Status.OK,
        samples,
        Fidelity.CERTIFY,
        StopRule.TIME_LIMIT,
        conditions=Conditions(rounds=(tuple(range(_ROUNDS)),), details=details),
    )


def _drift(process: int, number: int) -> float:
    return 1.0 + 0.01 * process + 0.002 * (number % 5)


def _session(
    task: Task, screened: dict[Candidate, Measurement], certified_s: dict[Candidate, float], unverified: str = ""
) -> TaskSession:
    ledger = Ledger(_NOTHING, RUN_ID, "scope", 0)
    session = TaskSession(
        task, _SPACE, _NOTHING, _NOTHING, cast(Any, Null(Path())), ledger, SETTINGS["standard"], Path(), known={}
    )
    session.screened = screened
    session.certified = {c: _certified(s, noise, task.key) for noise, (c, s) in enumerate(certified_s.items())}
    if unverified:
        session._trials.references.none(unverified)  # noqa: SLF001 - a search would have found that out
    return session


def sessions() -> dict[str, TaskSession]:
    """A kernel that became faster, with a tie and failed trials; one that did not; one whose outputs were not checked;
    and one without a candidate."""
    failed = {
        candidate(4): Measurement(Status.BUILD_FAILED, reason="LLVM: out of registers"),
        candidate(5): Measurement(Status.CENSORED, reason="over 0.012 s", censored_at_s=0.012),
        candidate(6): Measurement(Status.WRONG_RESULT, reason="3 elements differ"),
    }
    first, second, third = _screening(4.1e-3), _screening(3.9e-3), _screening(5.0e-3)
    listed = [
        _session(
            _task(1, "matmul_add_relu", 6, 784, 411e6, origin="matmul"),
            {_DEFAULT: _screening(9e-2), candidate(1): first, candidate(2): second, candidate(3): third, **failed},
            {candidate(2): 4.0e-3, candidate(1): 4.001e-3, candidate(3): 5.1e-3, _DEFAULT: 9.1e-2},
        ),
        _session(
            _task(2, "softmax", 1, 196, 2e6),
            {_DEFAULT: _screening(3e-5), candidate(1): _screening(3.1e-5)},
            {candidate(1): 3.2e-5, _DEFAULT: 3.0e-5},
        ),
        _session(
            _task(3, "max_pool2d", 2, 3136, 0.0),
            {_DEFAULT: _screening(4e-4), candidate(7): _screening(1e-4)},
            {candidate(7): 1.1e-4, _DEFAULT: 4.1e-4},
            unverified="no reference could be computed",
        ),
        _session(_task(4, "reshape", 1, 196, 0.0), {_DEFAULT: _screening(2e-6)}, {}),
    ]
    return {session.task.key: session for session in listed}


def comparison() -> ModelComparison:
    """The whole model, 60 rounds, the last ten with the CPUs apart. The machine slows down while the rounds go on, so
    that the median of ONNX Runtime, which took part in the late ones more often, is above that of the tuned model; the
    pairs say the contrary."""
    drift = {r: (1.0 + 0.003 * r) * (1.0 if r < 50 else 1.1) for r in range(60)}
    tuned = {r: 43.0e-3 * d for r, d in drift.items()}
    late = {r: 42.2e-3 * d * (1.0 if r < 50 else 0.97) for r, d in drift.items() if r >= 30 or r % 3 == 0}
    torch = {r: 71.0e-3 * d * (1 + 0.002 * (r % 3)) for r, d in drift.items()}
    state_of = {r: CpuState.MIXED if r == 49 else CpuState.TOGETHER if r < 49 else CpuState.APART for r in drift}
    blocks = {TUNED: tuned, UNTUNED: {r: 5.17 * drift[r] for r in (9, 29, 49)}, "onnxruntime": late, "torch": torch}
    again = {r: s * (1 + 0.008 * (r % 3 - 1)) for r, s in tuned.items()}
    result = ComparisonResult(
        blocks=blocks,
        dropped={"torch_compile": "ChildDied: code -9"},
        noise_floor=0.004,
        incumbent=TUNED,
        control=again,
        first_calls={name: {r: 1.4 * s for r, s in of.items()} for name, of in blocks.items() if name != UNTUNED},
        first_control={r: 1.4 * s for r, s in again.items()},
        states=dict.fromkeys((*blocks, CONTROL), state_of),
        round_trips_s={CpuState.TOGETHER: 54e-9, CpuState.APART: 340e-9},
    )
    settings = {TUNED: "relax VM, 2 threads", "onnxruntime": "ONNX Runtime, 2 threads"}
    notes = ["torch_compile was dropped: ChildDied: code -9", "tuned outputs compared with onnxruntime, torch"]
    return ModelComparison(
        result,
        settings,
        load_s={TUNED: 0.31, UNTUNED: 5.9, "onnxruntime": 0.62, "torch": 0.11, "torch_compile": 14.0},
        peak_bytes={TUNED: 391 << 20, UNTUNED: 402 << 20, "onnxruntime": 520 << 20, "torch": 760 << 20},
        verified=True,
        max_abs_error=4e-6,
        max_rel_error=2e-6,
        notes=notes,
    )


def facts() -> RunFacts:
    made = sessions()
    lowered = Lowered(_NOTHING, GraphConfig("NCHW16c"), tuple(session.task for session in made.values()))
    ledger = Ledger(_NOTHING, RUN_ID, "scope", 0, measured=14, reused=2, counts=_COUNTS)
    sentences = ["matmul_add_relu: 7 trials in 60 s, still open"]
    search = SearchResult(lowered, made, ledger, SearchEnd.TIME, False, frozenset(), sentences, made)
    inputs = (InputSpec("data", (1, 3, 224, 224), "float32"),)
    return RunFacts(
        run_id=RUN_ID,
        command="python -m tuner run configs/golden.yaml",
        config=RunConfig(ModelConfig("onnx:golden")),
        model=ImportedModel("golden", "onnx:golden", _NOTHING, inputs, {}),
        target=ResolvedTarget("llvm", "{}", 2, "Example CPU", ("avx2", "fma")),
        search=search,
        ceilings={"peak_flops_per_s": 200e9, "bandwidth_bytes_per_s": 20e9, "peaks": {}, "levels": []},
        environment={"python": "3.x", "cpu": "Example CPU", "packages": {"apache-tvm": "0.x"}, "smt": False},
        search_s=60.0,
        kernel_baselines={f"{1:016x}": {"torch": [4.4e-3 * (1 + 0.001 * i) for i in range(9)]}},
        notes=search.explanations,
        comparison=comparison(),
        manifest={"path": "export", "sha256": "ab" * 32},
        wall_s=90.0,
        inputs={"sets": ["inputs of seed 0", "inputs of seed 1"], "seeds": [0, 1], "drawn": {"pixels": "N(0, 1)"}},
        account=_account(),
        lower_bounds_s={f"{1:016x}": 2.1e-3, f"{2:016x}": 1e-5},
    )


def _account() -> dict[str, Any]:
    kernels = [("tuned_a", 1, 6, 25.9e-3), ("tuned_b", 3, 2, 0.25e-3), ("softmax", 2, 1, 4e-5), ("pack", None, 1, 2e-5)]
    rows = [
        {"symbol": symbol, "task": None if number is None else f"{number:016x}", "calls": calls, "seconds": seconds}
        for symbol, number, calls, seconds in kernels
    ]
    memory, runtime = {"calls": 30, "seconds": 9e-5}, {"calls": 44, "seconds": 2e-4}
    return {"end_to_end_s": 26.6e-3, "inferences": 38, "kernels": rows, "memory": memory, "runtime": runtime}


def records() -> list[Record]:
    """The trials of the run, a second apart."""
    listed = [
        (session.task, c, measured)
        for session in sessions().values()
        for c, measured in session.screened.items()
        if not c.is_default
    ]
    return [
        Record(
            RUN_ID, task.key, task.name, "scope", trial, c.to_text(), "seed" if trial % 2 else "mutate", measured, 0,
            f"2026-01-02T03:04:{5 + trial:02}+00:00",
        )
        for trial, (task, c, measured) in enumerate(listed)
    ]  # fmt: skip


def folder(path: Path) -> Path:
    """The folder of the run with the files that it writes before the summary."""
    path.mkdir()
    (path / "config.yaml").write_text("model:\n  source: onnx:golden\n")
    (path / "environment.json").write_text('{"python": "3.x", "cpu": "Example CPU", "smt": false}\n')
    return path
