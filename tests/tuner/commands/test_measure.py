"""Measuring a bundle: every fidelity, interrupted and continued, on several devices, and without TVM."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import gpus
from tests.tuner.bundle import small
from tuner.bundle import write
from tuner.bundle.measurements import FORMAT, Header, Row, Writer, read_measurements
from tuner.caveats import OWN, Caveats
from tuner.commands import measure as command
from tuner.devices import resolve
from tuner.devices.device import BundleBench
from tuner.errors import BundleError, InfrastructureError, TargetError, UserError
from tuner.progress import Progress
from tuner.protocols import Job, Policy
from tuner.records import PROTOCOL_VERSION, Conditions, Fidelity, Measurement, Status

ROOT = Path(__file__).resolve().parents[3]
CANDIDATES = 6


def recorded(path: Path, candidates: int = CANDIDATES) -> Path:
    """What a GPU might have said of the small bundle: the candidate of number n takes 10 + n us, the default 40."""
    writer = Writer(path, Header(FORMAT, "0" * 64, '{"kind":"cuda"}', "cold", PROTOCOL_VERSION, "cuda", ("A GPU",)))
    for item in small.content(candidates)[0]["items"]:
        number = json.loads(item["candidate"])[0]
        seconds = 40e-6 if number < 0 else (10 + number) * 1e-6
        for fidelity in Fidelity:
            measured = Measurement(Status.OK, (seconds, seconds * 1.01), fidelity, "half-width")
            writer.add(Row(small.KEY, "double", item["candidate"], item["proposer"], 7, "A GPU", "2026", measured))
    writer.close()
    return path


class Counting:
    """Any bench, with the jobs that it was given."""

    def __init__(self, inner: BundleBench, device: str = "A GPU") -> None:
        self.device = device
        self.inner = inner
        self.jobs: list[tuple[str, Fidelity]] = []
        self.policies: list[Policy] = []
        self.closed = False

    def measure(self, job: Job, policy: Policy) -> Measurement:
        self.jobs.append((job.candidate, policy.fidelity))
        self.policies.append(policy)
        assert job.path.read_bytes()[:4] == b"\x7fELF"
        return self.inner.measure(job, policy)

    def close(self) -> None:
        self.closed = True


class CountingKind:
    """What `measure` asks of a kind of device."""

    name = "cuda"
    bundles = True

    def __init__(self, benches: Sequence[Counting]) -> None:
        self._benches = benches
        self.asked: list[tuple[Sequence[int] | None, str, str]] = []

    def caveats(self, device: str) -> Caveats:
        return OWN

    def benches(self, numbers: Sequence[int] | None, arch: str, mode: str) -> Sequence[Counting]:
        self.asked.append((numbers, arch, mode))
        return self._benches


def install(monkeypatch: pytest.MonkeyPatch, benches: Sequence[Counting]) -> CountingKind:
    """Make these benches those of the bundle's kind of device."""
    kind = CountingKind(benches)
    monkeypatch.setattr(resolve, "kind_of_text", lambda text: kind)
    return kind


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    from tuner.bundle.replay import BundleReplayBench

    made = Counting(BundleReplayBench(recorded(tmp_path / "recorded.jsonl")))
    install(monkeypatch, [made])
    return made


def run(folder: Path, runner: str | None, gpus: Sequence[int] | None = None) -> tuple[list[str], int]:
    path = folder / "b.tar"
    if not path.exists():
        small.bundle(path, CANDIDATES)
    return command.measure(path, folder / "m.jsonl", runner, gpus, Progress())


def test_everything_is_screened_the_best_ranked_winner_and_default_certified(tmp_path: Path, bench: Counting) -> None:
    lines, code = run(tmp_path, None)
    assert code == 0
    header, rows = read_measurements(tmp_path / "m.jsonl")
    by_fidelity = {
        fidelity: [row.candidate for row in rows if row.measurement.fidelity is fidelity] for fidelity in Fidelity
    }
    assert len(by_fidelity[Fidelity.SCREEN]) == CANDIDATES
    assert set(by_fidelity[Fidelity.RANK]) == {f'[{n},[],""]' for n in range(5)}
    assert by_fidelity[Fidelity.CERTIFY] == ['[0,[],""]', '[-1,[],""]']
    assert (header.runner, header.devices, rows[0].device) == ("cuda", ("A GPU",), "A GPU")
    assert all(row.measurement.build_s == 1.5 for row in rows), "compiling was paid for where it was done"
    assert lines[-1] == "double: best 0.0100 ms, default 4.00x of it (certify)"
    assert bench.closed


