"""One writer of nights at a time: two nights on one history would time each other, and judge half of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from tuner.errors import OutputError
from tuner.files import locked
from tuner.store import engine as engines

_KEY = 0x74756E6572
"""Of PostgreSQL's advisory lock; it is of one database of the server."""


@contextmanager
def held(url: str, doing: str) -> Iterator[None]:
    """Hold the history in the database at `url` alone, until the end or the death of this process.

    `doing` names what goes on, in the message for who comes second. Raises OutputError, StoreError. Of a database that
    is neither SQLite nor PostgreSQL, nothing is held.
    """
    parsed, engine, _ = engines.make(url)
    shown = parsed.render_as_string(hide_password=True)
    file = engines.file_of(parsed)
    if file is not None:
        engine.dispose()
        with locked(file.with_name(f".{file.name}.nights"), doing, of=f"database {shown}", passing=True):
            yield
    elif engine.dialect.name == "postgresql":
        with _connected(engine, shown) as connection:
            _take(connection, doing, shown)
            yield
    else:
        yield


@contextmanager
def _connected(engine: sa.Engine, shown: str) -> Iterator[sa.Connection]:
    """A connection that lasts; the server drops its lock where it ends."""
    try:
        connection = engine.connect()
    except SQLAlchemyError as error:
        raise engines.store_error(shown, error) from error
    try:
        yield connection
    finally:
        connection.invalidate()
        connection.close()
        engine.dispose()


def _take(connection: sa.Connection, doing: str, shown: str) -> None:
    try:
        taken = connection.scalar(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY})
        connection.commit()
    except SQLAlchemyError as error:
        raise engines.store_error(shown, error) from error
    if not taken:
        raise OutputError(
            f"database {shown}: {doing} in it already",
            "wait for it, end it, or choose another one: two at once would disturb each other",
        )
