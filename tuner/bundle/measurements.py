"""The file that `measure` writes and `import` reads: JSON lines, the first one a header. It may come from anyone."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tuner.bundle.archive import is_bundle
from tuner.bundle.manifest import Digest, Key, Text
from tuner.errors import BundleError, ConfigError, OutputError
from tuner.records import PROTOCOL_VERSION, Conditions, Fidelity, Measurement, Status
from tuner.schema import read

FORMAT = 1
MAX_FILE_BYTES = 1 << 30
MAX_LINE_BYTES = 4 << 20
MAX_CONDITIONS = 64

_WRITTEN_BY = "give the file that `python -m tuner measure` wrote"

_STATUSES = tuple(status.value for status in Status)
_StatusName = Annotated[str, lambda value: "" if value in _STATUSES else f"one of {', '.join(_STATUSES)}"]
Count = Annotated[int, lambda value: "" if 0 <= value < 2**63 else "a count"]


@dataclass(frozen=True)
class TaskKernels:
    """How many kernels of a task a bundle has."""

    key: Key
    name: Text
    kernels: Count


@dataclass(frozen=True)
class Header:
    """Which bundle was measured, by what runner (`cuda`, `replay`), and on which devices when it began. `tasks` says
    what is to be measured; earlier versions did not."""

    format: int
    bundle_sha256: Digest
    target: Text
    mode: Literal["hot", "cold"]
    protocol: int
    runner: Text
    devices: tuple[Text, ...] = ()
    tasks: tuple[TaskKernels, ...] = ()


@dataclass(frozen=True)
class Row:
    """One measurement of one item, on `device`. `created_at` is ISO 8601."""

    task: Key
    task_name: Text
    candidate: Text
    proposer: Text
    seed: Count
    device: Text
    created_at: Text
    measurement: Measurement

    @property
    def key(self) -> tuple[str, str, Fidelity]:
        """What there is one row of: task, candidate and fidelity."""
        return self.task, self.candidate, self.measurement.fidelity


@dataclass(frozen=True)
class _Measured:
    """A Measurement as its line holds it: times in seconds, null for None."""

    status: _StatusName
    fidelity: Literal["screen", "rank", "certify"]
    samples_s: tuple[float, ...] = ()
    stopped_by: str = ""
    reason: str = ""
    censored_at_s: float | None = None
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    build_s: float = 0.0
    run_s: float = 0.0
    conditions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Line:
    """A Row as its line holds it."""

    task: Key
    task_name: Text
    candidate: Text
    proposer: Text
    seed: Count
    device: Text
    created_at: Text
    measurement: _Measured


class Writer:
    """Appends rows to a file, each on disk before the next is measured. A file that is there already is continued.

    `done` holds the rows that are in it. The file is this writer's alone until it is closed, or this process dies.
    Raises BundleError when the rows are of another bundle, and OutputError, also where another writer has the file.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self.done: list[Row] = []
        try:
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}", "choose another with -o") from error
        try:
            self._begin(header)
        except BaseException:
            self._file.close()
            raise

    def _begin(self, header: Header) -> None:
        path = self._path
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._file.tell():
                earlier, self.done, whole = _read(path)
                if (earlier.bundle_sha256, earlier.runner) != (header.bundle_sha256, header.runner):
                    raise BundleError(str(path), f"holds measurements of bundle {earlier.bundle_sha256[:12]} by "
                                      f"{earlier.runner}, this is {header.bundle_sha256[:12]} by {header.runner}",
                                      "choose another file with -o")  # fmt: skip
                os.truncate(path, whole)  # an incomplete last line, e.g. after a power failure, is measured again
        except BlockingIOError as error:
            raise OutputError(f"{path}: another `measure` is writing to it",
                              "wait until it ends, or choose another file with -o") from error  # fmt: skip
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}", "choose another with -o") from error
        if self._file.tell() == 0:
            self._append(_header_data(header))

    def add(self, row: Row) -> None:
        """Append a row, and wait until it is on disk. Raises OutputError."""
        data = {name: getattr(row, name) for name in _Line.__dataclass_fields__ if name != "measurement"}
        self._append({**data, "measurement": _measurement_data(row.measurement)})

    def close(self) -> None:
        self._file.close()

    def _append(self, data: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(data, separators=(",", ":"), allow_nan=False) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(
                f"{self._path}: cannot be written: {error.strerror}", "what was written is kept"
            ) from error


def read_measurements(path: Path, check_candidate: Callable[[str], object] = str) -> tuple[Header, list[Row]]:
    """Everything in the file, in order. `check_candidate` raises ValueError for a text that is no candidate.

    An incomplete last line is left out. Raises BundleError, naming the line, for anything else that `Writer` does not
    write.
    """
    header, rows, _ = _read(path, check_candidate)
    if header.protocol != PROTOCOL_VERSION:
        raise BundleError(str(path), f"measured by protocol {header.protocol}, this program's is {PROTOCOL_VERSION}",
                          "measure the bundle again with this version")  # fmt: skip
    return header, rows


def what_is_missing(path: Path, header: Header, rows: Sequence[Row]) -> list[str]:
    """Sentences about what a file of measurements has not, and a whole one has; none where nothing is missing."""
    sentences = []
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            sentences.append("the last line is cut off, and left out")
    screened = Counter(task for task, _, fidelity in {row.key for row in rows} if fidelity is Fidelity.SCREEN)
    wanted = sum(task.kernels for task in header.tasks)
    lacking = [(task.name, task.kernels - screened[task.key]) for task in header.tasks]
    if any(count > 0 for _, count in lacking):
        names = ", ".join(f"{count} of {name}" for name, count in lacking if count > 0)
        sentences.append(f"{screened.total()} of {wanted} kernels of the bundle were screened; missing: {names}")
    timed = {row.task: row.task_name for row in rows if row.measurement.ok}
    certified = {row.task for row in rows if row.measurement.fidelity is Fidelity.CERTIFY}
    if uncertified := [name or key for key, name in timed.items() if key not in certified]:
        sentences.append(f"no time was certified of: {', '.join(uncertified)}")
    if sentences:
        sentences.append("what is missing is measured when `measure` is started again with the same file")
    return sentences


def _read(path: Path, check_candidate: Callable[[str], object] = str) -> tuple[Header, list[Row], int]:
    """Header, rows, and how many bytes of whole lines there are."""
    try:
        if path.is_dir():
            raise BundleError(str(path), "a folder, and no file of measurements", _WRITTEN_BY)
        if is_bundle(path):
            raise BundleError(str(path), "a bundle, and no measurements", f"python -m tuner measure {path}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BundleError(str(path), f"over {MAX_FILE_BYTES >> 30} GiB; this is no file of measurements")
        header, rows, whole, number = None, [], 0, 0
        with open(path, "rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                where = f"{path}, line {number}"
                if len(line) > MAX_LINE_BYTES:
                    raise BundleError(where, "far too long")
                if not line.endswith(b"\n"):
                    break
                data = _parse(line, where)
                if header is None:
                    header = _header(data, where)
                else:
                    rows.append(_row(data, where, check_candidate))
                whole += len(line)
    except OSError as error:
        raise BundleError(str(path), f"cannot be read: {error.strerror}") from error
    if header is None:
        raise BundleError(str(path), "holds no measurements", _WRITTEN_BY)
    return header, rows, whole


def _parse(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BundleError(where, "not JSON", _WRITTEN_BY) from error


def _header(data: Any, where: str) -> Header:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BundleError(where, "not the header of a file of measurements, or of another version's",
                          _WRITTEN_BY)  # fmt: skip
    return _checked(Header, data, where)  # type: ignore[no-any-return]


def _row(data: Any, where: str, check_candidate: Callable[[str], object]) -> Row:
    line: _Line = _checked(_Line, _renamed(data), where)
    measured = line.measurement
    if len(measured.conditions) > MAX_CONDITIONS:
        raise BundleError(where, f"{len(measured.conditions)} conditions")
    try:
        check_candidate(line.candidate)
        fields = {name: getattr(measured, name) for name in _Measured.__dataclass_fields__}
        fields |= {
            "status": Status(measured.status), "fidelity": Fidelity(measured.fidelity),
            "conditions": Conditions.from_json(measured.conditions),
        }  # fmt: skip
        measurement = Measurement(**fields)
    except ValueError as error:
        raise BundleError(where, str(error)) from error
    same = {name: getattr(line, name) for name in _Line.__dataclass_fields__}
    return Row(**{**same, "measurement": measurement})


def _renamed(data: Any) -> Any:
    """A row as earlier versions wrote it, in today's names."""
    measurement = data.get("measurement") if isinstance(data, dict) else None
    if not isinstance(measurement, dict) or "tier" not in measurement:
        return data
    return {**data, "measurement": {"fidelity" if n == "tier" else n: value for n, value in measurement.items()}}


def _checked(kind: Any, data: Any, where: str) -> Any:
    try:
        return read(kind, data)
    except ConfigError as error:
        raise BundleError(where, error.message) from error
    except RecursionError as error:
        raise BundleError(where, "nested too deeply") from error


def _header_data(header: Header) -> dict[str, Any]:
    return dataclasses.asdict(header)


def _measurement_data(measurement: Measurement) -> dict[str, Any]:
    """As `tuner.schema` reads it: no `_s` at the end of a name, and only numbers that JSON has."""
    data = {name: getattr(measurement, name) for name in _Measured.__dataclass_fields__}
    data["conditions"] = _stripped(measurement.conditions.to_json())
    return {name.removesuffix("_s"): _finite(value) for name, value in data.items()}


def _stripped(value: Any) -> Any:
    """Without what is None or not finite."""
    if isinstance(value, Mapping):
        return {str(key): _stripped(item) for key, item in value.items() if _finite(item) is not None}
    return (
        [_stripped(item) for item in value if _finite(item) is not None] if isinstance(value, list | tuple) else value
    )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
