"""Compile here, measure there, continue from it: the whole way, with recorded times in place of a GPU."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from kernels.launch_plan import LaunchPlan
from tests import simulated_cuda, unlabelled
from tests.tuner.bundle import small
from tests.tuner.devices.opencl.hand_written import pocl
from tuner import cli, environment
from tuner import config as run_files
from tuner.bundle import Bundle
from tuner.bundle.measurements import FORMAT, Header, Row, Writer, read_measurements
from tuner.commands.bundle import _Packed, shares
from tuner.devices.resolve import kind_named
from tuner.devices.target import ResolvedTarget
from tuner.records import PROTOCOL_VERSION, Conditions, Fidelity, Measurement, Status
from tuner.store import SqlStore

CONFIG = """
model: {{source: "torch:tests.tuner.bundle.models:small"}}
target: {{tag: nvidia/nvidia-h100}}
search: {{strategy: random}}
measure: {{mode: cold, database: "sqlite:///{folder}/records.db", build_timeout: 120s}}
"""


def record(bundle: Path, path: Path, device: str) -> Path:
    """Times that depend on the candidate alone, so that every bundle agrees on them; some fail."""
    with Bundle(bundle) as opened:
        target = opened.manifest.target
        writer = Writer(path, Header(FORMAT, opened.sha256, target, "cold", PROTOCOL_VERSION, "cuda", (device,)))
        for item in opened.manifest.items:
            number = sum(item.candidate.encode()) % 97
            for fidelity in Fidelity:
                measured = Measurement(
                    Status.OK, ((10 + number) * 1e-6,), fidelity, conditions=Conditions(device=device)
                )
                if number % 5 == 0 and item.proposer != "default":
                    measured = Measurement(Status.RUN_FAILED, fidelity=fidelity, reason="an illegal memory access")
                row = Row(item.task, "", item.candidate, item.proposer, 0, device, "2026-11-22", measured)
                writer.add(row)
    writer.close()
    return path


def candidates(bundle: Path) -> set[tuple[str, str]]:
    with Bundle(bundle) as opened:
        return {(item.task, item.candidate) for item in opened.manifest.items}


@pytest.mark.slow
def test_a_search_continues_from_what_was_measured_elsewhere(
    compiler: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, first, second = tmp_path / "c.yaml", tmp_path / "1.tar", tmp_path / "2.tar"
    config.write_text(CONFIG.format(folder=tmp_path))
    assert cli.main(["bundle", str(config), "-n", "4", "-o", str(first)]) == 0
    assert "4 kernels of 2 tasks for sm_90a" in capsys.readouterr().out

    with Bundle(first) as opened:
        manifest = opened.manifest
        assert {item.proposer for item in manifest.items} == {"default", "random"}
        for item in manifest.items:
            assert opened.blob(item.cubin)[:4] == b"\x7fELF"
            assert {launch.kernel.encode() in opened.blob(item.cubin) for launch in plan(item).launches} == {True}
            assert item.usage["registers"] > 0
            assert item.build_s > 0
        [softmax] = [task for task in manifest.tasks if "softmax" in task.name]
        [expected] = softmax.expected
        values = np.frombuffer(opened.blob(expected.values), "<f8").reshape(softmax.output_args[0].shape)
        np.testing.assert_allclose(values.sum(axis=-1), 1.0, atol=1e-6)  # of a softmax, whatever it is given

    results = tmp_path / "m.jsonl"
    replay = f"replay:{record(first, tmp_path / 'recorded.jsonl', 'GPU A')}"
    assert cli.main(["measure", str(first), "-o", str(results), "--runner", replay]) == 0
    assert cli.main(["import", str(results), "--database", f"sqlite:///{tmp_path}/records.db"]) == 0
    assert "on GPU A" in capsys.readouterr().out

    with closing(SqlStore(f"sqlite:///{tmp_path}/records.db")) as store:
        records = store.read()
        scope = environment.gpu_scope_key("cuda", manifest.target, "GPU A", "cold")
        assert {record.scope for record in records} == {scope}
        screened = {(r.task_key, r.candidate) for r in records if r.measurement.fidelity is Fidelity.SCREEN}
        assert screened == candidates(first)
        assert Status.OK in {r.measurement.status for r in records}
    assert cli.main(["import", str(results), "--database", f"sqlite:///{tmp_path}/records.db"]) == 0
    assert "imported 0 of" in capsys.readouterr().out, "twice is once"

    assert cli.main(["bundle", str(config), "-n", "2", "-o", str(second), "--device", "GPU B"]) == 2
    assert "--device: nothing was imported from 'GPU B'\n  did you mean 'GPU A'?" in capsys.readouterr().err
    assert cli.main(["bundle", str(config), "-n", "2", "-o", str(second)]) == 0
    assert not candidates(second) & candidates(first), "what is known is not proposed again"
    with Bundle(second) as opened:
        assert "default" not in {item.proposer for item in opened.manifest.items}


WITHOUT_A_GPU = """
model: {{source: "torch:tests.tuner.bundle.models:small"}}
target: {target}
search: {{strategy: random}}
measure: {{mode: cold, database: "sqlite:///{folder}/records.db", build_timeout: 120s}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["simulated_cuda", "opencl"])
def test_the_whole_way_with_kernels_that_are_executed(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = kind
    if kind == "simulated_cuda":
        simulated_cuda.require()
    else:
        target = f'{{kind: opencl, platform: "{pocl().platform}"}}'
    config, packed, results = tmp_path / "c.yaml", tmp_path / "1.tar", tmp_path / "m.jsonl"
    config.write_text(WITHOUT_A_GPU.format(folder=tmp_path, target=target))
    database = f"sqlite:///{tmp_path}/records.db"
    assert cli.main(["bundle", str(config), "-n", "2", "-o", str(packed)]) == 0
    place = "on this host, or on one whose CPU" if kind == "simulated_cuda" else "on a host with such a device: "
    assert place in capsys.readouterr().out
    assert cli.main(["measure", str(packed), "-o", str(results)]) == 0
    assert cli.main(["import", str(results), "--database", database]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert not [line for line in printed if "missing" in line], "nothing is missing"
    header, rows = read_measurements(results)
    [device] = header.devices
    assert header.runner == kind
    caveat = kind_named(kind).caveats(device).kernel
    assert printed.count(caveat.sentence) == 2, "of measure, and of import"
    assert not unlabelled.in_lines(printed, [caveat.words])
    assert {r.measurement.conditions.details["times"] for r in rows if r.measurement.ok} == {caveat.words}
    assert ("its times are estimates" if kind == "simulated_cuda" else "a CPU, its times are not a GPU's") in device
    with Bundle(packed) as opened, closing(SqlStore(database)) as store:
        records = store.read()
        assert {r.scope for r in records} == {
            environment.apart(environment.gpu_scope_key(kind, opened.manifest.target, device, "cold"))
        }
        assert {(r.task_key, r.candidate) for r in records} == candidates(packed)
    assert {r.measurement.status for r in records if r.measurement.fidelity is Fidelity.CERTIFY} == {Status.OK}
    capsys.readouterr()
    assert cli.main(["measure", str(packed), "-o", str(tmp_path / "other.jsonl"), "--runner", "cuda"]) == 2
    assert f"the bundle is for {kind}, and cuda runs none of its kernels" in capsys.readouterr().err


def plan(item: object) -> LaunchPlan:
    return LaunchPlan.from_json(json.loads(json.dumps(item.plan)))  # type: ignore[attr-defined]


def test_what_a_task_without_kernels_left_behind_is_not_packed(tmp_path: Path) -> None:
    manifest, blobs = small.content()
    packed = _Packed(manifest["tasks"], manifest["items"], {**blobs, small.digest(b"left"): b"left"})
    config = run_files.parse(CONFIG.format(folder=tmp_path), "c.yaml")
    packed.write(tmp_path / "b.tar", config, ResolvedTarget("cuda", "{}", 1, "", ("sm_90a",)))
    with Bundle(tmp_path / "b.tar") as opened:
        assert set(opened.manifest.blobs) == set(blobs)


@pytest.mark.parametrize(
    ("weights", "count", "expected"),
    [
        ([1.0, 1.0], 4, [2, 2]),
        ([3.0, 1.0], 4, [3, 1]),  # one each first; 1.5 and 0.5 of the other two, a tie that the heavier wins
        ([100.0, 1.0, 1.0], 10, [8, 1, 1]),
        ([1.0, 5.0, 2.0], 2, [0, 1, 1]),
        ([0.0, 0.0], 3, [2, 1]),
    ],
)
def test_shares_follow_the_weights_and_leave_no_task_out(weights: list[float], count: int, expected: list[int]) -> None:
    assert shares(weights, count) == expected
    assert sum(shares(weights, count)) == count


def test_a_bundle_for_a_cpu_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.format(folder=tmp_path).replace("target: {tag: nvidia/nvidia-h100}", "target: llvm"))
    assert cli.main(["bundle", str(config)]) == 2
    assert "a bundle holds kernels for GPUs" in capsys.readouterr().err


def test_a_bundle_that_cannot_be_written_is_refused_before_anything_is_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))
    for output, words in ((tmp_path, "a folder, where the bundle"), (config / "b.tar", "cannot be made")):
        assert cli.main(["bundle", str(config), "-o", str(output)]) == 3
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["-n", "0"], ["-n", "ten"], ["-n", "9999999"]])
def test_a_count_that_is_none_is_refused(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))
    assert cli.main(["bundle", str(config), *flags]) == 2
    assert "-n: expected a whole number" in capsys.readouterr().err
