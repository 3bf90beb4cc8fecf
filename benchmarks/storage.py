"""What Postgres keeps and writes: the size of the database, and of the log written ahead of it."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

WRITTEN = """
SELECT pg_database_size(current_database()) AS kept, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS logged
"""


@dataclass(frozen=True)
class Written:
    """Bytes. `kept`: tables and indexes on disk. `logged`: of the write-ahead log, since the server was made."""

    kept: int
    logged: int

    def since(self, earlier: Written) -> Written:
        return Written(self.kept - earlier.kept, self.logged - earlier.logged)


async def written(dsn: str) -> Written:
    connection = await asyncpg.connect(dsn)
    try:
        row = await connection.fetchrow(WRITTEN)
    finally:
        await connection.close()
    assert row is not None
    return Written(int(row["kept"]), int(row["logged"]))
