"""Records as rows and back. A row that cannot be understood raises one of `DAMAGE`; nothing is guessed."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Mapping
from typing import Any

from tuner.records import Measurement, Record, text

DAMAGE = (ValueError, TypeError, KeyError, ArithmeticError, RecursionError, struct.error)
"""What decoding raises on a row that is not one of ours."""


def encode(record: Record) -> dict[str, Any]:
    """A row. Not-a-number and infinity are spelled as Python's json module does. Raises ValueError for a NUL in a text,
    which not every database can hold."""
    row = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    for name, value in row.items():
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{name} holds a NUL character: {value[:80]!r}")
    measurement = record.measurement.to_json()
    samples = measurement.pop("samples_s")
    row["measurement"] = json.dumps(measurement)
    row["samples"] = struct.pack(f"<{len(samples)}d", *samples)
    row["features"] = struct.pack(f"<{len(record.features)}f", *record.features)
    return row


def decode(row: Mapping[Any, Any]) -> Record:
    """The record of a row of this schema, or of schema 1, whose samples stand in the JSON."""
    features = bytes(memoryview(row["features"]))
    stated = json.loads(text(row["measurement"]))
    if "samples" in row:
        samples = bytes(memoryview(row["samples"]))
        stated = stated | {"samples_s": struct.unpack(f"<{len(samples) // 8}d", samples)}
    return Record(
        run_id=text(row["run_id"]),
        task_key=text(row["task_key"]),
        task_name=text(row["task_name"]),
        scope=text(row["scope"]),
        trial=_whole(row["trial"]),
        candidate=text(row["candidate"]),
        proposer=text(row["proposer"]),
        measurement=Measurement.from_json(stated),
        seed=_whole(row["seed"]),
        created_at=text(row["created_at"]),
        features=struct.unpack(f"<{len(features) // 4}f", features),
    )


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a whole number expected, got {type(value).__name__}")
    return value