def test_what_is_far_slower_than_the_best_is_given_up_but_the_default_is_timed(tmp_path: Path, bench: Counting) -> None:
    run(tmp_path, None)
    first, second, *_ = bench.policies
    assert bench.jobs[0] == ('[-1,[],""]', Fidelity.SCREEN)
    assert first.give_up_above_s is None
    assert second.give_up_above_s == pytest.approx(3 * 40.2e-6)


def test_measuring_goes_on_where_it_stopped(tmp_path: Path, bench: Counting) -> None:
    run(tmp_path, None)
    whole = (tmp_path / "m.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "m.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:25])
    bench.jobs.clear()
    said, _ = run(tmp_path, None)
    assert len(bench.jobs) == len(lines) - 4
    assert "3 measurements were there already" in said
    keys = [row.key for row in read_measurements(tmp_path / "m.jsonl")[1]]
    assert len(keys) == len(set(keys)) == len(lines) - 1


def test_a_throttled_time_is_kept_and_loses(tmp_path: Path, bench: Counting) -> None:
    class Throttled:
        device = "A GPU"

        def measure(self, job: Job, policy: Policy) -> Measurement:
            seconds = 1e-6 if job.candidate == '[3,[],""]' else 2e-6
            conditions = Conditions(excluded="throttled: power brake" if seconds == 1e-6 else "")
            return Measurement(Status.OK, (seconds,), policy.fidelity, conditions=conditions)

    bench.inner = Throttled()  # type: ignore[assignment]
    run(tmp_path, None)
    _, rows = read_measurements(tmp_path / "m.jsonl")
    assert '[3,[],""]' in {row.candidate for row in rows if row.measurement.fidelity is Fidelity.SCREEN}
    assert '[3,[],""]' not in {row.candidate for row in rows if row.measurement.fidelity is not Fidelity.SCREEN}


def test_when_all_are_throttled_the_table_is_not_empty(tmp_path: Path, bench: Counting) -> None:
    class Hot:
        device = "A GPU"

        def measure(self, job: Job, policy: Policy) -> Measurement:
            conditions = Conditions(excluded="throttled: power brake")
            return Measurement(Status.OK, (1e-6,), policy.fidelity, conditions=conditions)

    bench.inner = Hot()  # type: ignore[assignment]
    lines, _ = run(tmp_path, None)
    assert "double: best 0.00100 ms" in lines[-1]


def test_every_failure_is_a_line(tmp_path: Path, bench: Counting) -> None:
    class Broken:
        device = "A GPU"

        def measure(self, job: Job, policy: Policy) -> Measurement:
            return Measurement(Status.RUN_TIMEOUT, fidelity=policy.fidelity, reason="no reply within 1 s")

    bench.inner = Broken()  # type: ignore[assignment]
    lines, code = run(tmp_path, None)
    assert code == 0
    assert lines == ["screened 6 of 6 kernels: 6 run timeout", "double: no time; run timeout: no reply within 1 s"]


def test_a_gpu_that_dies_ends_it_with_what_was_measured(tmp_path: Path, bench: Counting) -> None:
    inner = bench.inner

    class Dying:
        device = "A GPU"

        def measure(self, job: Job, policy: Policy) -> Measurement:
            if job.candidate == '[1,[],""]':
                raise InfrastructureError("GPU 0 no longer works")
            return inner.measure(job, policy)

    bench.inner = Dying()  # type: ignore[assignment]
    with pytest.raises(InfrastructureError):
        run(tmp_path, None)
    assert len(read_measurements(tmp_path / "m.jsonl")[1]) == 2
    assert bench.closed


def test_two_devices_share_the_work_and_each_is_named(
    tmp_path: Path, bench: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=20)

    class Waiting(Counting):
        def measure(self, job: Job, policy: Policy) -> Measurement:
            if not self.jobs:
                both.wait()  # neither goes on before the other has a job too
            return super().measure(job, policy)

    made = [Waiting(bench.inner, f"GPU {number}") for number in range(2)]
    install(monkeypatch, made)
    monkeypatch.setattr(command, "SETTINGS", dataclasses.replace(command.SETTINGS, chunk=1))
    run(tmp_path, None)
    _, rows = read_measurements(tmp_path / "m.jsonl")
    assert {row.device for row in rows} == {"GPU 0", "GPU 1"}
    assert len(rows) == len({row.key for row in rows}) == CANDIDATES + 5 + 2


