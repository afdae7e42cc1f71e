import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.errors import UserError
from tuner.simulate.recording import FORMAT, find, read

SPACE = Path(__file__).parent / "recorded" / "pnpoly-RTX_3090.json.gz"


def content(**changes: Any) -> dict[str, Any]:
    return {
        "format": FORMAT, "name": "toy", "kernel": "k", "device": "d",
        "params": [{"name": "a", "values": [1, 2, 4]}, {"name": "b", "values": ["x", "y"]}],
        "configs": [[0, 1, 2], [0, 1, 1]],
        "time_ms": [2.0, None, 1.0],
        **changes,
    }  # fmt: skip


def written(folder: Path, data: Any) -> Path:
    path = folder / "toy.json.gz"
    path.write_bytes(gzip.compress(json.dumps(data).encode()))
    return path


def test_what_is_in_a_file(tmp_path: Path) -> None:
    recording = read(written(tmp_path, content()))
    assert len(recording) == 3
    assert recording.parameters == ("a", "b")
    assert recording.values == ((1, 2, 4), ("x", "y"))
    assert recording.seconds[0] == 0.002
    assert math.isnan(recording.seconds[1])
    assert recording.best_s == 0.001
    assert recording.row_of[2, 1] == 2


def test_a_real_one() -> None:
    recording = read(SPACE)
    assert (len(recording), int(np.isnan(recording.seconds).sum())) == (4092, 318)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "replay-space/2"}, "`format` is not"),
        ({"configs": [[0, 1, 2]]}, "shape"),
        ({"configs": [[0, 1, 3], [0, 1, 1]]}, "none of the parameter's values"),
        ({"configs": [[0, 2, 2], [0, 1, 1]]}, "twice"),
        ({"time_ms": [None, None, None]}, "no positive number"),
        ({"time_ms": [1.0, -2.0, 3.0]}, "no positive number"),
        ({"params": 3}, "toy.json.gz"),
        ({"time_ms": ["fast", 1.0, 1.0]}, "toy.json.gz"),
    ],
)
def test_what_is_no_recording_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read(written(tmp_path, content(**changes)))
    assert "toy.json.gz" in str(caught.value)


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    data = content()
    del data["configs"]
    with pytest.raises(UserError, match="no `configs`"):
        read(written(tmp_path, data))


TORN = {
    "empty": b"",
    "not compressed": b"no gzip",
    "half a text": gzip.compress(b"[1, 2"),
    "half a file": gzip.compress(b"{}")[:-6],
}


@pytest.mark.parametrize("raw", TORN.values(), ids=TORN.keys())
def test_a_torn_file_is_a_user_error(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "torn.json.gz"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"torn\.json\.gz"):
        read(path)


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, content())
    monkeypatch.setattr("tuner.simulate.recording._MOST_BYTES", 64)
    with pytest.raises(UserError, match="unpacks to more than"):
        read(path)


def test_files_and_folders(tmp_path: Path) -> None:
    path = written(tmp_path, content())
    assert find([tmp_path, path]) == [path, path]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        find([tmp_path / "empty"])
    with pytest.raises(UserError, match="nowhere"):
        read(find([tmp_path / "nowhere.json.gz"])[0])
