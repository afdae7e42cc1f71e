"""The run file: what is refused and how, what is filled in, and that the resolved form loads again."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner import cli, schema
from tuner.config import EFFORTS, RunConfig, load, parse, parse_duration, to_yaml
from tuner.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
MODEL = "model: {source: onnx:light_resnet50}\n"

# (what the file says, the path that must be blamed, a word that the error or its hint must hold)
MALFORMED = {
    "empty file": ("", "FILE", "empty"),
    "only a comment": ("# nothing\n", "FILE", "empty"),
    "not a mapping": ("- model\n- target\n", "FILE", "mapping"),
    "plain text": ("resnet50", "FILE", "mapping"),
    "broken YAML": ("model: {source: onnx:x\n", "FILE", "line 2"),
    "a tab": ("model:\n\tsource: onnx:x\n", "FILE", "line 2"),
    "an unsafe tag": ("model: !!python/object/apply:os.system [exit]\n", "FILE", "python/object"),
    "an impossible date": (MODEL + "out: 2026-13-45\n", "FILE", "YAML"),
    "a bad tagged value": (MODEL + "search: {seed: !!timestamp x}\n", "FILE", "YAML"),
    "two documents": (MODEL + "---\n" + MODEL, "FILE", "another document"),
    "a duplicate key": (MODEL + "search:\n  trials: 1\n  trials: 2\n", "FILE", "duplicate key 'trials'"),
    "a duplicate section": (MODEL + MODEL, "FILE", "duplicate key 'model'"),
    "an alias": ("model: &m {source: onnx:x}\ntarget: *m\n", "FILE", "alias"),
    "deep nesting": ("[" * 3000, "FILE", "deep"),
    "a control character": ("model: {source: 'onnx:\x00'}\n", "FILE", "YAML"),
    "no model": ("search: {trials: 4}\n", "model.source", "missing"),
    "an empty model": ("model:\n", "model.source", "missing"),
    "model as text": ("model: onnx:light_resnet50\n", "model", "mapping"),
    "unknown section": (MODEL + "serch: {trials: 4}\n", "serch", "did you mean 'search'?"),
    "unknown key": (MODEL + "search: {trails: 4}\n", "search.trails", "did you mean 'trials'?"),
    "key of another section": (MODEL + "trials: 4\n", "trials", "search.trials"),
    "key that is no text": (MODEL + "search: {1: 4}\n", "search.1", "unknown key"),
    "key that is true": (MODEL + "on: 4\n", "True", "unknown key"),
    "unknown source": ("model: {source: tflite:x}\n", "model.source", "onnx:FILE"),
    "source without prefix": ("model: {source: resnet.onnx}\n", "model.source", "onnx:FILE"),
    "onnx without a file": ("model: {source: 'onnx:'}\n", "model.source", "onnx:FILE"),
    "torch without a callable": ("model: {source: torch:configs.models}\n", "model.source", "callable"),
    "torch with code": ("model: {source: 'torch:os:system(1)'}\n", "model.source", "callable"),
    "source as a number": ("model: {source: 5}\n", "model.source", "in quotes"),
    "batch zero": ("model: {source: onnx:x, batch: 0}\n", "model.batch", "from 1"),
    "batch negative": ("model: {source: onnx:x, batch: -4}\n", "model.batch", "from 1"),
    "batch as text": ("model: {source: onnx:x, batch: '4'}\n", "model.batch", "whole number"),
    "batch as a fraction": ("model: {source: onnx:x, batch: 1.5}\n", "model.batch", "whole number"),
    "batch as a flag": ("model: {source: onnx:x, batch: true}\n", "model.batch", "whole number"),
    "a shape that is no list": ("model: {source: onnx:x, inputs: {a: 4}}\n", "model.inputs.a", "list"),
    "inputs as a list": ("model: {source: onnx:x, inputs: [1, 2]}\n", "model.inputs", "mapping"),
    "a negative extent": ("model: {source: onnx:x, inputs: {a: [1, -1]}}\n", "model.inputs.a", "at least 0"),
    "a huge shape": ("model: {source: onnx:x, inputs: {a: [65536, 65536]}}\n", "model.inputs.a", "2^31"),
    "an extent as text": ("model: {source: onnx:x, inputs: {a: [1, N]}}\n", "model.inputs.a[1]", "whole number"),
    "a range of sizes": (
        "model: {source: 'llvm:x.c', sizes: {n: 64..512}}\n",
        "model.sizes.n",
        "model.shapes: [{n: 64}",
    ),
    "a list of sizes": ("model: {source: 'llvm:x.c', sizes: {n: [64]}}\n", "model.sizes.n", "one whole number"),
    "a negative size": ("model: {source: 'llvm:x.c', sizes: {n: -1}}\n", "model.sizes.n", "from 0"),
    "unknown weights": ("model: {source: onnx:x, weights: trained}\n", "model.weights", "random, original"),
    "target as a number": (MODEL + "target: 5\n", "target", "mapping"),
    "target with a date in it": (MODEL + "target: {kind: llvm, mcpu: 2026-01-01}\n", "target.spec.mcpu", "text"),
    "no threads": (MODEL + "target: {spec: llvm, threads: 0}\n", "target.threads", "from 1"),
    "unknown layout": (MODEL + "passes: {layouts: [NCWH]}\n", "passes.layouts[0]", "did you mean 'NCHW'?"),
    "no layout": (MODEL + "passes: {layouts: []}\n", "passes.layouts", "at least one"),
    "layout as text": (MODEL + "passes: {layouts: NCHW}\n", "passes.layouts", "list"),
    "a layout twice": (MODEL + "passes: {layouts: [NCHW, NCHW]}\n", "passes.layouts", "once"),
    "unknown pass": (MODEL + "passes: {kernel: [unrol]}\n", "passes.kernel[0]", "did you mean 'unroll'?"),
    "a senseless depth": (MODEL + "passes: {fusion_depths: [-2]}\n", "passes.fusion_depths[0]", "from -1"),
    "fast math not listed": (MODEL + "passes: {fast_math: true, kernel: [cse]}\n", "passes.fast_math", "passes.kernel"),
    "fast math as text": (MODEL + "passes: {fast_math: 'yes'}\n", "passes.fast_math", "true or false"),
    "unknown strategy": (MODEL + "search: {strategy: randm}\n", "search.strategy", "did you mean 'random'?"),
    "unknown effort": (MODEL + "search: {effort: fast}\n", "search.effort", "quick"),
    "no trials": (MODEL + "search: {trials: 0}\n", "search.trials", "from 1"),
    "trials as text": (MODEL + "search: {trials: many}\n", "search.trials", "whole number"),
    "no time": (MODEL + "search: {time_budget: 0}\n", "search.time_budget", "duration"),
    "negative time": (MODEL + "search: {time_budget: -10m}\n", "search.time_budget", "duration"),
    "an unknown unit": (MODEL + "search: {time_budget: 10min}\n", "search.time_budget", "10m"),
    "endless time": (MODEL + "search: {time_budget: .inf}\n", "search.time_budget", "30 days"),
    "time that is no number": (MODEL + "search: {time_budget: .nan}\n", "search.time_budget", "duration"),
    "the field's name": (MODEL + "search: {time_budget_s: 5}\n", "search.time_budget_s", "time_budget"),
    "negative seed": (MODEL + "search: {seed: -1}\n", "search.seed", "from 0"),
    "a huge seed": (MODEL + f"search: {{seed: {10**30}}}\n", "search.seed", "from 0"),
    "no early stop": (MODEL + "search: {early_stop: 0}\n", "search.early_stop", "from 1"),
    "search as a list": (MODEL + "search: [1]\n", "search", "mapping"),
    "no workers": (MODEL + "measure: {workers: 0}\n", "measure.workers", "from 1"),
    "no timeout": (MODEL + "measure: {run_timeout: 0s}\n", "measure.run_timeout", "duration"),
    "unknown mode": (MODEL + "measure: {mode: warm}\n", "measure.mode", "model, hot, cold"),
    "a database that is no URL": (MODEL + "measure: {database: records.db}\n", "measure.database", "URL"),
    "unknown baseline": (MODEL + "baselines: {models: [onnx]}\n", "baselines.models[0]", "onnxruntime"),
    "baselines as a flag": (MODEL + "baselines: {kernels: 1}\n", "baselines.kernels", "true or false"),
    "unknown format": (MODEL + "report: {formats: [pdf]}\n", "report.formats[0]", "html"),
    "unknown export key": (MODEL + "export: {enable: true}\n", "export.enable", "did you mean 'enabled'?"),
    "no folder": (MODEL + "out: ''\n", "out", "folder"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused_with_its_path(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, path, word = MALFORMED[name]
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(file))
    assert caught.value.path == path.replace("FILE", str(file))
    assert word in str(caught.value)
    assert len(str(caught.value)) < 1000

    assert cli.main(["run", str(file)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err


def test_files_that_cannot_be_a_run_file(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text(MODEL + "#" * 1_000_000)
    (tmp_path / "latin.yaml").write_bytes("model: {source: onnx:modèle}".encode("latin-1"))
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "resnet.yaml").write_text(MODEL)
    words = {
        "big.yaml": "bytes", "latin.yaml": "UTF-8", "pipe.yaml": "regular file", ".": "regular file",
        "resnt.yaml": "resnet.yaml?", "nowhere/a.yaml": "no such file", "a\x00b": "no such file",
    }  # fmt: skip
    for name, word in words.items():
        path = str(tmp_path / name) if "\x00" not in name else name
        with pytest.raises(ConfigError, match=word.replace("?", r"\?")) as caught:
            load(path)
        assert caught.value.path == path


def test_defaults_are_the_dataclasses_own() -> None:
    config = parse(MODEL, "run.yaml")
    assert config == RunConfig(config.model)
    assert config.search.trials is None
    assert config.search.time_budget_s == 600


def test_the_reference_names_every_key_with_its_default() -> None:
    reference = load(str(CONFIGS / "reference.yaml"))
    assert reference == RunConfig(reference.model)
    lines = (CONFIGS / "reference.yaml").read_text().splitlines()
    said = {line.split("#")[0].strip().partition(":")[0] for line in lines}
    assert {path.rpartition(".")[2] for path in schema.paths(RunConfig)} <= said


@pytest.mark.parametrize(
    "file", sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "nightly.yaml"}), ids=lambda file: file.stem
)
def test_shipped_files_load_and_round_trip(file: Path) -> None:
    config = load(str(file))
    text = to_yaml(config)
    assert parse(text, "again") == config
    assert "#" not in text


@pytest.mark.parametrize(
    "text",
    [
        "target: {kind: llvm, mcpu: znver4, mattr: [+avx2], 'num-cores': 2}",
        "target: {spec: {tag: nvidia/nvidia-h100}, threads: 3}",
        "target: cuda",
        "search: {effort: quick, trials: 7, time_budget: 1h30m, strategy: cmaes}",
        "passes: {kernel: [], layouts: [NCHW, NHWC], fusion_depths: [0, 4]}",
        "search:\ntarget:\nbaselines: {models: []}",
        "out: '2026'",
        "measure: {build_timeout: 0.25, workers: 3}",
    ],
)
def test_what_is_resolved_loads_again(text: str) -> None:
    config = parse(MODEL + text, "run.yaml")
    assert parse(to_yaml(config), "again") == config


def test_a_target_may_stand_directly_under_target() -> None:
    assert parse(MODEL + "target: {kind: llvm}", "x").target.spec == {"kind": "llvm"}
    assert parse(MODEL + "target: llvm", "x").target.spec == "llvm"


def test_effort_fills_in_only_what_nothing_else_sets() -> None:
    text = MODEL + "search: {effort: quick, early_stop: 5}"
    search = parse(text, "x", {"search.time_budget": "2m"}).search
    assert (search.time_budget_s, search.early_stop, search.trials) == (120, 5, EFFORTS["quick"].trials)
    by_flag = parse(text, "x", {"search.effort": "thorough"}).search
    assert (by_flag.time_budget_s, by_flag.early_stop) == (EFFORTS["thorough"].time_budget_s, 5)


def test_overrides_beat_the_file_and_are_checked_like_it() -> None:
    text = MODEL + "target: {kind: llvm}\nsearch: {trials: 5, seed: 1}\nout: here"
    config = parse(text, "x", {"search.trials": "auto", "target.spec": "cuda", "out": "there", "measure.workers": 2})
    assert (config.search.trials, config.search.seed, config.out) == (None, 1, "there")
    assert (config.target.spec, config.measure.workers) == ("cuda", 2)
    with pytest.raises(ConfigError, match="from 1") as caught:
        parse(text, "x", {"search.trials": 0})
    assert caught.value.path == "search.trials"
    with pytest.raises(ConfigError, match="did you mean"):
        parse(text, "x", {"search.trails": 4})
    with pytest.raises(ConfigError, match="search: expected a mapping"):
        parse(MODEL + "search: 5", "x", {"search.trials": 4})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("90s", 90), ("1h", 3600), ("1h30m", 5400), ("1.5h", 5400), ("600", 600), (600, 600), (0.5, 0.5)],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "10 m", "10x", "-5s", "1m2", "1e3", None, True, [], 0, -1, 10**400, "9" * 400]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ConfigError):
        parse_duration(text, "search.time_budget")


def test_passes_and_baselines_are_the_ones_that_exist() -> None:
    from kernels.passes import PASSES

    assert parse(MODEL, "x").passes.kernel == tuple(PASSES)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse(MODEL, "x").search.seed = 3  # type: ignore[misc]


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
_DATA = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
_KEYS = st.sampled_from(sorted(schema.paths(RunConfig)))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(_KEYS, _DATA, max_size=3))
def test_any_value_anywhere_gives_a_config_or_a_config_error(values: dict[str, Any]) -> None:
    try:
        config = parse(MODEL, "x", values)
    except ConfigError as error:
        assert error.path
    else:
        assert parse(to_yaml(config), "again") == config


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gives_a_config_or_a_config_error(text: str) -> None:
    for document in (text, MODEL + text):
        try:
            parse(document, "x")
        except ConfigError as error:
            assert error.path
