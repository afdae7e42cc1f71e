"""Records as rows and back. A row that cannot be understood raises one of `DAMAGE`; nothing is guessed."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Mapping
from typing import Any

from tuner.records import Measurement, Record, Status, Tier

DAMAGE = (ValueError, TypeError, KeyError, ArithmeticError, RecursionError, struct.error)
"""What decoding raises on a row that is not one of ours."""


def encode(record: Record) -> dict[str, Any]:
    """A row. Not-a-number and infinity are spelled as Python's json module does. Raises ValueError for a NUL in a text,
    which not every database can hold."""
    row = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    for name, value in row.items():
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{name} holds a NUL character: {value[:80]!r}")
    measurement = {f.name: getattr(record.measurement, f.name) for f in dataclasses.fields(Measurement)}
    samples = measurement.pop("samples_s")
    measurement["conditions"] = dict(measurement["conditions"])
    row["measurement"] = json.dumps(measurement)
    row["samples"] = struct.pack(f"<{len(samples)}d", *samples)
    row["features"] = struct.pack(f"<{len(record.features)}f", *record.features)
    return row


def decode(row: Mapping[Any, Any]) -> Record:
    """The record of a row of this schema, or of schema 1, whose samples stand in the JSON."""
    features = bytes(memoryview(row["features"]))
    stated = json.loads(_text(row["measurement"]))
    if "samples" in row:
        samples = bytes(memoryview(row["samples"]))
        stated = stated | {"samples_s": struct.unpack(f"<{len(samples) // 8}d", samples)}
    return Record(
        run_id=_text(row["run_id"]),
        task_key=_text(row["task_key"]),
        task_name=_text(row["task_name"]),
        scope=_text(row["scope"]),
        trial=_whole(row["trial"]),
        candidate=_text(row["candidate"]),
        proposer=_text(row["proposer"]),
        measurement=_measurement(stated),
        seed=_whole(row["seed"]),
        created_at=_text(row["created_at"]),
        features=struct.unpack(f"<{len(features) // 4}f", features),
    )


def _measurement(stated: Mapping[str, Any]) -> Measurement:
    return Measurement(
        status=Status(stated["status"]),
        samples_s=tuple(_number(sample) for sample in stated["samples_s"]),
        tier=Tier(stated["tier"]),
        stopped_by=_text(stated["stopped_by"]),
        reason=_text(stated["reason"]),
        censored_at_s=_number_or_none(stated["censored_at_s"]),
        max_abs_error=_number_or_none(stated["max_abs_error"]),
        max_rel_error=_number_or_none(stated["max_rel_error"]),
        build_s=_number(stated["build_s"]),
        run_s=_number(stated["run_s"]),
        conditions=dict(stated["conditions"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, got {type(value).__name__}")
    value.encode()  # refuses the stand-ins for bytes that are no UTF-8
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a whole number expected, got {type(value).__name__}")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a number expected, got {type(value).__name__}")
    return float(value)


def _number_or_none(value: object) -> float | None:
    return None if value is None else _number(value)
