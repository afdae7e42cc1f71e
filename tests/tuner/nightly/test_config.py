"""The file of a night: what is refused, and what a cell's run file becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner import config as config_file
from tuner import strict_yaml
from tuner.errors import ConfigError
from tuner.nightly.config import load, parse, run_document
from tuner.nightly.keys import key_of
from tuner.nights import CellKind

ROOT = Path(__file__).resolve().parents[3]
CELL = "cells: [{name: a, run: configs/smoke.yaml}]\n"


def test_the_default_night_is_read_and_every_cell_of_it_has_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load("configs/nightly.yaml")
    assert len(config.cells) > 5 and config.budget_s <= 3600
    models = sum(cell.budget_s for cell in config.cells if cell.kind == "model")
    assert models <= 1800
    keys = [key_of(cell)[0] for cell in config.cells]
    assert len({key.id for key in keys}) == len(keys)
    assert {key.kind for key in keys} == set(CellKind)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cells"),
        ("[]", "cells"),
        ("cells: []", "at least one"),
        ("cells: [{name: a}]", "run file"),
        ("cells: [{name: 'a b', run: x}]", "letters"),
        ("cells: [{name: ../a, run: x}]", "letters"),
        ("cells: [{name: a, run: x}, {name: a, run: y}]", "names two cells"),
        ("cells: [{name: a, kind: space, run: x}]", "file `space`"),
        ("cells: [{name: a, run: x, space: y}]", "no `space`"),
        ("cells: [{name: a, run: x, baseline: [torch]}]", "did you mean"),
        ("cells: [{name: a, run: x, baselines: [tensorrt]}]", "baselines"),
        ("cells: [{name: a, kind: space, space: x, seeds: 1}]", "seeds"),
        ("cells: [{name: a, kind: kernel, run: x, strategy: tpe}]", "cell a: strategy: a cell of kind `kernel` has no"),
        ("cells: [{name: a, run: x, evaluations: 5}]", "evaluations"),
        ("cells: [{name: a, kind: kernel, run: x, seeds: 5}]", "seeds"),
        ("cells: [{name: a, kind: space, space: x, set: {a.b: 1}}]", "has no `set`"),
        ("cells: [{name: a, kind: space, space: x, budget: 9s}]", "has no `budget`"),
        ("cells: [{name: a, kind: space, space: x, baselines: [torch]}]", "has no `baselines`"),
        ("cells: [{name: a, run: x, set: {search.seed: 1}}]", "write the cell's `seed`"),
        ("cells: [{name: a, run: x, set: {out: x}}]", "set.out"),
        ("cells: [{name: a, run: x, set: {search: {trials: 5}}}]", "search.KEY"),
        ("cells: [5]", "number 1"),
        ("cells: 5", "cells"),
        ("cells: [{name: a, kind: kernal, run: x}]", "did you mean 'kernel'"),
        (f"{CELL}budget: never", "budget"),
        (f"{CELL}searches: 0", "searches"),
        (f"{CELL}databse: x", "database"),
        (f"{CELL}database: x", "URL"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text, "night.yaml")
    assert words in str(refused.value) and "night.yaml" in refused.value.message


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        parse("cells: [{name: a, run: x, seeds: 5}, {name: b, run: x}, {name: c, kind: space}]", "night.yaml")
    first, *rest = refused.value.message.splitlines()
    assert first == "night.yaml: 2 things are wrong, and nothing was measured"
    assert [line.partition(": ")[0] for line in rest] == ["  cell a", "  cell c"]


def test_a_cells_run_file_is_its_authors_with_what_a_night_changes(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("model: {source: 'onnx:x', batch: 2}\ntarget: llvm\nsearch: {trials: 9}\nout: elsewhere\n")
    cell = parse(f"cells: [{{name: a, run: {file}, budget: 7s, set: {{target.threads: 1}}}}]", "n").cells[0]
    document = run_document(cell, "sqlite:///r.db", 5)
    config = config_file.parse(strict_yaml.dump(document), "m")
    assert (config.model.batch, config.search.trials, config.target.threads) == (2, 9, 1)
    assert (config.search.time_budget_s, config.search.seed, config.search.reuse) == (7.0, 5, False)
    assert (config.measure.database, config.baselines.models, config.out) == ("sqlite:///r.db", (), "results/runs")


def test_another_run_file_is_another_cell_and_another_device_is_not(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    cell = parse(f"cells: [{{name: a, run: {file}, set: {{target.threads: 1}}}}]", "n").cells[0]
    file.write_text("model: {source: 'onnx:light_squeezenet'}\n")
    first, why = key_of(cell)
    assert why == "" and first.device.endswith(", 1 threads")
    assert key_of(cell)[0].id == first.id
    file.write_text("model: {source: 'onnx:light_squeezenet', batch: 2}\n")
    assert key_of(cell)[0].id != first.id
    assert first.from_json(first.to_json() | {"device": "other"}).id == first.id


def test_a_cell_without_its_device_is_missing() -> None:
    cell = parse("cells: [{name: a, run: configs/smoke.yaml, set: {target.spec: cuda}}]", "n").cells[0]
    key, why = key_of(cell)
    if why:  # no GPU here
        assert "cuda" in why and key.device == ""
