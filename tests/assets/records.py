"""What the stored databases of this folder hold, and how `records-v3.db` was made: `python -m tests.assets.records`.

`records-v1.db` and `records-v2.db` were written in the same way by the program of their time.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.contracts.record_store import make_record
from tuner.records import Conditions, Measurement, Record, Status
from tuner.store import SCHEMA_VERSION, SqlStore

ASSETS = Path(__file__).parent
FACTS = {"cpu": "a CPU", "cores_usable": 2, "packages": {"numpy": "2.0.0"}, "smt": None}

STORED = [status for status in Status if status is not Status.DEFERRED]
"""The outcomes that records have; what is deferred is not stored."""


def expected(version: int) -> list[Record]:
    """The records in `records-v{version}.db`: one of each status, in two runs."""
    records = []
    for number, status in enumerate(STORED):
        ok = status is Status.OK
        measurement = Measurement(
            status,
            (1.25e-3, 1.5e-3, 1 / 3) if ok else (),
            reason="" if ok else "because",
            censored_at_s=0.25 if status is Status.CENSORED else None,
            conditions=Conditions.from_json({"cost_s": 0.5, "load": 0.25}),
        )
        record = make_record(run_id=f"run-{number % 2}", trial=number, measurement=measurement)
        if version < 3:
            record = dataclasses.replace(record, columns=(), environment="", commit="")
        elif number % 3 == 1:
            record = dataclasses.replace(record, columns=("store.max.0", "pass.unroll", "pass.vectorize"))
        elif number % 3 == 2:
            record = dataclasses.replace(record, features=(), columns=())
        records.append(record)
    return records


def write(path: Path) -> None:
    """Make the stored database of today's schema."""
    records = expected(SCHEMA_VERSION)
    with SqlStore(f"sqlite:///{path}") as store:
        store.add_environment(records[0].environment, FACTS)
        store.append(records)
        for run_id in sorted({record.run_id for record in records}):
            store.end(run_id)


if __name__ == "__main__":
    write(ASSETS / f"records-v{SCHEMA_VERSION}.db")
