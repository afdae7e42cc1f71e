"""`import`: bring measurements of another machine into the record database."""

from __future__ import annotations

import dataclasses
from collections import Counter
from contextlib import closing
from pathlib import Path

from tuner.devices import resolve
from tuner.progress import Progress
from tuner.records import Record


def import_measurements(measurements: Path, database: str, progress: Progress) -> list[str]:
    """Bring what `measure` wrote into the record database. Returns lines for the terminal, which name what is missing
    in a file that is not whole.

    A measurement that is there already is not added again.

    Raises BundleError for a file that is damaged, TargetError for one of a kind of device that is not known.
    """
    from kernels.space import Candidate
    from tuner.bundle.measurements import read_measurements, what_is_missing
    from tuner.store import SqlStore

    progress.phase(f"reading {measurements}")
    header, rows = read_measurements(measurements, Candidate.from_text)
    kind = resolve.kind_of_text(header.target)
    run_id = f"bundle-{header.bundle_sha256[:12]}"
    with closing(SqlStore(database)) as store:
        known = {(r.task_key, r.candidate, r.measurement.fidelity, r.scope) for r in store.read(run_id=run_id)}
        new: list[Record] = []
        for row in rows:
            scope = kind.scope(header.target, row.device, 0, header.mode)
            conditions = dataclasses.replace(row.measurement.conditions, device=row.device)
            record = Record(
                run_id=run_id, task_key=row.task, task_name=row.task_name, scope=scope, trial=len(known) + 1,
                candidate=row.candidate, proposer=row.proposer, seed=row.seed, created_at=row.created_at,
                measurement=dataclasses.replace(row.measurement, conditions=conditions),
            )  # fmt: skip
            key = (record.task_key, record.candidate, record.measurement.fidelity, record.scope)
            if key not in known:
                known.add(key)
                new.append(record)
        store.append(new)
    statuses = Counter(str(record.measurement.status) for record in new)
    counts = ", ".join(f"{n} {status}" for status, n in statuses.most_common()) or "nothing new"
    devices = ", ".join(sorted({row.device for row in rows}))
    said = dict.fromkeys(s for row in rows for s in kind.caveats(row.device).kernel.sentences)
    line = f"imported {len(new)} of {len(rows)} measurements on {devices or 'no device'} into {database}: {counts}"
    return [line, *said, *what_is_missing(measurements, header, rows)]
