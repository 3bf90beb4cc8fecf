"""Bringing a database to this code's schema, with the DSN of a login that may create it.

Each migration is one transaction under one advisory lock, so that two migrations at once are safe and one that
fails leaves the schema as it was. Nothing needs a superuser.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from holdfast_ledger import schema_versions
from holdfast_ledger.database import CONNECT_WITHIN_S, named_sql, server_name
from holdfast_ledger.errors import LedgerError, LedgerUnavailable, MigrationRefused, translated
from holdfast_ledger.schema_versions import Migration

MONTHS_AHEAD = 12
"""How far ahead the ledger's monthly partitions are made; later entries go to the default partition."""


@dataclass(frozen=True, kw_only=True)
class MigrationReport:
    """What a run of `migrate` changed; empty tuples where there was nothing to do."""

    version: int
    applied: tuple[str, ...]
    partitions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SchemaStatus:
    """`version` 0 is a database without the ledger. `edited`: applied files whose text has changed since."""

    where: str
    version: int
    wanted: int
    pending: tuple[str, ...]
    edited: tuple[str, ...]
    cluster_id: str | None
    namespace: str | None

    @property
    def current(self) -> bool:
        return not self.pending and not self.edited and self.version == self.wanted


async def migrate(dsn: str, *, on_progress: Callable[[str], None] | None = None) -> MigrationReport:
    """Apply what is missing and make the next months' partitions.

    Safe to run again, twice at once, and on a live database. Raises `LedgerUnavailable`, `MigrationRefused`.
    """
    tell = on_progress or (lambda _: None)
    done: list[str] = []
    async with _connected(dsn) as connection:
        while (migration := await _apply_next(connection)) is not None:
            done.append(_title(migration))
            tell(f"applied {_title(migration)}")
        async with connection.transaction():
            await connection.execute(named_sql()["lock_migrations"])
            await connection.execute(named_sql()["become_owner"])
            made = await connection.fetch(named_sql()["make_partitions"], MONTHS_AHEAD)
        version = await connection.fetchval(named_sql()["schema_version"])
    return MigrationReport(version=version, applied=tuple(done), partitions=tuple(row[0] for row in made))


async def status(dsn: str) -> SchemaStatus:
    """How far the database is. Raises `LedgerUnavailable`."""
    async with _connected(dsn) as connection:
        applied: list[Any] = []
        bound: asyncpg.Record | None = None
        if await connection.fetchval(named_sql()["has_schema"]):
            applied = await connection.fetch(named_sql()["schema_versions"])
        if applied:
            bound = await connection.fetchrow(named_sql()["bound"])
    digests = {row["version"]: row["digest"] for row in applied}
    carried = schema_versions.migrations()
    return SchemaStatus(
        where=server_name(dsn),
        version=max(digests, default=0),
        wanted=carried[-1].version,
        pending=tuple(_title(each) for each in carried if each.version not in digests),
        edited=tuple(_title(each) for each in carried if digests.get(each.version, each.digest) != each.digest),
        cluster_id=bound["cluster_id"] if bound else None,
        namespace=bound["namespace"] if bound else None,
    )


def sql() -> str:
    """All of it for a database administrator to read and run once with psql, on an empty database."""
    parts = ["BEGIN;", schema_versions.bootstrap()]
    for migration in schema_versions.migrations():
        parts += [migration.sql, _written_out("note_applied", *_note(migration))]
    parts += [_written_out("make_partitions", MONTHS_AHEAD), "COMMIT;\n"]
    return "\n".join(parts)


def _written_out(name: str, *arguments: str | int) -> str:
    """The named statement with its parameters in place; they are numbers and names of this code's own."""
    text = named_sql()[name]
    for number, argument in enumerate(arguments, start=1):
        text = text.replace(f"${number}", f"'{argument}'" if isinstance(argument, str) else str(argument))
    return f"{text};\n"


async def _apply_next(connection: asyncpg.Connection) -> Migration | None:
    """Apply the first migration that is missing, if any, in one transaction."""
    async with connection.transaction():
        await connection.execute(named_sql()["lock_migrations"])
        await connection.execute(schema_versions.bootstrap())
        applied = {row["version"]: row["digest"] for row in await connection.fetch(named_sql()["schema_versions"])}
        for migration in schema_versions.migrations():
            if migration.version not in applied:
                await connection.execute(migration.sql)
                await connection.execute(named_sql()["note_applied"], *_note(migration))
                return migration
            if applied[migration.version] != migration.digest:
                raise MigrationRefused(
                    f"Migration {_title(migration)} was applied with another text than this code carries; the "
                    "database was made by another build of Holdfast. Nothing was changed."
                )
    return None


def _note(migration: Migration) -> tuple[int, str, str, int]:
    return migration.version, migration.name, migration.digest, migration.compatible_from


def _title(migration: Migration) -> str:
    return f"{migration.version:04}_{migration.name}"


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    where = server_name(dsn)
    try:
        with translated(where):
            connection = await asyncpg.connect(dsn, timeout=CONNECT_WITHIN_S)
            try:
                yield connection
            finally:
                await connection.close(timeout=CONNECT_WITHIN_S)
    except (LedgerUnavailable, MigrationRefused):
        raise
    except LedgerError as error:
        raise MigrationRefused(f"{error} Nothing was changed by the step that failed.") from error
