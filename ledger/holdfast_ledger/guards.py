"""What keeps anybody from editing the record: triggers, functions, privileges, read from the database's catalogue.

Whoever is superuser can take a guard away, edit, and put it back: then the chains and checkpoints tell.
"""

from __future__ import annotations

import asyncpg

from holdfast_ledger import schema_versions
from holdfast_ledger.database import Rows

_ROW_GUARDS = {"entries_stay", "rows_stay"}
_TABLE_GUARDS = {"entries_are_not_truncated", "rows_are_not_truncated"}


async def weakness_of(rows: Rows) -> tuple[str | None, int]:
    """The first guard that is missing, in words, and how many were looked at.

    The triggers refuse in every mode, the functions are this version's, and no role may do more than read.
    """
    tables = await rows("guarded_tables")
    functions = await rows("function_sources")
    powers = await rows("powers")
    problem = _weak_table(tables) or _foreign_function(functions) or _power(powers)
    return problem, len(tables) + len(functions)


def _weak_table(tables: list[asyncpg.Record]) -> str | None:
    for row in tables:
        guards = set(row["guards"])
        if not guards & _ROW_GUARDS:
            return f"the trigger of `{row['name']}` that refuses UPDATE and DELETE is gone, disabled or replaced"
        if not guards & _TABLE_GUARDS:
            return f"the trigger of `{row['name']}` that refuses TRUNCATE is gone, disabled or replaced"
    return None


def _foreign_function(functions: list[asyncpg.Record]) -> str | None:
    ours = "".join(migration.sql for migration in schema_versions.migrations())
    return next(
        (f"the function `{row['name']}` was replaced" for row in functions if row["source"] not in ours), None
    )


def _power(powers: list[asyncpg.Record]) -> str | None:
    return next((f"the role `{row['role']}` may {row['power']}: `{row['name']}`" for row in powers), None)
