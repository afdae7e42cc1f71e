"""Records as rows and back. A row that cannot be understood raises one of `DAMAGE`; nothing is guessed."""

from __future__ import annotations

import functools
import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

from tuner.records import Measurement, Record, require_text
from tuner.store import migration

DAMAGE = (ValueError, TypeError, KeyError, ArithmeticError, RecursionError, struct.error)
"""The errors that decoding raises on a row that this program cannot have written."""

_SAME = (
    "run_id", "task_key", "task_name", "scope", "trial", "candidate", "proposer", "seed", "created_at", "environment",
)  # fmt: skip
"""Fields of a record that are columns of the same name and value."""


def encode(record: Record) -> dict[str, Any]:
    """The row of a record. Not-a-number and infinity are spelled as Python's json module does.

    Raises ValueError for a NUL in a text, which not every database can hold.
    """
    row = {name: getattr(record, name) for name in _SAME}
    row["git_commit"] = record.commit
    for name, value in row.items():
        refuse_nul(name, value)
    measurement = record.measurement.to_json()
    samples = measurement.pop("samples_s")
    row["measurement"] = json.dumps(measurement)
    row["samples"] = struct.pack(f"<{len(samples)}d", *samples)
    row["features"] = struct.pack(f"<{len(record.features)}f", *record.features)
    row["columns_id"] = columns_id(record.columns) if record.columns else None
    return row


def decode(row: Mapping[Any, Any], columns: Mapping[object, tuple[str, ...]]) -> Record:
    """The record of a row of any schema. `columns` are the stored names of features by their id.

    Where the names are not there, the record has its features without names.
    """
    packed = bytes(memoryview(row["features"]))
    features = struct.unpack(f"<{len(packed) // 4}f", packed)
    data = json.loads(require_text(row["measurement"]))
    if "samples" in row:  # in schema 1 they are in the JSON
        samples = bytes(memoryview(row["samples"]))
        data["samples_s"] = struct.unpack(f"<{len(samples) // 8}d", samples)
    if "columns_id" in row:
        names = columns.get(row["columns_id"], ())
        environment, commit = require_text(row["environment"]), require_text(row["git_commit"])
    else:  # schema 1 or 2
        names = migration.COLUMNS if len(features) == migration.FEATURES else ()
        environment = commit = ""
    return Record(
        run_id=require_text(row["run_id"]),
        task_key=require_text(row["task_key"]),
        task_name=require_text(row["task_name"]),
        scope=require_text(row["scope"]),
        trial=_require_integer(row["trial"]),
        candidate=require_text(row["candidate"]),
        proposer=require_text(row["proposer"]),
        measurement=Measurement.from_json(data),
        seed=_require_integer(row["seed"]),
        created_at=require_text(row["created_at"]),
        features=features,
        columns=names,
        environment=environment,
        commit=commit,
    )


@functools.lru_cache(maxsize=64)
def columns_id(names: tuple[str, ...]) -> str:
    """The id under which names of features are stored: 16 hexadecimal digits over them. Must never change."""
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]


def decode_columns(row: Mapping[Any, Any]) -> tuple[str, ...]:
    """The names of features in a row of `feature_columns`, which must have the id that belongs to them."""
    names = tuple(map(require_text, json.loads(require_text(row["names"]))))
    if columns_id(names) != row["id"]:
        raise ValueError("the names are not those of their id")
    return names


def decode_facts(facts: object) -> dict[str, Any]:
    """The facts of a row of `environments`."""
    data = json.loads(require_text(facts))
    if not isinstance(data, dict):
        raise TypeError(f"an object expected, got {type(data).__name__}")
    return data


def refuse_nul(name: str, value: object) -> None:
    """Raises ValueError for a text with a NUL character."""
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{name} holds a NUL character: {value[:80]!r}")


def _require_integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"an integer expected, got {type(value).__name__}")
    return value
