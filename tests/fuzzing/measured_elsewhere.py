"""Recorded spaces, bundles and their measurements: whole samples, and how the program opens them."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import numpy as np

from tests.fuzzing.base import Files


@functools.cache
def space_files() -> Files:
    import gzip

    content = {
        "format": "replay-space/1", "name": "toy", "kernel": "toy", "device": "A GPU",
        "params": [{"name": "a", "values": [1, 2, 4]}, {"name": "b", "values": ["x", "y"]}],
        "configs": [[0, 1, 2], [0, 1, 1]], "time_ms": [2.0, None, 1.0],
    }  # fmt: skip
    text = json.dumps(content).encode()
    return {"whole.json.gz": gzip.compress(text, mtime=0), "toy.json": text}


def open_space(folder: Path, name: str) -> None:
    """The checksum of a gzip file shows a flipped bit, so its content is damaged before it is packed as well."""
    import gzip

    from tuner.simulate import recording

    path = folder / name
    if path.suffix == ".json":
        packed = path.with_suffix(".json.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    space = recording.read(path)
    assert 0 < space.best_s < np.inf
    assert len(space.row_of) == len(space)


@functools.cache
def bundle_files() -> Files:
    import tempfile

    from tests.tuner.bundle import small, test_measurements

    with tempfile.TemporaryDirectory() as folder:
        bundle = small.bundle(Path(folder, "b.tar"))
        return {
            "b.tar": bundle.read_bytes(),
            "m.jsonl": test_measurements.written(Path(folder, "m.jsonl")).read_bytes(),
        }


def open_bundle(folder: Path, name: str) -> None:
    from tuner.bundle import Bundle
    from tuner.bundle.measurements import read_measurements

    if name == "m.jsonl":
        for row in read_measurements(folder / name)[1]:
            assert np.isfinite(row.measurement.run_s)
        return
    with Bundle(folder / name) as bundle:
        for digest in bundle.manifest.blobs:
            assert hashlib.sha256(bundle.blob(digest)).hexdigest() == digest
