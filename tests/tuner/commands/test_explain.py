"""`explain`: the ladder of a kernel of a run, built and timed, and what the command says where there is none."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kernels.space import generate
from tests.tuner.commands.test_show import SUMMARY, add_run
from tuner import cli
from tuner import config as config_file
from tuner.commands import explain
from tuner.commands.prepare import lowered
from tuner.devices import resolve
from tuner.errors import UserError
from tuner.progress import Progress


def silent() -> Progress:
    return Progress(io.StringIO(), live=False)


def product(path: Path) -> None:
    """A model of one product and its ReLU."""
    weights = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [32, 32])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [32, 32])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose one kernel has the first of its space's initial candidates."""
    product(tmp_path / "model.onnx")
    folder = add_run(tmp_path / "runs", "a-run")
    (folder / "config.yaml").write_text(
        f"model: {{source: 'onnx:{tmp_path}/model.onnx'}}\ntarget: {{spec: llvm, threads: 1}}\n"
        f"measure: {{database: 'sqlite:///{tmp_path}/records.db', mode: hot}}\nout: {tmp_path}/runs\n"
    )
    config = config_file.load(str(folder / "config.yaml"))
    target = resolve.resolve(config.target)
    _, [choices] = lowered(config, target, silent())
    [task] = choices.tasks
    candidate = generate(task.workload, target.tvm()).initial_candidates()[0]
    kernel = {
        **SUMMARY["kernels"][0], "task": task.key, "name": task.name, "candidate": candidate.to_text(),
        "lower_bound_s": 1e-7,
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps({**SUMMARY, "run_id": "a-run", "kernels": [kernel]}))
    return folder


@pytest.mark.slow
def test_the_ladder_of_a_kernel_is_built_checked_and_timed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "a-run", "--out", str(run.parent), "--time-budget", "0.5s"]) == 0
    printed = capsys.readouterr().out
    assert "0. unscheduled" in printed
    assert "the hottest loop (asm)" in printed
    [stored] = (run / "explain").glob("*.json")
    told = json.loads(stored.read_text())
    assert all(rung["seconds"] for rung in told["rungs"]), [rung["reason"] for rung in told["rungs"]]
    assert stored.with_suffix(".html").exists()
    assert "Ladders of kernels" in (run / "report.html").read_text()
    assert (run / "figures" / f"ladder_{told['task']}.png").exists()


KERNELS: list[dict[str, Any]] = [
    {"name": "conv_a", "task": "1234", "candidate": "[0,[],\"\"]", "tuned_s": 1.0, "weight": 1},
    {"name": "conv_b", "task": "2345", "candidate": "[0,[],\"\"]", "tuned_s": 0.9, "weight": 2},
    {"name": "dense", "task": "3456", "candidate": None, "tuned_s": None, "weight": 1},
]  # fmt: skip


def test_a_kernel_is_chosen_by_its_name_or_its_time() -> None:
    assert explain.chosen(KERNELS, None, "r")["name"] == "conv_b"
    assert explain.chosen(KERNELS, "conv_a", "r")["name"] == "conv_a"
    assert explain.chosen(KERNELS, "23", "r")["name"] == "conv_b"


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("conv", "may mean conv_a (1234), conv_b (2345)", "write more"),
        ("dense", "keeps TVM's own schedule", "choose another"),
        ("conv_c", "no kernel 'conv_c'", "conv_"),
        ("pool", "no kernel 'pool'", "tuner show r"),
    ],
)
def test_a_name_of_no_kernel_or_of_several_is_refused(name: str, words: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        explain.chosen(KERNELS, name, "r")
    assert words in error.value.message
    assert hint in error.value.hint


def test_a_run_without_a_tuned_kernel_has_no_ladder() -> None:
    with pytest.raises(UserError, match="no kernel has a tuned schedule"):
        explain.chosen(KERNELS[2:], None, "r")


def test_a_run_of_several_shapes_is_asked_for_one_of_them(run: Path) -> None:
    (run / "shapes.json").write_text(json.dumps({"shapes": [{"name": "seq128"}, {"name": "seq256"}]}))
    with pytest.raises(UserError, match="several shapes") as error:
        explain.explain(run, None, 0.1, silent())
    assert "a-run.seq128, a-run.seq256" in error.value.hint


def test_a_candidate_that_is_none_of_todays_space_is_refused(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["kernels"][0]["candidate"] = '[77,[],""]'
    (run / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match="its schedule is none of today's"):
        explain.explain(run, None, 0.1, silent())
