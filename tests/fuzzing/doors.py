"""Every way in for a file that this program did not just write itself: whole specimens, and how they are opened."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
Files = Mapping[str, bytes]


class Refused(Exception):
    """The file was turned down by other means than an exception: ignored, or skipped and counted."""


@dataclass(frozen=True)
class EntryPoint:
    """`files` are the whole specimens by name. `open` is given a folder with all of them, one of which may be
    damaged, and the name of that one; it raises whatever the program does."""

    files: Callable[[], Files]
    open: Callable[[Path, str], None]


# --- the run file ----------------------------------------------------------------------------------


@functools.cache
def _run_files() -> Files:
    return {path.name: path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml"))}


def _open_run_file(folder: Path, name: str) -> None:
    from tuner import config

    found = config.load(str(folder / name))
    assert config.parse(config.to_yaml(found), name) == found


# --- an export ---------------------------------------------------------------------------------------


@functools.cache
def _export_files() -> Files:
    from tuner.export import library

    content = bytes(range(256)) * 4
    spec = {"name": "data/<x>", "shape": [1, 3, 8, 8], "dtype": "float32"}
    manifest = {
        "schema": library.SCHEMA, "model": "small", "library": library.LIBRARY,
        "sha256": hashlib.sha256(content).hexdigest(), "function": "main", "inputs": [spec], "outputs": [spec],
        "target": '{"kind":"llvm"}', "device": "cpu", "threads": 2, "versions": {"apache-tvm": "0.27.0"},
    }  # fmt: skip
    return {
        library.LIBRARY: content,
        library.MANIFEST: json.dumps(manifest, indent=1).encode(),
        library.LOADER: library.LOADER_TEXT.encode(),
    }


def _open_export(folder: Path, name: str) -> None:
    from tuner.export import library

    if (folder / library.LOADER).read_bytes() != _export_files()[library.LOADER]:
        library.verify(folder, [], [], 0, 0)
        raise AssertionError("a changed loader was run")
    manifest = library.read_manifest(folder)
    assert (folder / library.LIBRARY).read_bytes() == _export_files()[library.LIBRARY]
    for spec in (*manifest["inputs"], *manifest["outputs"]):
        np.empty(0, spec["dtype"]).reshape((0, *spec["shape"]))


# --- the record database -----------------------------------------------------------------------------

_COLUMNS = ("measurement", "candidate", "features", "created_at", "task_name", "task_key", "proposer", "trial", "seed")


@functools.cache
def _database() -> bytes:
    import tempfile

    from tests.contracts.record_store import make_record
    from tuner.store import SqlStore

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "records.db")
        with SqlStore(f"sqlite:///{path}") as store:
            store.append([make_record(trial=trial, candidate=_candidate().to_text()) for trial in range(12)])
        return path.read_bytes()


def _candidate() -> Any:
    return _space().from_indices(0, (1, 2, 0, *([0] * (len(_space().sizes(0)) - 3))))


@functools.cache
def _space() -> Any:
    from kernels.space import DesignSpace, Knob, Sketch

    knobs = (
        Knob("spatial", ((1, 1, 4, 16), (4, 1, 4, 4), (1, 4, 1, 16)), 0),
        Knob("reduce", ((8, 1), (4, 2), (2, 4)), 1),
        Knob("choice", (0, 1, 2), 2),
    )
    return DesignSpace("llvm", (Sketch(0, "", knobs),))


def _read_records(path: Path) -> None:
    """What a run, a report and `show --records` do with stored records."""
    from tuner.report import curves, tables
    from tuner.search.base import candidate_of
    from tuner.store import SqlStore
    from tuner.tuning.session import cost_s

    with SqlStore(f"sqlite:///{path}") as store:
        records = store.read()
        skipped = store.quarantined
    for record in records:
        assert np.isfinite(cost_s(record.measurement) + record.measurement.run_s)
        skipped += candidate_of(_space(), record.candidate) is None
    rows = tables.kernels(json.loads(_run_folder()["summary.json"]))
    curves.search_curves(rows, records, "run-1")
    tables.proposer_table(rows, records)
    if skipped:
        raise Refused(f"{skipped} rows")


def _open_database(folder: Path, name: str) -> None:
    _read_records(folder / name)


@functools.cache
def _row_values() -> Files:
    with _connected(_database()) as connection:
        found = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM records WHERE id = 5").fetchone()  # noqa: S608
    return {n: v if isinstance(v, bytes) else str(v).encode() for n, v in zip(_COLUMNS, found, strict=True)}


@contextlib.contextmanager
def _connected(content: bytes) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content.replace(b"format 3\0\x10\0\2\2", b"format 3\0\x10\0\1\1", 1))  # no WAL in memory
        yield connection


def _open_row(folder: Path, name: str) -> None:
    value = (folder / name).read_bytes()
    path = folder / "records.db"
    path.write_bytes(_database())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        kind = {"features": "BLOB", "trial": "NUMERIC", "seed": "NUMERIC"}.get(name, "TEXT")
        connection.execute(f"UPDATE records SET {name} = CAST(? AS {kind}) WHERE id = 5", (value,))  # noqa: S608
        connection.commit()
    _read_records(path)


# --- models ------------------------------------------------------------------------------------------


@functools.cache
def _models() -> Files:
    from onnx import TensorProto, helper

    from tests.tuner.importers import graphs

    external = graphs.model([helper.make_node("Add", ["x", "w"], ["out"])], {"x": [1, 4]}, {"w": np.ones(4, "f4")})
    [tensor] = external.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "data.bin"), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    attention = graphs.model(
        [
            helper.make_node("MatMul", ["x", "q"], ["queries"]),
            helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["queries", "turned"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
            helper.make_node("MatMul", ["weights", "x"], ["mixed"]),
            helper.make_node("LayerNormalization", ["mixed", "scale", "shift"], ["normal"], axis=-1),
            helper.make_node("ConstantOfShape", ["shape"], ["filled"]),
            helper.make_node("Slice", ["filled", "from", "to"], ["cut"]),
            helper.make_node("Add", ["normal", "cut"], ["out"]),
        ],
        {"x": [1, 6, 8]},
        {
            "q": np.ones((8, 8), "f4"), "scale": np.ones(8, "f4"), "shift": np.zeros(8, "f4"), "from": np.array([0]),
            "shape": np.array([2, 8]), "to": np.array([1]),
        },
    )  # fmt: skip
    models = {"conv.onnx": graphs.conv_net(), "attention.onnx": attention, "external.onnx": external}
    return {**{name: model.SerializeToString() for name, model in models.items()}, "data.bin": bytes(16)}


def _open_model(folder: Path, name: str) -> None:
    from tuner import importers

    source = f"onnx:{folder / ('external.onnx' if name == 'data.bin' else name)}"
    for weights in ("random", "original"):
        model = importers.load(source, 1, {}, weights, 0)
        importers.model_inputs(model.inputs, model.model_spec, 0)
        json.dumps([dataclasses.asdict(spec) for spec in model.inputs], allow_nan=False)


@functools.cache
def _cost_models() -> Files:
    import tempfile

    from costmodel.xgb import XgbRanker
    from tests.contracts.cost_model import synthetic

    model = XgbRanker("fuzz/1", rounds=4)
    model.fit(*synthetic(64))
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "model"))
        return {"model.ubj": Path(folder, "model").read_bytes()}


def _open_cost_model(folder: Path, name: str) -> None:
    from costmodel.xgb import XgbRanker
    from tests.contracts.cost_model import synthetic

    model = XgbRanker.load(folder / name, "fuzz/1")
    if model is None:
        raise Refused("ignored")
    assert (folder / name).read_bytes() == _cost_models()[name]
    model.predict(synthetic(4)[0])


# --- the folder of a run -----------------------------------------------------------------------------


@functools.cache
def _run_folder() -> Files:
    from tests.tuner.commands.test_show import SUMMARY

    summary = {
        **SUMMARY, "ceilings": {"peak_flops_per_s": 1e11, "bandwidth_bytes_per_s": 1e10},
        "notes": ["The load average was 0.4 at the start."],
    }  # fmt: skip
    return {
        "summary.json": json.dumps(summary, indent=1).encode(),
        "environment.json": json.dumps({"cpu": "a CPU", "load_average": [0.1, 0.2, 0.3], "smt": None}).encode(),
        "config.yaml": b"model:\n  source: onnx:light_resnet50\nmeasure:\n  database: sqlite://\n",
    }


def _open_run_folder(folder: Path, name: str) -> None:
    """`list`, `show` and the tables of `report`."""
    from tuner import cli, report

    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.redirect_stderr(shown):
        code = cli.main(["list", "--out", str(folder.parent)])
        assert code == 0, shown.getvalue()
        code = cli.main(["show", folder.name, "--records", "--out", str(folder.parent)])
        assert "internal error" not in shown.getvalue(), shown.getvalue()
    report.render(folder, [], ("csv",))
    if code:
        raise Refused(shown.getvalue())


def _open_report(folder: Path, name: str) -> None:
    from tuner import report

    report.render(folder, _records())


def _records() -> list[Any]:
    from tests.contracts.record_store import make_record
    from tuner.records import Measurement, Status

    kernel = json.loads(_run_folder()["summary.json"])["kernels"][0]
    return [
        make_record(
            run_id="r1", trial=trial, task_key=kernel["task"], candidate=f"[{trial}]",
            created_at=f"2026-01-02T03:04:0{trial}+00:00", measurement=Measurement(Status.OK, (0.01 / (trial + 1),)),
        )
        for trial in range(6)
    ]  # fmt: skip


# --- what other machines found ------------------------------------------------------------------------


@functools.cache
def _space_files() -> Files:
    import gzip

    content = {
        "format": "replay-space/1", "name": "toy", "kernel": "toy", "device": "A GPU",
        "params": [{"name": "a", "values": [1, 2, 4]}, {"name": "b", "values": ["x", "y"]}],
        "configs": [[0, 1, 2], [0, 1, 1]], "time_ms": [2.0, None, 1.0],
    }  # fmt: skip
    text = json.dumps(content).encode()
    return {"whole.json.gz": gzip.compress(text, mtime=0), "toy.json": text}


def _open_space(folder: Path, name: str) -> None:
    """A flipped bit of a gzip file is seen by its checksum, so its content is damaged before it is packed as well."""
    import gzip

    from tuner.simulate import recording as recorded

    path = folder / name
    if path.suffix == ".json":
        packed = path.with_suffix(".json.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    found = recorded.read(path)
    assert 0 < found.best_s < np.inf
    assert len(found.row_of) == len(found)


@functools.cache
def _bundle_files() -> Files:
    import tempfile

    from tests.tuner.bundle import small, test_measurements

    with tempfile.TemporaryDirectory() as folder:
        bundle = small.bundle(Path(folder, "b.tar"))
        return {
            "b.tar": bundle.read_bytes(),
            "m.jsonl": test_measurements.written(Path(folder, "m.jsonl")).read_bytes(),
        }


def _open_bundle(folder: Path, name: str) -> None:
    from tuner.bundle import Bundle
    from tuner.bundle.measurements import read_measurements

    if name == "m.jsonl":
        for row in read_measurements(folder / name)[1]:
            assert np.isfinite(row.measurement.run_s)
        return
    with Bundle(folder / name) as bundle:
        for digest in bundle.manifest.blobs:
            assert hashlib.sha256(bundle.blob(digest)).hexdigest() == digest


@functools.cache
def _ceiling_files() -> Files:
    found = {
        "peak_flops_per_s": 1e11, "bandwidth_bytes_per_s": 1e10, "cache_bytes": 1048576, "method": "a loop",
        "peaks": {"float32": 1e11}, "levels": [{"name": "L1", "bytes": 32768, "bytes_per_s": 1e11}],
        "cpu": "a CPU", "threads": 2, "load_before": 0.1, "measured_at": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    return {"ceilings.json": json.dumps(found).encode()}


def _open_ceilings(folder: Path, name: str) -> None:
    from tuner.devices.cpu import machine
    from tuner.progress import Progress

    found = machine.read(folder / name, Progress(stream=io.StringIO()))
    if found is None:
        raise Refused("measured again")
    assert np.isfinite([found["peak_flops_per_s"], found["bandwidth_bytes_per_s"]]).all()


ENTRY_POINTS: Mapping[str, EntryPoint] = {
    "config": EntryPoint(_run_files, _open_run_file),
    "export": EntryPoint(_export_files, _open_export),
    "rows": EntryPoint(_row_values, _open_row),
    "database": EntryPoint(lambda: {"records.db": _database()}, _open_database),
    "onnx": EntryPoint(_models, _open_model),
    "cost model": EntryPoint(_cost_models, _open_cost_model),
    "run folder": EntryPoint(_run_folder, _open_run_folder),
    "report": EntryPoint(_run_folder, _open_report),
    "recorded space": EntryPoint(_space_files, _open_space),
    "bundle": EntryPoint(_bundle_files, _open_bundle),
    "ceilings": EntryPoint(_ceiling_files, _open_ceilings),
}


# --- what the hunt must notice -------------------------------------------------------------------------


def _sample(harm: Callable[[], object]) -> EntryPoint:
    def opened(folder: Path, name: str) -> None:
        if (folder / name).read_bytes() != bytes(64):
            harm()

    return EntryPoint(lambda: {"file": bytes(64)}, opened)


SAMPLES: Mapping[str, EntryPoint] = {
    "bug": _sample(lambda: {}["a bug"]),
    "crash": _sample(lambda: os.kill(os.getpid(), signal.SIGSEGV)),
    "greed": _sample(lambda: bytearray(2 << 30)),
    "hang": _sample(lambda: time.sleep(600)),
}
"""Doors that do harm whenever a file is damaged."""
