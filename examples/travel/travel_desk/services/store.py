"""The services' SQLite database.

One thread uses it (the event loop's), and a transaction never spans an `await`: requests are carried out
one after another, and `BEGIN IMMEDIATE` keeps that true even against a second process on the same file.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path


class Store:
    """Two connections to one database: `_durable` syncs every commit to disk, `_quick` does not.

    Reads are logged through `_quick`: such a row survives the death of this process, though not of the machine.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "travel.sqlite3"
        self._durable = _connect(path, synchronous="FULL")
        self._quick = _connect(path, synchronous="NORMAL")
        self._durable.executescript(files(__package__).joinpath("schema.sql").read_text(encoding="utf-8"))

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Commit on leaving, roll back on any exception."""
        connection = self._durable if durable else self._quick
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def close(self) -> None:
        self._quick.close()
        self._durable.close()


def _connect(path: Path, *, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