def test_the_runner_is_the_kind_of_device_that_the_bundle_is_for(
    tmp_path: Path, bench: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = install(monkeypatch, [bench])
    run(tmp_path, None, gpus=[1])
    assert kind.asked == [([1], "sm_90a", "cold")]
    assert read_measurements(tmp_path / "m.jsonl")[0].runner == "cuda"


def test_an_unknown_runner_and_a_missing_recording_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runner 'metal'") as caught:
        run(tmp_path, "metal")
    assert "cuda, simulated_cuda, opencl, replay" in caught.value.hint
    for runner, words in {"replay": "no file", "replay:": "no file", "cuda:1": "nothing behind its name"}.items():
        with pytest.raises(UserError, match=words):
            run(tmp_path, runner)
    with pytest.raises(BundleError, match="cannot be read"):
        run(tmp_path, f"replay:{tmp_path / 'nothing'}")


CUDA, OPENCL, SIMULATED = '{"kind":"cuda"}', '{"kind":"opencl"}', '{"kind":"cuda","model":"simulated"}'
WRONG_RUNNERS = {
    (CUDA, "opencl"): ("cuda", "to measure on a host with such a GPU; or make a bundle for it: `target: opencl`"),
    (CUDA, "simulated_cuda"): ("cuda", "or make a bundle for it: `target: simulated_cuda`"),
    (CUDA, "llvm"): ("cuda", "llvm needs no bundle: `python -m tuner run`"),
    (OPENCL, "cuda"): ("opencl", "to measure on a host with such a device; or make a bundle for it: `target: cuda`"),
    (OPENCL, "llvm"): ("opencl", "leave --runner out"),
    (SIMULATED, "cuda"): ("simulated_cuda", "(no GPU is needed)"),
    (SIMULATED, "opencl"): ("simulated_cuda", "leave --runner out"),
}
"""By the bundle's target and the runner: the kind that the one error names, and its hint."""


@pytest.mark.parametrize("case", WRONG_RUNNERS)
def test_a_runner_that_is_not_the_bundle_s_is_refused_by_one_rule(case: tuple[str, str], tmp_path: Path) -> None:
    (target, runner), (kind, hint) = case, WRONG_RUNNERS[case]
    manifest, blobs = small.content()
    write(tmp_path / "b.tar", {**manifest, "target": target}, blobs)
    with pytest.raises(UserError) as caught:
        run(tmp_path, runner)
    assert f"the bundle is for {kind} (sm_90a), and {runner} runs none of its kernels" in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2 and not (tmp_path / "m.jsonl").exists()


def test_a_recording_of_another_bundle_is_refused(tmp_path: Path) -> None:
    path = recorded(tmp_path / "recorded.jsonl", candidates=1)
    path.write_text(path.read_text().replace('[-1,[],\\"\\"]', '[77,[],\\"\\"]'))
    with pytest.raises(BundleError, match=r"recorded of bundle 0{12}; .*none of its kernels is in it"):
        run(tmp_path, f"replay:{path}")
    assert not (tmp_path / "m.jsonl").exists()


@pytest.mark.skipif(gpus() > 0, reason="this machine has a GPU")
def test_without_a_gpu_it_says_what_is_missing_and_what_can_be_done(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="missing here") as caught:
        run(tmp_path, "cuda")
    assert caught.value.exit_code == 2
    assert "--runner replay:FILE" in caught.value.hint
    assert not (tmp_path / "m.jsonl").exists()


ALONE = """
import sys
for name in ("tvm", "tvm_ffi", "torch", "xgboost", "optuna", "sqlalchemy", "pandas", "scipy", "matplotlib", "onnx"):
    sys.modules[name] = None
sys.argv[0] = "tuner"
from tuner.cli import main
code = main(sys.argv[1:])
there = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
foreign = there - set(sys.stdlib_module_names) - {"tuner", "kernels", "__main__", "sitecustomize", "_distutils_hack"}
print("imported:", sorted(name for name in foreign if "editable" not in name))
sys.exit(code)
"""


def test_numpy_is_enough(tmp_path: Path) -> None:
    """In a process in which TVM and everything else heavy cannot be imported."""
    small.bundle(tmp_path / "b.tar", CANDIDATES)
    recorded(tmp_path / "recorded.jsonl")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", ALONE, "measure", str(tmp_path / "b.tar"), "-o", str(tmp_path / "m.jsonl"),
         "--runner", f"replay:{tmp_path / 'recorded.jsonl'}"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "screened 6 of 6 kernels: 6 ok" in done.stdout
    assert "imported: ['numpy']" in done.stdout
    assert len(read_measurements(tmp_path / "m.jsonl")[1]) == CANDIDATES + 5 + 2
    assert time.monotonic() - began < 30
