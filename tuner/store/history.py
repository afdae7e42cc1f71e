"""The history of nights: tables of their own beside the records, in the same database. Rows are only added.

What is read here is what reports and sites are made from; `docs/nightly.md` describes it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from tuner.errors import StoreError
from tuner.nights import Acceptance, CellNight, Night
from tuner.store import engine as engines
from tuner.store import rows

VERSION = 1
FORMAT = "tuner-history/1"
"""Of the first line of an export."""

_metadata = sa.MetaData()
_KEY = sa.String(255)
_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_versions = sa.Table(
    "history_version", _metadata, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False)
)
_nights = sa.Table(
    "nights",
    _metadata,
    sa.Column("number", _ID, primary_key=True),
    sa.Column("id", _KEY, nullable=False, unique=True),
    sa.Column("content", sa.Text, nullable=False),  # JSON of a Night, as it began
)
_ends = sa.Table(
    "night_ends",
    _metadata,
    sa.Column("night", _KEY, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),  # JSON: ended_at, notes
)
_cells = sa.Table(
    "night_cells",
    _metadata,
    sa.Column("number", _ID, primary_key=True),
    sa.Column("night", _KEY, nullable=False),
    sa.Column("cell", _KEY, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),  # JSON of a CellNight
    sa.Column("samples", sa.Text, nullable=False),  # JSON: by entry and round
    sa.UniqueConstraint("night", "cell", name="one_result_of_a_cell_a_night"),
    sa.Index("night_cells_by_cell", "cell"),
)
_acceptances = sa.Table(
    "acceptances",
    _metadata,
    sa.Column("number", _ID, primary_key=True),
    sa.Column("cell", _KEY, nullable=False),
    sa.Column("content", sa.Text, nullable=False),  # JSON of an Acceptance
)
TABLES = (_versions, _nights, _ends, _cells, _acceptances)


class History:
    """The nights in the database at a SQLAlchemy URL, the one of the records. Its tables are made where there are none;
    with `reading` nothing is made or written, and a file that cannot be written will do.

    What was added survives the death of this process and a power cut. `damaged` counts the rows read so far that could
    not be understood; they are skipped. Every method raises StoreError, naming the URL without its password, when the
    database fails, and DamagedStore when the file of a SQLite database is damaged.
    """

    def __init__(self, url: str, *, reading: bool = False) -> None:
        parsed, self._engine, self._writer = engines.make(url, reading=reading)
        self.url = url
        self.shown = parsed.render_as_string(hide_password=True)
        self._damaged: set[tuple[str, object]] = set()
        file = engines.file_of(parsed)
        try:
            with self._failures_named():
                if not reading:
                    if file is not None:
                        file.parent.mkdir(parents=True, exist_ok=True)
                    self._make()
                self._require_version()
        except StoreError:
            self.close()
            raise

    @staticmethod
    def is_in(url: str) -> bool:
        """Whether the database at a URL has a history; nothing is made. Raises StoreError."""
        parsed, engine, _ = engines.make(url, reading=True)
        file = engines.file_of(parsed)
        if file is not None and not file.exists():
            return False
        try:
            return sa.inspect(engine).has_table(_versions.name)
        except (SQLAlchemyError, OSError) as error:
            raise engines.store_error(parsed.render_as_string(hide_password=True), error) from error
        finally:
            engine.dispose()

    @property
    def damaged(self) -> int:
        return len(self._damaged)

    # --- adding ---------------------------------------------------------------------------------------

    def begin(self, night: Night) -> Night:
        """Store a night that begins; returns it with its number. Raises StoreError where its id is taken."""
        self._insert(_nights, {"id": night.id, "content": _json(night.to_json())}, f"night {night.id}")
        with self._reading() as connection:
            number = connection.scalar(sa.select(_nights.c.number).where(_nights.c.id == night.id))
        return dataclasses.replace(night, number=int(number or 0))

    def add(self, result: CellNight) -> None:
        """Store a cell's night, whole or not at all. Raises StoreError where the night has this cell already."""
        samples = {name: list(rounds.items()) for name, rounds in result.samples.items()}
        row = {
            "night": result.night, "cell": result.cell.id, "device": result.cell.device,
            "content": _json(result.to_json()), "samples": _json(samples),
        }  # fmt: skip
        self._insert(_cells, row, f"{result.cell.name} in night {result.night}")

    def end(self, night: str, ended_at: str, notes: Sequence[str] = ()) -> None:
        """Note that a night has done all it was going to."""
        content = _json({"ended_at": ended_at, "notes": list(notes)})
        self._insert(_ends, {"night": night, "content": content}, f"the end of night {night}")

    def accept(self, acceptance: Acceptance) -> None:
        """Store that a person accepted a change."""
        row = {"cell": acceptance.cell, "content": _json(acceptance.to_json())}
        self._insert(_acceptances, row, f"acceptance of {acceptance.cell}")

    # --- reading --------------------------------------------------------------------------------------

    def nights(self) -> list[Night]:
        """All nights, in the order in which they were begun."""
        with self._reading() as connection:
            ends = {row["night"]: row["content"] for row in connection.execute(_raw(_ends)).mappings()}
            stored = connection.execute(_raw(_nights).order_by(_nights.c.number)).mappings().all()
        found = []
        for row in stored:
            with self._row(_nights.name, row["number"]):
                end = json.loads(ends[row["id"]]) if row["id"] in ends else {}
                data = json.loads(row["content"]) | {"number": row["number"]} | end
                found.append(Night.from_json(data))
        return found

    def results(self, cell: str | None = None, night: str | None = None, device: str | None = None) -> list[CellNight]:
        """The cells' nights that match everything given, in the order of the nights, without samples."""
        return list(self.stream(cell, night, device))

    def stream(
        self, cell: str | None = None, night: str | None = None, device: str | None = None
    ) -> Iterator[CellNight]:
        """As `results`, one at a time: a long history need not fit into memory."""
        columns = [sa.type_coerce(_cells.c[name], sa.types.NullType()).label(name) for name in ("number", "content")]
        query = sa.select(*columns).join(_nights, _nights.c.id == _cells.c.night, isouter=True)
        for name, value in {"cell": cell, "night": night, "device": device}.items():
            if value is not None:
                query = query.where(_cells.c[name] == value)
        with self._reading() as connection:
            for row in connection.execute(query.order_by(_nights.c.number, _cells.c.number)).mappings():
                with self._row(_cells.name, row["number"]):
                    yield CellNight.from_json(json.loads(row["content"]))

    def latest(self, cell: str) -> CellNight | None:
        """What was stored of a cell last; None where nothing was, or nothing that can be understood."""
        query = _raw(_cells).where(_cells.c.cell == cell).order_by(_cells.c.number.desc()).limit(1)
        with self._reading() as connection:
            row = connection.execute(query).mappings().first()
        found = None
        if row is not None:
            with self._row(_cells.name, row["number"]):
                found = CellNight.from_json(json.loads(row["content"]))
        return found

    def cells(self) -> list[tuple[str, str]]:
        """The ids of all cells, each with the name it had last, in the order in which they first came."""
        query = sa.select(_cells.c.cell).group_by(_cells.c.cell).order_by(sa.func.min(_cells.c.number))
        with self._reading() as connection:
            ids = list(connection.scalars(query))
        found = ((cell, self.latest(cell)) for cell in ids)
        return [(cell, last.cell.name) for cell, last in found if last is not None]

    def samples(self, cell: str, night: str) -> dict[str, dict[int, float]]:
        """The paired blocks of a cell's night: seconds by entry and round. Empty where there are none."""
        query = _raw(_cells).where(_cells.c.cell == cell).where(_cells.c.night == night)
        with self._reading() as connection:
            row = connection.execute(query).mappings().first()
        found: dict[str, dict[int, float]] = {}
        if row is not None:
            with self._row(_cells.name, row["number"]):
                stored = json.loads(row["samples"]).items()
                found = {name: {int(r): float(s) for r, s in rounds} for name, rounds in stored}
        return found

    def acceptances(self, cell: str | None = None) -> list[Acceptance]:
        """What was accepted, in order."""
        query = _raw(_acceptances).order_by(_acceptances.c.number)
        if cell is not None:
            query = query.where(_acceptances.c.cell == cell)
        found = []
        with self._reading() as connection:
            for row in connection.execute(query).mappings():
                with self._row(_acceptances.name, row["number"]):
                    found.append(Acceptance.from_json(json.loads(row["content"])))
        return found

    # --- export and import ----------------------------------------------------------------------------

    def export(self) -> Iterator[str]:
        """The whole history as lines of JSON: the first names the format, each other one is a thing that was added."""
        yield _json({"format": FORMAT})
        for night in self.nights():
            yield _json({"night": night.to_json()})
            for result in self.results(night=night.id):
                samples = {n: list(r.items()) for n, r in self.samples(result.cell.id, night.id).items()}
                yield _json({"cell": result.to_json(), "samples": samples})
        for acceptance in self.acceptances():
            yield _json({"accepted": acceptance.to_json()})

    def import_lines(self, lines: Iterable[str]) -> tuple[int, int]:
        """Add what `export` wrote and is not here yet. Returns how many things were added, and how many lines could not
        be understood; a torn last line is one of them. Raises ValueError where the first line is not of this format."""
        present = {night.id for night in self.nights()}
        known = {(result.night, result.cell.id) for result in self.stream()}
        accepted = {_json(a.to_json()) for a in self.acceptances()}
        ended = {night.id for night in self.nights() if night.ended_at}
        added = bad = 0
        for number, line in enumerate(lines):
            try:
                data = json.loads(line)
                if number == 0:
                    if not isinstance(data, dict) or data.get("format") != FORMAT:
                        raise _OtherFormat
                elif "night" in data:
                    night = Night.from_json(data["night"])
                    if night.id not in present:
                        present.add(self.begin(_unended(night)).id)
                        added += 1
                    if night.ended_at and night.id not in ended:
                        ended.add(night.id)
                        self.end(night.id, night.ended_at, night.notes)
                elif "cell" in data:
                    samples = {name: {int(r): float(s) for r, s in rounds} for name, rounds in data["samples"].items()}
                    result = CellNight.from_json(data["cell"])
                    if (result.night, result.cell.id) not in known:
                        known.add((result.night, result.cell.id))
                        self.add(_with_samples(result, samples))
                        added += 1
                else:
                    acceptance = Acceptance.from_json(data["accepted"])
                    if _json(acceptance.to_json()) not in accepted:
                        self.accept(acceptance)
                        added += 1
            except rows.DAMAGE:
                if number == 0:
                    raise _OtherFormat from None
                bad += 1
        return added, bad

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # --- the database ---------------------------------------------------------------------------------

    def _make(self) -> None:
        """Make the tables where there are none."""
        if self._stored_version() is None:
            for left in reversed(range(5)):  # two processes may make the same tables at the same moment
                try:
                    with self._writer.begin() as connection:
                        for table in TABLES:
                            table.create(connection, checkfirst=True)
                        connection.execute(sa.insert(_versions), {"version": VERSION})
                    break
                except DBAPIError:
                    if self._stored_version() is not None:
                        break
                    if not left:
                        raise
                    time.sleep(0.1)

    def _require_version(self) -> None:
        if (stored := self._stored_version()) != VERSION:
            raise StoreError(
                f"database {self.shown}: its history is of version {stored}, this program knows version {VERSION}",
                "update this program, or choose another database",
            )

    def _stored_version(self) -> object:
        with self._engine.connect() as connection:
            if not sa.inspect(connection).has_table(_versions.name):
                return None
            return connection.scalar(sa.select(sa.type_coerce(_versions.c.version, sa.types.NullType())))

    def _insert(self, table: sa.Table, row: Mapping[str, Any], what: str) -> None:
        with self._failures_named():
            for value in row.values():
                rows.refuse_nul(table.name, value)
            try:
                with self._writer.begin() as connection:
                    connection.execute(sa.insert(table), dict(row))
            except IntegrityError as error:
                raise StoreError(f"database {self.shown}: {what} is stored already") from error

    def insert_raw(self, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """Insert a row as it was stored elsewhere; False where that cannot be done."""
        try:
            with self._writer.begin() as connection:
                connection.execute(sa.insert(table), dict(row))
        except SQLAlchemyError:
            return False
        return True

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._failures_named(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _row(self, table: str, number: object) -> Iterator[None]:
        """For decoding one row: damage in it is counted, and the row skipped."""
        try:
            yield
        except rows.DAMAGE:
            self._damaged.add((table, number))

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError, OverflowError, ValueError) as error:
            if isinstance(error, _OtherFormat):
                raise
            raise engines.store_error(self.shown, error) from error


class _OtherFormat(ValueError):
    """The lines are no history."""

    def __init__(self) -> None:
        super().__init__(f"the first line is not that of a history in the format {FORMAT}")


def restore(url: str, readable: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[int, int] | None:
    """Put rows that were read from a damaged database, by table, into the history at `url`; returns how many nights
    there are, and results of cells.

    Without a version there was no history: none is made, and None returned. A row that does not fit is left out.
    """
    if not readable.get(_versions.name):
        return None
    with History(url) as history:
        for table in TABLES[1:]:
            for row in readable.get(table.name, ()):
                history.insert_raw(table, {column.name: row.get(column.name) for column in table.columns})
        return len(history.nights()), len(history.results())


def _raw(table: sa.Table) -> sa.Select[*tuple[Any, ...]]:
    return sa.select(*(sa.type_coerce(column, sa.types.NullType()).label(column.name) for column in table.columns))


def _json(data: object) -> str:
    return json.dumps(data, allow_nan=False, separators=(",", ":"))


def _unended(night: Night) -> Night:
    return Night.from_json(night.to_json() | {"ended_at": ""})


def _with_samples(result: CellNight, samples: Mapping[str, Mapping[int, float]]) -> CellNight:
    return dataclasses.replace(result, samples=samples)
